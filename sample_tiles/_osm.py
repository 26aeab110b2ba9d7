"""The map as found in life: shifted, incomplete, and partly out of date."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from _base import Floats, Rng, Road, Scene, TileSpec, polygons_of
from shapely.affinity import rotate
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring

CRS = "EPSG:2154"
LEFT_OUT = 0.20
ROADS_MISSING = 0.15
JITTER = 0.5


def osm_shift(x: Floats | float, y: Floats | float) -> tuple[Floats, Floats]:
    """Shift of map buildings at Lambert-93 (x, y), in metres east and north.

    The map shows at (x + dx, y + dy) what stands at (x, y). The magnitude stays within 1.2 to
    4.8 m and the direction turns slowly, over some hundreds of metres to a kilometre: the
    mark of maps traced over differently registered images.
    """
    u = (np.asarray(x, float) - 789000.0) / 1000.0
    v = (np.asarray(y, float) - 6501000.0) / 1000.0
    wave = np.sin(2.9 * u + 1.7 * v + 0.6) + np.sin(-1.9 * u + 3.3 * v + 2.1)
    magnitude = 3.0 + 0.9 * wave
    turn = 0.9 + 1.1 * np.sin(2.1 * u - 1.3 * v + 0.4) + 0.8 * np.sin(1.2 * u + 2.6 * v)
    return magnitude * np.cos(turn), magnitude * np.sin(turn)


def _road_shift(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Shift of map roads: another field of its own, livelier since traced from GPS tracks."""
    u, v = (x - 789000.0) / 1000.0, (y - 6501000.0) / 1000.0
    dx = 3.4 * np.sin(9.1 * u + 4.3 * v + 1.0) + 2.2 * np.sin(-5.7 * u + 14.9 * v)
    dy = 3.4 * np.sin(5.2 * u - 8.3 * v + 2.0) + 2.2 * np.sin(13.3 * u + 6.1 * v)
    return dx, dy


def to_lambert(spec: TileSpec, shape: BaseGeometry) -> BaseGeometry:
    """Move a shape of the local frame to Lambert-93, to the nearest millimetre."""
    place = np.array([spec.left, spec.top])
    moved: BaseGeometry = shapely.transform(shape, lambda p: np.round(place + p * (1.0, -1.0), 3))
    return moved


def _patchy(points: Floats, rng: Rng) -> Floats:
    """Scores for dropping things: half from where they are, half from chance."""
    centres = rng.uniform(points.min(axis=0), points.max(axis=0), (14, 2))
    weights = rng.normal(0, 1, 14)
    d2 = ((points[:, None, :] - centres[None]) ** 2).sum(axis=2)
    near: Floats = (weights * np.exp(-d2 / (2 * 110.0**2))).sum(axis=1)
    return near + rng.normal(0, 0.45, len(points))


def _mapped(shape: Polygon, rng: Rng) -> Polygon:
    """Redraw a footprint as a mapper would: shifted, slightly turned, corners simplified."""
    centre = shape.centroid
    dx, dy = osm_shift(centre.x, centre.y)
    move = np.array([float(dx), float(dy)]) + rng.normal(0, JITTER, 2)
    turned: BaseGeometry = rotate(shape, rng.normal(0, 1.5), origin="centroid")
    if len(shape.exterior.coords) > 5 and rng.random() < 0.2:
        turned = turned.minimum_rotated_rectangle
    moved = shapely.transform(turned.simplify(0.6), lambda p: np.round(p + move, 2))
    assert isinstance(moved, Polygon)
    return moved


def buildings(scenes: list[Scene]) -> gpd.GeoDataFrame:
    """Map buildings of all tiles, with the left out taken away and the gone still there."""
    rows: list[tuple[str, Polygon]] = []
    for scene in scenes:
        rng = scene.spec.rng(21)
        window = shapely.box(0, 0, scene.spec.metres, scene.spec.metres)
        stand = [b for b in scene.buildings if b.footprint().intersects(window)]
        centres = np.array([b.footprint().centroid.coords[0] for b in stand])
        score = _patchy(centres, rng)
        keep = score < np.quantile(score, 1 - LEFT_OUT)
        kept = [b for b, k in zip(stand, keep, strict=True) if k]
        ghosts = [b for b in scene.gone if b.footprint().intersects(window)]
        for b in kept + ghosts:
            shape = to_lambert(scene.spec, b.footprint())
            assert isinstance(shape, Polygon)
            rows.append((b.use, _mapped(shape, rng)))
    ids = np.arange(len(rows), dtype=np.int64) * 17 + 180_000_001
    frame = {"osm_id": ids, "building": [use for use, _ in rows]}
    return gpd.GeoDataFrame(frame, geometry=[shape for _, shape in rows], crs=CRS)


def ways(scene: Scene) -> list[tuple[Road, LineString]]:
    """Roads of one tile clipped to it and cut into map ways of a few hundred metres."""
    window = shapely.box(0, 0, scene.spec.metres, scene.spec.metres)
    out: list[tuple[Road, LineString]] = []
    for road in scene.roads + scene.tracks:
        clipped = shapely.intersection(road.line, window)
        for piece in getattr(clipped, "geoms", [clipped]):
            if piece.length < 5:
                continue
            count = max(1, round(piece.length / 220))
            for k in range(count):
                part = substring(piece, k / count, (k + 1) / count, normalized=True)
                assert isinstance(part, LineString)
                out.append((road, part))
    return out


def _missing(items: list[tuple[Road, LineString]], rng: Rng) -> set[int]:
    """Ways left out, chosen at random until their share of the true road length is reached."""
    lengths = np.array([0.0 if r.highway == "track" else w.length for r, w in items])
    target = ROADS_MISSING * lengths.sum()
    out: set[int] = set()
    total = 0.0
    # Main roads are never missed in life, small ones are.
    for k in rng.permutation(len(items)):
        small = items[k][0].highway in ("residential", "service", "unclassified")
        if small and total + lengths[k] < target + 15:
            out.add(int(k))
            total += lengths[k]
    return out


def roads(scenes: list[Scene]) -> gpd.GeoDataFrame:
    """Map centre-lines of all tiles, tracks included."""
    rows: list[dict[str, object]] = []
    for scene in scenes:
        rng = scene.spec.rng(22)
        items = ways(scene)
        missing = _missing(items, rng)
        for k, (road, way) in enumerate(items):
            draw = rng.random(3)
            if k in missing:
                continue
            rows.append(
                {
                    "highway": road.highway,
                    "name": road.name,
                    "lanes": "2" if road.marked and draw[0] < 0.5 else None,
                    "width": f"{road.width:.0f}" if draw[1] < 0.06 else None,
                    "bridge": "yes" if way.crosses(scene.stream) and draw[2] < 0.5 else None,
                    "tunnel": None,
                    "geometry": _traced(to_lambert(scene.spec, way)),
                }
            )
    frame = gpd.GeoDataFrame(rows, geometry="geometry", crs=CRS)
    frame.insert(0, "osm_id", np.arange(len(rows), dtype=np.int64) * 13 + 40_000_003)
    return frame


def _traced(line: BaseGeometry) -> BaseGeometry:
    def move(p: Floats) -> Floats:
        dx, dy = _road_shift(p[:, 0], p[:, 1])
        return np.round(p + np.column_stack([dx, dy]), 2)

    return shapely.transform(line, move).simplify(0.4)


def truth(scenes: list[Scene]) -> gpd.GeoDataFrame:
    """List what is on the ground, cut to the tiles: one row a building, one a piece of road net."""
    classes: list[str] = []
    shapes: list[BaseGeometry] = []
    for scene in scenes:
        window = shapely.box(0, 0, scene.spec.metres, scene.spec.metres)
        parts: list[tuple[str, BaseGeometry]] = [
            ("building", b.footprint()) for b in scene.buildings
        ]
        parts.append(("road", scene.carriageway))
        for name, shape in parts:
            for piece in polygons_of(shape.intersection(window)):
                if piece.area > 0.01:
                    classes.append(name)
                    shapes.append(to_lambert(scene.spec, piece))
    return gpd.GeoDataFrame({"class": classes}, geometry=shapes, crs=CRS)
