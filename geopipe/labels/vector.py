"""VectorLabels: shapes that are rasterized for whichever part of the scene is read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from shapely import STRtree

from geopipe.classes import ClassScheme
from geopipe.errors import GridError, LabelError
from geopipe.labels.buffered_lines import buffered_lines
from geopipe.labels.extent import Bounds, Extent, in_lonlat
from geopipe.labels.features import NO_RULE, Features
from geopipe.labels.rasterize import rasterize


@dataclass(frozen=True, eq=False)
class VectorLabels:
    """Polygons in the scene's CRS in the order they are burned; picklable, opens no file.

    What no shape covers is class 0. Shapes that do not meet the scene were dropped.
    """

    scheme: ClassScheme
    geobox: GeoBox
    """The scene's pixels; `read` takes any plane in its CRS."""
    shapes: np.ndarray
    """(n,) shapely polygons, higher priority later."""
    ids: np.ndarray
    """(n,) uint8 class ids."""
    skipped: tuple[tuple[str, int], ...] = ()
    """Reasons and how many features were left out for them."""
    repaired: int = 0
    """Invalid polygons that were made valid."""
    credit: str = ""

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Features per class id that meet the scene."""
        return tuple(np.bincount(self.ids, minlength=len(self.scheme)).tolist())

    @cached_property
    def index(self) -> STRtree:
        """Bounding boxes of the shapes."""
        return STRtree(self.shapes)

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8 of `geobox`; GridError when it is in another CRS."""
        if geobox.crs != self.geobox.crs:
            raise GridError(
                f"the labels lie in {self.geobox.crs}, the pixels asked for in {geobox.crs}",
                "open the labels for the plane of that scene",
            )
        # The index forgets the order of burning; sorting brings it back.
        indices = np.sort(self.index.query(geobox.extent.geom))
        return rasterize(self.shapes[indices], self.ids[indices], self.geobox, geobox)

    @classmethod
    def of(
        cls,
        layers: Sequence[Features],
        scheme: ClassScheme,
        geobox: GeoBox,
        credit: str = "",
        source: str = "the labels",
    ) -> Self:
        """The labels that `layers` make; `source` is their name in messages.

        Raises LabelError when none of their features meets the scene.
        """
        extent = Extent(geobox)
        reason_counts: Counter[str] = Counter()
        for layer in layers:
            reason_counts.update(layer.skipped)
        converted = [_to_scene(layer, extent, reason_counts) for layer in layers]
        shapes = np.concatenate([np.empty(0, object), *(m[0] for m in converted)])
        ids = np.concatenate([np.empty(0, np.uint8), *(m[1] for m in converted)])
        if not len(shapes):
            raise _require_features(layers, scheme, extent, reason_counts, bool(credit), source)
        priority = np.array([c.priority for c in scheme.classes])[ids]
        order = np.lexsort((ids, priority))
        repaired = reason_counts.pop(_REPAIRED, 0)
        return cls(
            scheme, geobox, shapes[order], ids[order], _sorted(reason_counts), repaired, credit
        )


_REPAIRED = "invalid polygon, repaired"


def _to_scene(
    layer: Features, extent: Extent, reason_counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Polygons of `layer` in the scene's CRS that meet the scene, and their class ids."""
    shapes, is_line = layer.shapes.copy(), ~np.isnan(layer.widths)
    shapes[~is_line] = _valid(shapes[~is_line], reason_counts)
    line_indices = np.flatnonzero(is_line)
    if len(line_indices):
        shapes[line_indices] = buffered_lines(
            shapes[line_indices], layer.widths[line_indices], layer.crs, extent.local
        )
    empty = shapely.is_empty(shapes)
    _count(reason_counts, "shape without area", empty)
    for part, crs in ((is_line, extent.local), (~is_line, layer.crs)):
        shapes[part & ~empty] = extent.bring(shapes[part & ~empty], crs)
    is_finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    _count(reason_counts, "shape that the CRS of the scene cannot hold", ~is_finite & ~empty)
    kept_indices = np.flatnonzero(is_finite)
    kept_indices = kept_indices[shapely.intersects(extent.outline, shapes[kept_indices])]
    return shapes[kept_indices], layer.ids[kept_indices]


def _valid(polygons: np.ndarray, reason_counts: Counter[str]) -> np.ndarray:
    invalid = ~shapely.is_valid(polygons)
    _count(reason_counts, _REPAIRED, invalid)
    repaired = polygons.copy()
    # "structure" keeps holes as holes and gives areas only.
    repaired[invalid] = shapely.make_valid(
        polygons[invalid], method="structure", keep_collapsed=False
    )
    return repaired


def _count(reason_counts: Counter[str], reason: str, mask: np.ndarray) -> None:
    if mask.any():
        reason_counts[reason] += int(mask.sum())


def _sorted(reason_counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(reason_counts.items()))


def _require_features(
    layers: Sequence[Features],
    scheme: ClassScheme,
    extent: Extent,
    reason_counts: Counter[str],
    is_osm: bool,
    source: str,
) -> LabelError:
    """Why not one shape is left."""
    layer_bounds = [(x.bounds, x.crs) for x in layers if x.bounds is not None]
    if not layer_bounds:
        return _no_class(scheme, reason_counts, source)
    if any(_meet(extent.bounds_in(crs, margin=0), bounds) for bounds, crs in layer_bounds):
        return LabelError(
            f"nothing of {source} lies on the scene itself, only around it",
            "give labels of this part of the ground",
        )
    where = "; ".join(in_lonlat(bounds, crs) for bounds, crs in layer_bounds)
    return LabelError(
        f"{'OSM does' if is_osm else 'the labels do'} not overlap the scene: "
        f"{source} lies at {where}; the scene at {extent.lonlat()}",
        "check the place and the CRS of both, or have OSM fetched for this scene",
    )


def _meet(a: Bounds | None, b: Bounds) -> bool:
    return a is not None and a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _no_class(scheme: ClassScheme, tally: Counter[str], source: str) -> LabelError:
    """Why no feature became a class: no tags for it, or something wrong with all that have them."""
    left_out = "; ".join(f"{n} x {reason}" for reason, n in _sorted(tally))
    if not tally or all(NO_RULE in reason for reason in tally):
        return LabelError(
            f"{source}: no feature has tags that the scheme '{scheme.name}' makes a class of"
            + (f" (left out: {left_out})" if left_out else ""),
            "check the rules of the scheme against the attributes of the labels",
        )
    return LabelError(
        f"{source}: nothing is left of the features that the scheme '{scheme.name}' makes a class "
        f"of (left out: {left_out})",
        "get the file again with all nodes and ways"
        if any("in the file" in reason for reason in tally)
        else "look at them in QGIS",
    )
