"""Road centre-lines from a class map."""

import logging
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe.allocator import trim_malloc
from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError
from geopipe.raster.cog import read_scheme
from geopipe.raster.credit import credit_of
from geopipe.raster.scene import opened
from geopipe.vectors.class_map import class_id_of, pixel_size, scores_beside
from geopipe.vectors.clean import (
    drop_specks,
    extend_ends,
    merge_junctions,
    prune_spurs,
    straighten_junctions,
)
from geopipe.vectors.gaps import bridge_gaps, mean_probability
from geopipe.vectors.graph import graph_of
from geopipe.vectors.probability import open_probability
from geopipe.vectors.skeleton import BLOCK, skeletonize
from geopipe.vectors.smoothing import smoothed

log = logging.getLogger(__name__)

ROAD = "road"
"""The class whose centre-lines are looked for."""


@dataclass(frozen=True, slots=True)
class RoadOptions:
    """What counts as a road, in metres on the ground."""

    class_name: str = ROAD
    max_gap: float = 20.0
    """Longest gap that is bridged where the probability allows it; half of it where unknown."""
    min_score: float = 0.2
    """Mean probability of road that a gap must have."""
    min_length: float = 20.0
    """Connected roads shorter than this together are left out."""
    max_width: float = 40.0
    """What is wider in both directions (car parks, squares) has no centre-line."""
    tolerance: float | None = None
    """How far smoothing may move a line; None: 0.75 px + 0.5 m."""

    def __post_init__(self) -> None:
        for name in ("max_gap", "min_score", "min_length", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value:g}", "give a number that is not negative")
        if not (math.isfinite(self.max_width) and 2 <= self.max_width <= 200):
            raise ConfigError(f"max_width is {self.max_width:g} m", "give 2 to 200 metres")


@dataclass(frozen=True, eq=False)
class RoadNetwork:
    """A graph of roads (see `graph`) on the pixels of a map; lines are smoothed."""

    graph: nx.MultiGraph
    geobox: GeoBox
    gsd: tuple[float, float]
    """Metres on the ground per pixel, down and across."""
    class_name: str
    color: str
    source: str
    """Name of the map's file."""
    model_sha256: str | None
    """Of the model that made the map, where the map says so."""
    bridged: int
    """Gaps that were bridged."""
    credit: str = ""
    """Whom the map says to name."""

    @property
    def crs(self) -> CRS:
        """The CRS of the map."""
        assert self.geobox.crs is not None  # `find_roads` refuses a map without
        return self.geobox.crs.proj

    def to_crs(self, xy: np.ndarray) -> np.ndarray:
        """Coordinates (n, 2) of the graph in the CRS of the map."""
        a, b, c, d, e, f, *_ = self.geobox.affine
        col, row = (xy / (self.gsd[1], self.gsd[0])).T
        return np.column_stack([c + col * a + row * b, f + col * d + row * e])


def find_roads(
    class_map: Path,
    scores: Path | None = None,
    options: RoadOptions | None = None,
    *,
    scheme: ClassScheme | None = None,
    block: int = BLOCK,
) -> RoadNetwork:
    """The road network of `class_map`, one band of class ids.

    `scores`: ``scores.tif`` or ``confidence.tif`` of the same pixels; by default the one beside the
    map. `scheme`: by default the names in the map. `block`: pixels a side of what is held in memory
    at once; it does not change the result. A map without roads gives an empty network and a
    warning.

    Raises ConfigError where no class has the name of the roads, and SceneError where the map
    cannot be read, has no CRS, is sheared, or `scores` does not fit.
    """
    options = options or RoadOptions()
    with ExitStack() as stack:
        src = stack.enter_context(opened(class_map))
        scheme = scheme or read_scheme(class_map)
        gsd = pixel_size(src)
        class_id = class_id_of(src, scheme, options.class_name)
        probability = None
        if result := scores or scores_beside(class_map):
            probability = stack.enter_context(
                open_probability(result, src, options.class_name, class_id)
            )
        skeleton = skeletonize(src, class_id, gsd, options.max_width, probability, block)
        trim_malloc()  # of the blocks
        graph = graph_of(skeleton, src.width, gsd)
        prune_spurs(graph)
        merge_junctions(graph)
        prune_spurs(graph)
        straighten_junctions(graph)
        extend_ends(graph, (src.width * gsd[1], src.height * gsd[0]))
        mean = mean_probability(probability, gsd) if probability else None
        bridged = bridge_gaps(graph, options.max_gap, options.min_score, mean)
        specks = drop_specks(graph, options.min_length)
        _smooth(graph, options.tolerance, min(gsd))
        _warn(class_map.name, options, skeleton.road_px, skeleton.wide_px, len(graph.edges), specks)
        color = scheme.classes[class_id].color if scheme else "#3c4a5c"
        return RoadNetwork(
            graph,
            GeoBox(src.shape, src.transform, src.crs),
            gsd,
            options.class_name,
            color,
            class_map.name,
            src.tags().get("model_sha256"),
            bridged,
            credit_of(src).get("credit", ""),
        )


def _smooth(graph: nx.MultiGraph, tolerance: float | None, pixel: float) -> None:
    tolerance = 0.75 * pixel + 0.5 if tolerance is None else tolerance
    for u, v, data in graph.edges(data=True):
        closed = u == v and graph.degree(u) == 2
        data["shape"] = smoothed(data["line"].xy, pixel, tolerance, closed=closed)


def _warn(
    name: str, options: RoadOptions, road_px: int, wide_px: int, lines: int, specks: int
) -> None:
    wide = 100 * wide_px / max(road_px, 1)
    if wide >= 1:
        log.warning(
            "%.0f %% of the pixels of '%s' in %s lie in areas more than %g m wide and long, which "
            "have no centre-line",
            wide,
            options.class_name,
            name,
            options.max_width,
        )
    if lines:
        return
    if not road_px:
        log.warning("%s has no pixel of class '%s': no lines", name, options.class_name)
    elif wide < 100:
        log.warning(
            "%s has %d pixels of class '%s', but no road of %g m: no lines (%d shorter left out)",
            name,
            road_px,
            options.class_name,
            options.min_length,
            specks,
        )
