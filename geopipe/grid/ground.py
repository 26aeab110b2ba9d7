"""Lengths on the ground, whatever the CRS of the pixels."""

from functools import lru_cache

from odc.geo.geobox import GeoBox
from pyproj import Geod

from geopipe.errors import GridError
from geopipe.grid.crs import transformer

_WGS84 = Geod(ellps="WGS84")


@lru_cache(maxsize=64)
def ground_gsd(geobox: GeoBox) -> tuple[float, float]:
    """Metres on the ground per pixel, down a column and along a row, at the plane's centre.

    Measured as geodesics, so it holds in Web Mercator (whose units are not metres away from the
    equator), in degrees and in rotated planes. Raises GridError without a CRS.
    """
    if geobox.crs is None:
        raise GridError("the pixel plane has no CRS, so its pixels have no size on the ground")
    row, col = (n / 2 for n in geobox.shape)
    to_lonlat = transformer(geobox.crs.proj, "EPSG:4326")
    # Half a pixel to each side of the centre, so that a scene's edge is never left.
    points = [(col, row - 0.5), (col, row + 0.5), (col - 0.5, row), (col + 0.5, row)]
    x, y = zip(*(geobox.affine * p for p in points), strict=True)
    lon, lat = to_lonlat.transform(x, y)
    gsd_y = _WGS84.inv(lon[0], lat[0], lon[1], lat[1])[2]
    gsd_x = _WGS84.inv(lon[2], lat[2], lon[3], lat[3])[2]
    if not (0 < gsd_y < 1e6 and 0 < gsd_x < 1e6):
        raise GridError(
            f"pixels of {gsd_y:g} x {gsd_x:g} m on the ground: the transform or CRS is wrong",
            "check the scene with gdalinfo",
        )
    return gsd_y, gsd_x
