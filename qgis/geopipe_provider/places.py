"""Boxes around points in longitude and latitude; knows nothing of QGIS."""

from __future__ import annotations

import math

_METRES_PER_DEGREE = 111_320.0
"""Of latitude, on the sphere; a box may be off by half a percent."""


def box_around(longitude: float, latitude: float, side: float) -> tuple[float, float, float, float]:
    """The box (west, south, east, north) in degrees, `side` metres wide and high."""
    north = side / 2 / _METRES_PER_DEGREE
    east = north / max(0.01, math.cos(math.radians(latitude)))
    return longitude - east, latitude - north, longitude + east, latitude + north
