"""The two sides of a comparison: buildings and roads in one local plane of metres."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe.errors import LabelError
from geopipe.grid.crs import transformer
from geopipe.labels.extent import reproject
from geopipe.vectors.footprints import BUILDING

GSD = 0.5
"""Metres per pixel of the plane on which both sides are registered."""


@dataclass(frozen=True, eq=False)
class ObjectSet:
    """Buildings or roads of one side."""

    shapes: np.ndarray
    """(n,) valid polygons or LineStrings, in metres of the plane."""
    ids: np.ndarray
    """(n,) text: what the source calls each."""
    scores: np.ndarray
    """(n,) float64 in 0..1, mean probability; NaN where unknown."""
    tags: tuple[dict[str, str], ...] = ()
    """OSM tags of each, where the source is OSM."""

    def __len__(self) -> int:
        return len(self.shapes)

    def subset(self, mask: np.ndarray) -> "ObjectSet":
        """The objects of `mask` (n,) bool or indices."""
        indices = np.arange(len(self))[mask]
        tags = tuple(self.tags[i] for i in indices) if self.tags else ()
        return ObjectSet(self.shapes[indices], self.ids[indices], self.scores[indices], tags)


@dataclass(frozen=True, eq=False)
class Side:
    """What one file says of a place."""

    path: Path
    buildings: ObjectSet | None
    """None: the file knows no buildings, so nothing can be said of them."""
    roads: ObjectSet | None
    is_osm: bool = False
    model_sha256: str | None = None
    scores: Path | None = None
    """``scores.tif`` or ``confidence.tif`` of the map."""
    repaired: Counter[str] = field(default_factory=Counter)
    """Broken geometries, by what was done to them."""

    def of(self, class_name: str) -> ObjectSet | None:
        """The objects of a class."""
        return self.buildings if class_name == BUILDING else self.roads


@dataclass(frozen=True, eq=False)
class Plane:
    """The place of a comparison."""

    crs: CRS
    """Equal areas, metres, around the middle of the map."""
    limit: Any
    """Polygon in `crs`: where both sides are compared."""

    @property
    def geobox(self) -> GeoBox:
        """Pixels of `GSD` metres over the limit."""
        left, bottom, right, top = self.limit.bounds
        return GeoBox.from_bbox(
            (left, bottom, max(right, left + 1), max(top, bottom + 1)),
            self.crs.to_wkt(),
            resolution=GSD,
        )

    def within(self, objects: ObjectSet) -> ObjectSet:
        """The objects that lie by more than half in the limit; of lines the part inside."""
        if not len(objects):
            return objects
        shapely.prepare(self.limit)
        if shapely.get_type_id(objects.shapes[0]) == 1:
            return _clipped(objects, self.limit)
        touched = np.flatnonzero(shapely.intersects(self.limit, objects.shapes))
        inside = shapely.covers(self.limit, objects.shapes[touched])
        rest = touched[~inside]
        part = shapely.area(shapely.intersection(objects.shapes[rest], self.limit))
        kept = np.zeros(len(objects), bool)
        kept[touched[inside]] = True
        kept[rest[part > 0.5 * shapely.area(objects.shapes[rest])]] = True
        return objects.subset(kept)


def valid_parts(
    shapes: np.ndarray, kind: int, repaired: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The polygons (`kind` 3) or lines (1) that `shapes` are made of, and whose they are."""
    empty = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    broken = ~empty & ~shapely.is_valid(shapes)
    if empty.any():
        repaired["empty geometry, left out"] += int(empty.sum())
    if broken.any():
        repaired["broken geometry, repaired"] += int(broken.sum())
    owner = np.flatnonzero(~empty)
    valid = shapely.make_valid(shapes[owner])
    for _ in range(2):  # a collection may hold multipolygons
        valid, index = shapely.get_parts(valid, return_index=True)
        owner = owner[index]
    measure = shapely.area(valid) if kind == 3 else shapely.length(valid)
    kept = (shapely.get_type_id(valid) == kind) & (measure > 0)
    kept &= np.isfinite(shapely.bounds(valid)).all(axis=1) if len(valid) else kept
    lost = len(set(np.flatnonzero(~empty).tolist()) - set(owner[kept].tolist()))
    if lost:
        repaired["geometry without area or length, left out"] += lost
    return np.asarray(valid[kept], object), owner[kept]


def joined(parts: list[ObjectSet]) -> ObjectSet:
    """All objects of `parts`, in order."""
    return ObjectSet(
        np.concatenate([np.empty(0, object), *(p.shapes for p in parts)]),
        np.concatenate([np.empty(0, object), *(p.ids for p in parts)]),
        np.concatenate([np.empty(0), *(p.scores for p in parts)]),
        tuple(t for p in parts for t in p.tags),
    )


def _clipped(objects: ObjectSet, limit: Any) -> ObjectSet:
    inside = shapely.covers(limit, objects.shapes)
    cut = objects.shapes.copy()
    cut[~inside] = shapely.intersection(cut[~inside], limit)
    parts, owner = shapely.get_parts(cut, return_index=True)
    kept = (shapely.get_type_id(parts) == 1) & (shapely.length(parts) > 0)
    tags = tuple(objects.tags[i] for i in owner[kept]) if objects.tags else ()
    return ObjectSet(
        np.asarray(parts[kept]), objects.ids[owner[kept]], objects.scores[owner[kept]], tags
    )


def plane_of(crs: CRS, outline: Any, path: Path) -> Plane:
    """The plane of a map whose outline in `crs` is known."""
    x, y = outline.centroid.x, outline.centroid.y
    lon, lat = transformer(crs, CRS.from_epsg(4326)).transform(x, y)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise LabelError(f"{path} lies where its CRS has no place on the ground")
    plane = CRS.from_proj4(
        f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m +no_defs"
    )
    dense = shapely.segmentize(outline, max(outline.length / 200, 1e-9))
    return Plane(plane, shapely.make_valid(reproject(np.array([dense], object), crs, plane)[0]))


def to_plane(side: Side, crs: CRS, plane: Plane) -> Side:
    """`side`, read in `crs`, in the plane and limited to its area."""
    sets: list[ObjectSet | None] = []
    for objects, kind in ((side.buildings, 3), (side.roads, 1)):
        if objects is None:
            sets.append(None)
            continue
        moved = reproject(objects.shapes, crs, plane.crs) if len(objects) else objects.shapes
        clean, owner = valid_parts(moved, kind, Counter())
        tags = tuple(objects.tags[i] for i in owner) if objects.tags else ()
        sets.append(ObjectSet(clean, objects.ids[owner], objects.scores[owner], tags))
    return Side(
        side.path,
        sets[0],
        sets[1],
        side.is_osm,
        side.model_sha256,
        side.scores,
        side.repaired,
    )
