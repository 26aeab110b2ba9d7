"""Building footprints from a class map: separate objects with drawn outlines."""

import logging
import math
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import shapely
from geopandas import GeoDataFrame

from geopipe.allocator import trim_malloc
from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError
from geopipe.raster.cog import read_scheme
from geopipe.raster.polygons import equal_area_projection, ground_areas, to_crs
from geopipe.raster.scene import opened
from geopipe.vectors.areas import Instance, instances_of
from geopipe.vectors.class_map import class_id_of, pixel_size, scores_beside
from geopipe.vectors.instances import SplitOptions
from geopipe.vectors.overlaps import resolve_overlaps
from geopipe.vectors.polygon_file import PolygonFile
from geopipe.vectors.probability import open_cores, open_probability
from geopipe.vectors.regularize import RegularizeOptions, iou, regularized

log = logging.getLogger(__name__)

BUILDING = "building"
"""The class whose footprints are looked for."""
_DETAIL_M = 0.45
"""Finer pixels are regularized as if they were so large: what they draw is the network's noise."""
_BATCH = 10_000
"""Footprints of a table."""
_TRIM = 2000
"""Footprints after which the memory that their making left scattered is given back."""
_WHOLE_SCENE = 0.5
"""Share of the map from which on one object is no building."""


@dataclass(frozen=True, slots=True)
class FootprintOptions:
    """What counts as a building, and how its outline is drawn."""

    class_name: str = BUILDING
    min_area: float = 10.0
    """Square metres; smaller objects are left out, smaller courtyards filled."""
    max_shift: float | None = None
    """Metres: largest distance between an outline and the pixels it is drawn from (Hausdorff).
    None: 1 px + 1.5 m."""
    orthogonalize: bool = True
    """Give outlines right angles where the raster has them."""
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min_area) and self.min_area >= 0):
            raise ConfigError(f"min_area is {self.min_area:g}", "give square metres, 0 or more")
        if self.max_shift is not None and not (
            math.isfinite(self.max_shift) and self.max_shift >= 0
        ):
            raise ConfigError(f"max_shift is {self.max_shift:g}", "give metres, 0 or more")

    def tolerances(self, pixel: float) -> tuple[float, float]:
        """Metres: the largest shift of an outline, and the smallest detail, for pixels of a map."""
        shift = pixel + 1.5 if self.max_shift is None else self.max_shift
        return shift, max(pixel, min(_DETAIL_M, shift * 2 / 3))


def find_footprints(
    class_map: Path,
    scores: Path | None = None,
    options: FootprintOptions | None = None,
    *,
    cores: Path | None = None,
    scheme: ClassScheme | None = None,
    window_size: int | None = None,
) -> GeoDataFrame:
    """The buildings of `class_map`, one band of class ids, as a table of polygons in its CRS.

    Buildings that touch are told apart where the area has a neck, or the probability a dip: that
    of cores, if there is one (`split_instances`). Outlines are regularized (`regularized`), do not
    overlap, and share the walls that the buildings share. The table takes about 1 kB of memory a
    building; `footprint_tables` gives it in parts.

    Args:
        class_map: The map.
        scores: ``scores.tif`` or ``confidence.tif`` of the same pixels; by default the one beside
            the map. Without any, only the shape tells buildings apart, and their probability is
            unknown.
        options: What counts as a building.
        cores: One band of the same pixels, 0..250: the probability of the core of a building, of
            a model that scores it.
        scheme: By default the names in the map.
        window_size: Pixels a side of what is read at once; does not change the result.

    Returns:
        One row per building, from north to south along the first pixels: ``building_id`` (from 1),
        ``class_id``, ``class``, ``area_m2`` (on the ground), ``mean_score`` and ``score_q10``
        (probability of its pixels, mean and 10 % quantile; NaN where unknown), ``shape_score``
        (IoU of the outline with its pixels), ``source`` and ``model_sha256``. Without buildings
        the table is empty, and a warning says so.

    Raises:
        ConfigError: No class has the name of the buildings.
        SceneError: The map cannot be read, has no CRS or is sheared, or `scores` or `cores` do
            not fit it.
        OutputError: The folder of temporary files is full.
    """
    tables = footprint_tables(
        class_map, scores, options, cores=cores, scheme=scheme, window_size=window_size
    )
    first, *others = tables
    return pd.concat([first, *others], ignore_index=True) if others else first


def footprint_tables(
    class_map: Path,
    scores: Path | None = None,
    options: FootprintOptions | None = None,
    *,
    cores: Path | None = None,
    scheme: ClassScheme | None = None,
    window_size: int | None = None,
) -> Iterator[GeoDataFrame]:
    """As `find_footprints`, in tables of at most _BATCH rows; without buildings one empty table.

    Outlines wait in temporary files. Memory holds one table, one window, one connected area of at
    most `areas.MAX_SIDE` pixels a side or one group of overlapping footprints, and 250 bytes a
    building. Raises OutputError where the folder of temporary files is full.
    """
    options = options or FootprintOptions()
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env())  # else each area makes its own, for 1 ms
        src = stack.enter_context(opened(class_map))
        scheme = scheme or read_scheme(class_map)
        gsd = pixel_size(src)
        class_id = class_id_of(src, scheme, options.class_name)
        assert scheme is not None
        probability = None
        if score_file := scores or scores_beside(class_map):
            probability = stack.enter_context(
                open_probability(score_file, src, options.class_name, class_id)
            )
        core_probability = stack.enter_context(open_cores(cores, src)) if cores else None
        groups = instances_of(
            src,
            class_id,
            len(scheme),
            gsd,
            options.min_area,
            probability,
            options.split,
            cores=core_probability,
            window_size=window_size,
        )
        outlines, drawn = (stack.enter_context(PolygonFile()) for _ in range(2))
        figures = _outlined(groups, gsd, options, outlines, drawn)
        count, largest = 0, 0.0
        for table in _tables(src, gsd, figures, outlines, drawn, options):
            n = len(table)
            table.insert(0, "building_id", np.arange(count + 1, count + n + 1, dtype=np.int32))
            table.insert(1, "class_id", np.full(n, class_id, np.int32))
            table.insert(2, "class", np.full(n, options.class_name, object))
            table["source"] = np.full(n, class_map.name, object)
            table["model_sha256"] = np.full(n, src.tags().get("model_sha256"), object)
            count, largest = count + n, max(largest, float(table["area_m2"].max()) if n else 0.0)
            yield table
        _warn(src, options, count, largest, math.prod(gsd))


def _outlined(
    groups: Iterable[list[Instance]],
    gsd: tuple[float, float],
    options: FootprintOptions,
    outlines: PolygonFile,
    drawn: PolygonFile,
) -> np.ndarray:
    """Fill in outlines in metres from the corner of the map, and these drawn; (n, 2) scores.

    Scores: mean and 10 % quantile of the probability.
    """
    scores = array("d")
    shift, detail = options.tolerances(max(gsd))
    how = RegularizeOptions(shift, options.orthogonalize)
    for group in groups:
        if not group:
            continue
        traced = _filled(_scaled(group, gsd), options.min_area)
        for one in group:
            scores.extend((one.mean, one.q10))
        outlines.add(traced)
        drawn.add(regularized(traced, detail, how))
        if len(outlines) // _TRIM > (len(outlines) - len(group)) // _TRIM:
            trim_malloc()
    return np.array(scores).reshape(-1, 2)


def _tables(
    src: rasterio.DatasetReader,
    gsd: tuple[float, float],
    scores: np.ndarray,
    outlines: PolygonFile,
    drawn: PolygonFile,
    options: FootprintOptions,
) -> Iterator[GeoDataFrame]:
    """From north to south along the first pixels; boxes may begin at the same one, outlines not."""
    order = np.lexsort(outlines.bounds[:, :2].T)
    shift, _ = options.tolerances(max(gsd))
    resolve_overlaps(drawn, outlines, order, shift)
    equal_area, row_scale, col_scale = equal_area_projection(src), *gsd
    for start in range(0, max(1, len(order)), _BATCH):
        numbers = order[start : start + _BATCH]
        polygons = drawn[numbers]
        shape_scores = iou(polygons, outlines[numbers])
        pixels = shapely.transform(polygons, lambda xy: xy / (col_scale, row_scale))
        polygons = to_crs(pixels, src.transform)
        areas = ground_areas(polygons, equal_area)
        columns = {
            "area_m2": areas.round(2),
            "mean_score": scores[numbers, 0].round(4),
            "score_q10": scores[numbers, 1].round(4),
            "shape_score": shape_scores.round(4),
        }
        table = GeoDataFrame(columns, geometry=polygons, crs=src.crs)
        yield table[areas >= options.min_area].reset_index(drop=True)


def _scaled(instances: list[Instance], gsd: tuple[float, float]) -> np.ndarray:
    """(n,) outlines in metres from the corner of the map, rows downwards."""
    outlines = np.array([i.outline for i in instances], object)
    return np.asarray(shapely.transform(outlines, lambda xy: xy * (gsd[1], gsd[0])))


def _filled(outlines: np.ndarray, min_area: float) -> np.ndarray:
    """`outlines` without the holes below `min_area` that hold no other outline of the group."""
    filled = []
    for k, outline in enumerate(outlines):
        kept = []
        for ring in outline.interiors:
            hole = shapely.Polygon(ring)
            others = np.delete(outlines, k)
            if hole.area >= min_area or shapely.intersects(others, hole.buffer(-1e-6)).any():
                kept.append(ring)
        filled.append(shapely.Polygon(outline.exterior, kept))
    return np.array(filled, object)


def _warn(
    src: rasterio.DatasetReader,
    options: FootprintOptions,
    count: int,
    largest: float,
    pixel_m2: float,
) -> None:
    name = Path(src.name).name  # the folder of a bundle in the making has another name later
    scene_m2 = src.width * src.height * pixel_m2
    if not count:
        log.warning(
            "%s has no area of class '%s' of %g m2: no footprints",
            name,
            options.class_name,
            options.min_area,
        )
    elif largest > _WHOLE_SCENE * scene_m2:
        log.warning(
            "one object of class '%s' in %s covers %.0f %% of the map: is this a building?",
            options.class_name,
            name,
            100 * largest / scene_m2,
        )
