"""The footprint of a pixel plane in degrees, as GeoJSON (RFC 7946) and STAC want it."""

import itertools
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geopipe.errors import SceneError
from geopipe.grid.crs import transformer

_DEGREES = 1e-7
"""Corners that move the outline by less (1 cm) are left out."""
_STEPS = 32
"""Points along each side: a straight edge of a projected plane is a curve in degrees."""


def footprint(geobox: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """GeoJSON polygon (outer rings anticlockwise) and bbox in degrees, longitude first.

    Across the 180th meridian the polygon is cut in two, and the bbox starts in the eastern
    hemisphere (RFC 7946, 5.2). Around a pole both hold all longitudes and the pole. Raises
    SceneError when a corner is no place on Earth.
    """
    outline = _unwrapped(_outline(geobox))
    pole = _pole_inside(outline)
    if pole:
        outline = np.vstack([outline, [[outline[-1, 0], pole], [outline[0, 0], pole]]])
    parts = _cut(shapely.make_valid(shapely.Polygon(outline)).simplify(_DEGREES))
    bounds = [p.bounds for p in parts]
    south, north = min(b[1] for b in bounds), max(b[3] for b in bounds)
    west, east = min(b[0] for b in bounds), max(b[2] for b in bounds)
    across = len(parts) > 1 and west == -180 and east == 180 and not pole
    if across:
        west = min(b[0] for b in bounds if b[2] == 180)
        east = max(b[2] for b in bounds if b[0] == -180)
        if west <= east:  # all the way round
            west, east = -180.0, 180.0
    rings = [_ring(p) for p in parts]
    if len(rings) == 1:
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": [rings[0]]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
    return geometry, [round(v, 7) for v in (west, south, east, north)]


def _outline(geobox: GeoBox) -> np.ndarray:
    """(n, 2) longitude and latitude around the plane, closed."""
    height, width = geobox.shape
    step = np.arange(_STEPS) / _STEPS
    zero, one = np.zeros(_STEPS), np.ones(_STEPS)
    u = np.concatenate([step, one, 1 - step, zero, [0.0]]) * width
    v = np.concatenate([zero, step, one, 1 - step, [0.0]]) * height
    a = geobox.affine
    x, y = a.a * u + a.b * v + a.c, a.d * u + a.e * v + a.f
    assert geobox.crs is not None
    lon, lat = transformer(geobox.crs.proj, "EPSG:4326").transform(x, y)
    lonlat = np.column_stack([lon, np.clip(lat, -90, 90)])
    if not np.isfinite(lonlat).all():
        raise SceneError(
            "an edge of the scene is no place on Earth", "check the scene with gdalinfo"
        )
    return lonlat


def _unwrapped(outline: np.ndarray) -> np.ndarray:
    """Longitudes without jumps at the 180th meridian."""
    out = outline.copy()
    out[:, 0] = np.unwrap(outline[:, 0], period=360)
    return out


def _pole_inside(outline: np.ndarray) -> float:
    """90 or -90 when the outline goes once around a pole, else 0."""
    if abs(outline[-1, 0] - outline[0, 0]) < 180:
        return 0.0
    return 90.0 if outline[:, 1].mean() > 0 else -90.0


def _cut(shape: Any) -> list[shapely.Polygon]:
    """The polygons of `shape`, each between -180 and 180."""
    left, _, right, _ = shape.bounds
    if right - left >= 360:  # whole turns say nothing more
        shape = shapely.affinity.translate(shape, -180 - left)
        left, right = -180.0, 179.0
    parts = []
    for turn in range(int((left + 180) // 360), int((right + 180) // 360) + 1):
        world = shapely.box(-180 + 360 * turn, -90, 180 + 360 * turn, 90)
        part = shapely.affinity.translate(shapely.intersection(shape, world), -360 * turn)
        parts += [p for p in shapely.get_parts(part) if p.geom_type == "Polygon" and p.area]
    return parts


def _ring(part: shapely.Polygon) -> list[list[float]]:
    """The outer ring, anticlockwise, to 1 cm."""
    points = [[round(x, 7), round(y, 7)] for x, y in part.exterior.coords]
    doubled = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(points))
    return points if doubled > 0 else points[::-1]
