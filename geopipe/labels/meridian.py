"""Longitudes that are the same place by another number: 181 and -179."""

from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

_TURN = 360.0


def at_longitude(shapes: np.ndarray, longitude: float) -> np.ndarray:
    """`shapes` (n,) in degrees, each part moved by whole turns to where it is nearest to it.

    Parts torn apart at the 180th meridian (neighbouring corners at 179.9 and -179.9) are put
    together first. Shapes that are near already stay as they are.
    """
    left, _, right, _ = shapely.bounds(shapes).T
    with np.errstate(invalid="ignore"):
        far = (left < longitude - 180) | (right > longitude + 180) | (right - left > 180)
    if not far.any():
        return shapes
    moved = shapes.copy()
    for i in np.flatnonzero(far & np.isfinite(left) & np.isfinite(right)):
        parts = [_near(part, longitude) for part in shapely.get_parts(shapes[i])]
        moved[i] = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    return moved


def near(bounds: tuple[float, ...], longitude: float) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) in degrees moved by whole turns to be nearest to `longitude`."""
    left, bottom, right, top = bounds
    turns = _TURN * round((longitude - (left + right) / 2) / _TURN)
    return left + turns, bottom, right + turns, top


def _near(part: Any, longitude: float) -> BaseGeometry:
    """A single line or polygon."""
    rings: list[np.ndarray] = []

    def whole(xy: np.ndarray) -> np.ndarray:
        out = xy.copy()
        steps = np.diff(xy[:, 0])
        torn = (np.abs(steps) > 180) & (np.abs(steps) < _TURN - 1e-9)
        out[1:, 0] -= _TURN * np.cumsum(np.sign(steps) * torn)
        middle = (out[:, 0].min() + out[:, 0].max()) / 2
        # A hole goes with its polygon, whose outline comes first.
        towards = (rings[0][:, 0].min() + rings[0][:, 0].max()) / 2 if rings else longitude
        out[:, 0] += _TURN * round((towards - middle) / _TURN)
        rings.append(out)
        return out

    if part.geom_type == "Polygon":
        outer = whole(shapely.get_coordinates(part.exterior))
        holes = [whole(shapely.get_coordinates(r)) for r in part.interiors]
        return shapely.Polygon(outer, holes)
    moved: BaseGeometry = shapely.transform(part, whole)
    return moved
