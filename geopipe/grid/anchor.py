"""Where a scene lies among the pixels that are counted from the origin of its CRS."""

import math

from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.grid.ground import ground_gsd

STRETCH = 1.02
"""Lengths on the map over those on the ground are rounded to powers of this: one scale for all
files of a region, at most a percent from the true one."""
_EARTH_M = 6_378_137.0
"""Metres per radian, for a CRS of degrees."""
_TOLERANCE = 1 / 64
"""Pixels that a corner may be off a whole number by rounding."""


def pixel_origin(geobox: GeoBox) -> tuple[int, int]:
    """Row and column of the upper left pixel, counted in pixels from the origin of the CRS.

    Files whose pixels coincide count alike, wherever their corners are. Pixels that do not lie on
    multiples of their size are counted as those that they begin in. (0, 0) where the geotransform
    is rotated: its pixels have no rows and columns in common with the CRS.
    """
    a: Affine = geobox.affine
    if is_rotated(geobox):
        return 0, 0
    return math.floor(a.f / a.e + _TOLERANCE), math.floor(a.c / a.a + _TOLERANCE)


def is_rotated(geobox: GeoBox) -> bool:
    """Whether rows and columns run across the axes of the CRS."""
    a = geobox.affine
    return bool(abs(a.b) > 1e-9 * abs(a.a) or abs(a.d) > 1e-9 * abs(a.e))


def nominal_gsd(geobox: GeoBox) -> tuple[float, float]:
    """Metres on the ground per pixel, down and along: one value for all files of a region.

    As `ground_gsd`, whose value changes with the centre of a file, with the scale of the map
    rounded to a power of STRETCH. In UTM and national grids, true to scale within a percent, it
    is the size of a pixel on the map; in Web Mercator and degrees the scale changes at certain
    latitudes, 2 % at a time. Rotated: as `ground_gsd`.
    """
    ground = ground_gsd(geobox)
    if is_rotated(geobox):
        return ground
    assert geobox.crs is not None  # ground_gsd has refused it
    unit = float(geobox.crs.proj.axis_info[0].unit_conversion_factor)
    unit *= _EARTH_M if geobox.crs.geographic else 1.0
    sizes = abs(geobox.affine.e) * unit, abs(geobox.affine.a) * unit
    down, along = (
        size * STRETCH ** round(math.log(metres / size, STRETCH))
        for metres, size in zip(ground, sizes, strict=True)
    )
    return down, along
