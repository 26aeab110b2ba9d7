"""Road lines against ground-truth lines: relaxed precision and recall, APLS, topology."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.evaluation.apls import apls
from geopipe.evaluation.line_files import LineFile, read_lines
from geopipe.evaluation.road_graph import RoadGraph
from geopipe.grid.crs import transformer
from geopipe.labels.area import read_area
from geopipe.labels.extent import LONLAT, reproject

BUFFER_M = 3.0
"""How far off a line still counts as right."""
_STEP_M = 1.0
"""Lines are compared at points this far apart."""


@dataclass(frozen=True, slots=True)
class RoadMetrics:
    """How road lines agree with the truth; shares are NaN where there is nothing to share."""

    precision: float
    """Share of the mapped length within `buffer_m` of a true line."""
    recall: float
    """Share of the true length within `buffer_m` of a mapped line."""
    f1: float
    apls: float
    offset_m: float
    """Median distance to the truth of what lies within `buffer_m` of it."""
    mapped_km: float
    truth_km: float
    mapped_components: int
    truth_components: int
    mapped_dead_ends: int
    truth_dead_ends: int
    buffer_m: float = BUFFER_M

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; NaN is None."""
        return {k: None if v != v else v for k, v in asdict(self).items()}

    def to_markdown(self) -> str:
        """Two small tables."""
        rows = [
            "| precision | recall | F1 | APLS | offset, m |",
            "|---:|---:|---:|---:|---:|",
            f"| {self.precision:.3f} | {self.recall:.3f} | {self.f1:.3f} | {self.apls:.3f}"
            f" | {self.offset_m:.2f} |",
            "",
            "| | km | connected parts | dead ends |",
            "|---|---:|---:|---:|",
            f"| map | {self.mapped_km:.2f} | {self.mapped_components} | {self.mapped_dead_ends} |",
            f"| truth | {self.truth_km:.2f} | {self.truth_components} | {self.truth_dead_ends} |",
            "",
            f"precision and recall: share of the length within {self.buffer_m:g} m",
        ]
        return "\n".join(rows) + "\n"


def compare_roads(mapped: np.ndarray, truth: np.ndarray, buffer_m: float = BUFFER_M) -> RoadMetrics:
    """Compare LineStrings `mapped` (m,) with `truth` (n,), both in the same metres."""
    result, expected = RoadGraph.of(mapped), RoadGraph.of(truth)
    precision, offsets = _within(result, expected, buffer_m)
    recall, _ = _within(expected, result, buffer_m)
    total = precision + recall
    return RoadMetrics(
        precision,
        recall,
        2 * precision * recall / total if total else total,
        apls(expected, result),
        float(np.median(offsets)) if len(offsets) else float("nan"),
        result.length / 1000,
        expected.length / 1000,
        result.components,
        expected.components,
        result.dangling,
        expected.dangling,
        buffer_m,
    )


def _within(graph: RoadGraph, other: RoadGraph, buffer_m: float) -> tuple[float, np.ndarray]:
    """Share of the length of `graph` within `buffer_m` of `other`, and the distances of that."""
    lengths = shapely.length(graph.lines) if len(graph.lines) else np.empty(0)
    counts = np.maximum(np.ceil(lengths / _STEP_M).astype(int), 1)
    if not lengths.sum():
        return float("nan"), np.empty(0)
    on = np.repeat(np.arange(len(lengths)), counts)
    place = np.arange(len(on)) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5
    weight = (lengths / counts)[on]
    points = shapely.line_interpolate_point(graph.lines[on], place * weight)
    near, _ = other.nearest(shapely.get_coordinates(points), buffer_m)
    hit = near >= 0
    distance = shapely.distance(points[hit], other.lines[near[hit]]) if hit.any() else np.empty(0)
    return float(weight[hit].sum() / weight.sum()), np.asarray(distance)


def evaluate_roads(
    roads: Path,
    truth: Path,
    *,
    scheme: ClassScheme | None = None,
    area: Path | None = None,
    layer: str | None = None,
    buffer_m: float = BUFFER_M,
) -> RoadMetrics:
    """Compare the lines of the vector file `roads` with those of `truth`.

    Only what lies on the map that `roads` was made from (where the file tells, as ours do) and in
    the polygons of `area` counts. `scheme`: of a truth with OSM tags, only what it calls a road;
    without it, every line. `layer`: of `truth`.

    Raises LabelError where a file has no lines, has no CRS, or the two do not meet.
    """
    mapped, expected = read_lines(roads), read_lines(truth, layer)
    if not len(mapped.frame):
        raise LabelError(f"{roads} holds no line", "there is nothing to compare: it found no road")
    if scheme is not None:
        expected = expected.only(scheme)
    local = _local_metres(mapped, expected)
    limits = _limits(mapped, area, local)
    sides = [_simple(file.lines_in(local), limits) for file in (mapped, expected)]
    if not len(sides[1]):
        raise LabelError(
            f"no line of {truth} lies where {roads} was mapped",
            "are both of the same place, and in the CRS they say?",
        )
    return compare_roads(sides[0], sides[1], buffer_m)


def _local_metres(mapped: LineFile, expected: LineFile) -> CRS:
    """Metres on the ground around the map, or around the truth where the map has no line."""
    if mapped.footprint is not None:
        bounds, crs = mapped.footprint.bounds, mapped.crs
    else:
        file = mapped if len(mapped.frame) else expected
        bounds, crs = tuple(file.frame.total_bounds), file.crs
    x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    lon, lat = transformer(crs, LONLAT).transform(x, y)
    if not (np.isfinite(lon) and np.isfinite(lat)):
        raise LabelError(
            f"the lines of {mapped.path} lie nowhere on Earth ({x:g}, {y:g} in {crs.to_string()})",
            "check the CRS of the file",
        )
    return CRS.from_proj4(f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m +no_defs")


def _limits(mapped: LineFile, area: Path | None, local: CRS) -> list[BaseGeometry]:
    """Polygons outside of which nothing counts."""
    limits = []
    if mapped.footprint is not None:
        limits.append(reproject(np.array([mapped.footprint]), mapped.crs, local)[0])
    if area is not None:
        polygons = [reproject(shapes, crs, local) for shapes, crs in read_area(area)]
        limits.append(shapely.union_all(np.concatenate(polygons)))
    return limits


def _simple(lines: np.ndarray, limits: list[BaseGeometry]) -> np.ndarray:
    """`lines` within `limits` as LineStrings that have a length."""
    for limit in limits:
        shapely.prepare(limit)
        inside = shapely.covers(limit, lines)
        lines = np.where(inside, lines, shapely.intersection(lines, limit))
    parts = shapely.get_parts(shapely.get_parts(lines))
    return np.asarray(parts[(shapely.get_type_id(parts) == 1) & (shapely.length(parts) > 0)])
