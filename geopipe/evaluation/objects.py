"""Compare mapped objects with true ones: polygons with polygons, one to one."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geopipe.errors import LabelError
from geopipe.evaluation.outline_accuracy import (
    BOUNDARY_M,
    boundary_f1,
    count_corners,
    polis,
    right_angle_share,
)
from geopipe.evaluation.polygon_files import PolygonLayer, read_area, read_polygons
from geopipe.labels.source import is_raster

IOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""Intersection over union from which on a mapped object is the true one; the first is the usual."""
_INSIDE = 0.5
"""Share of an object's area that must lie in another one, or in the area compared."""


@dataclass(frozen=True, slots=True)
class ObjectMetrics:
    """How well objects were mapped; shares are NaN where there is nothing to divide by."""

    mapped: int
    truth: int
    precision: float
    """Share of mapped objects that have an IoU of 0.5 or more with a true one of their own."""
    recall: float
    """Share of true objects that are matched so."""
    f1: float
    mean_f1: float
    """Mean of F1 at IoU 0.50, 0.55, ... 0.95."""
    mean_iou: float
    """Of the matched pairs."""
    polis_m: float
    """PoLiS distance (Avbelj et al. 2015), mean of the matched pairs, metres."""
    boundary_f1: float
    """F1 of the outlines of all objects, by length: what lies within 1 m of the other is right."""
    over_segmented: float
    """Share of true objects that hold two or more mapped ones (more than half of each)."""
    under_segmented: float
    """Share of mapped objects that hold two or more true ones (more than half of each)."""
    vertices: float
    """Median number of vertices of the mapped objects that are matched..."""
    true_vertices: float
    """...and of their true ones."""
    vertex_ratio: float
    """Median, over the matched pairs, of mapped over true number."""
    right_angle_share: float
    """Share of the corners of the matched mapped objects within 5 degrees of a right angle..."""
    true_right_angle_share: float
    """...and of those of their true ones."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for NaN."""
        values = asdict(self).items()
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values}

    def to_markdown(self) -> str:
        """A table for people."""
        rows = [
            ("mapped objects", f"{self.mapped}"),
            ("true objects", f"{self.truth}"),
            ("precision (IoU 0.5)", _percent(self.precision)),
            ("recall (IoU 0.5)", _percent(self.recall)),
            ("F1 (IoU 0.5)", _percent(self.f1)),
            ("mean F1 (IoU 0.5 to 0.95)", _percent(self.mean_f1)),
            ("mean IoU of matches", _percent(self.mean_iou)),
            ("PoLiS distance of matches", _metres(self.polis_m)),
            (f"boundary F1 ({BOUNDARY_M:g} m)", _percent(self.boundary_f1)),
            ("over-segmented", _percent(self.over_segmented)),
            ("under-segmented", _percent(self.under_segmented)),
            ("vertices, median (truth)", f"{self.vertices:g} ({self.true_vertices:g})"),
            ("vertices / truth, median", f"{self.vertex_ratio:.2f}"),
            (
                "right angles (truth)",
                f"{_percent(self.right_angle_share)} ({_percent(self.true_right_angle_share)})",
            ),
        ]
        return "| objects | |\n| --- | --- |\n" + "".join(f"| {a} | {b} |\n" for a, b in rows)


def evaluate_objects(
    mapped: Path,
    truth: Path,
    *,
    area: Path | None = None,
    layer: str | None = None,
    class_name: str = "building",
    all_are: str | None = None,
) -> ObjectMetrics:
    """Compare the polygons of two vector files; each polygon is an object.

    Only what lies by more than half in the area compared counts: inside `area`, or else in the
    outline of the map that the mapped layer names (``footprint`` in its metadata).

    Args:
        mapped: A file of polygons, such as ``features.gpkg``.
        truth: Another one, in any CRS.
        area: Polygons to which the comparison is limited.
        layer: The layer of `truth`.
        class_name: The class compared, in files with a column ``class``.
        all_are: The class of every polygon of `truth`, where it does not say it.

    Raises:
        LabelError: A file has no such polygons or cannot be read, or they lie apart.
    """
    if is_raster(truth):
        raise LabelError(
            f"{truth} is a raster, {mapped} holds polygons",
            "compare classes.tif, the same map as pixels, with it, or give polygons as truth",
        )
    drawn = read_polygons(mapped, None, class_name)
    true = read_polygons(truth, layer, class_name, all_are)
    plane = drawn.plane() or true.plane()
    limit = read_area(area, plane) if area else drawn.footprint_in(plane)
    a, b = (_inside(source, plane, limit) for source in (drawn, true))
    if area is not None and not len(a) and not len(b):
        raise LabelError(f"no polygon of {mapped} or {truth} lies inside {area}")
    if len(drawn.shapes) and len(true.shapes) and (not len(b) or _apart(drawn, true, plane)):
        raise LabelError(
            f"no polygon of {truth} lies where {mapped} does",
            "check their places, e.g. in QGIS: another area, or a wrong CRS?",
        )
    return match_objects(a, b)


def _inside(source: PolygonLayer, plane: str | None, limit: Any) -> np.ndarray:
    shapes = source.in_plane(plane)
    if limit is None or not len(shapes):
        return shapes
    part = shapely.area(shapely.intersection(shapes, limit))
    return np.asarray(shapes[part > _INSIDE * shapely.area(shapes)])


def _apart(a: PolygonLayer, b: PolygonLayer, plane: str | None) -> bool:
    """Whether the boxes around all polygons do not meet."""
    boxes = [shapely.box(*shapely.total_bounds(source.in_plane(plane))) for source in (a, b)]
    return not boxes[0].intersects(boxes[1])


def match_objects(mapped: np.ndarray, truth: np.ndarray) -> ObjectMetrics:
    """The figures of (n,) and (m,) valid polygons in one plane of equal areas, in metres.

    An object is matched to at most one other: pairs are taken from the largest IoU downwards.
    """
    i, j = shapely.STRtree(truth).query(mapped, predicate="intersects")
    common = shapely.area(shapely.intersection(mapped[i], truth[j]))
    size, true_size = shapely.area(mapped), shapely.area(truth)
    iou = common / (size[i] + true_size[j] - common)
    taken, true_taken = np.zeros(len(mapped), bool), np.zeros(len(truth), bool)
    matches: list[tuple[int, int, float]] = []
    for k in np.lexsort([j, i, -iou]).tolist():
        if iou[k] < IOUS[0]:
            break
        if not taken[i[k]] and not true_taken[j[k]]:
            taken[i[k]] = true_taken[j[k]] = True
            matches.append((int(i[k]), int(j[k]), float(iou[k])))
    matched = np.array([m[2] for m in matches])
    f1 = [_f1((matched >= t).sum(), len(mapped), len(truth)) for t in IOUS]
    parts = np.bincount(j[common > _INSIDE * size[i]], minlength=len(truth))
    true_parts = np.bincount(i[common > _INSIDE * true_size[j]], minlength=len(mapped))
    pairs = mapped[[m[0] for m in matches]], truth[[m[1] for m in matches]]
    vertices, true_vertices = map(count_corners, pairs)
    return ObjectMetrics(
        mapped=len(mapped),
        truth=len(truth),
        precision=_share(len(matches), len(mapped)),
        recall=_share(len(matches), len(truth)),
        f1=f1[0],
        mean_f1=float(np.mean(f1)),
        mean_iou=float(matched.mean()) if len(matched) else math.nan,
        polis_m=float(polis(*pairs).mean()) if len(matches) else math.nan,
        boundary_f1=boundary_f1(mapped, truth),
        over_segmented=_share((parts > 1).sum(), len(truth)),
        under_segmented=_share((true_parts > 1).sum(), len(mapped)),
        vertices=float(np.median(vertices)) if len(matches) else math.nan,
        true_vertices=float(np.median(true_vertices)) if len(matches) else math.nan,
        vertex_ratio=float(np.median(vertices / true_vertices)) if len(matches) else math.nan,
        right_angle_share=right_angle_share(pairs[0]),
        true_right_angle_share=right_angle_share(pairs[1]),
    )


def _f1(hits: int, mapped: int, truth: int) -> float:
    return _share(2 * hits, mapped + truth)


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else math.nan


def _metres(distance: float) -> str:
    return "n/a" if math.isnan(distance) else f"{distance:.2f} m"


def _percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.2f} %"
