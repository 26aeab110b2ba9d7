"""Oracles: the radii of curvature of the ellipsoid, PROJ's own scale factors, geodesics."""

import math

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Proj, Transformer

from geopipe.errors import GridError
from geopipe.grid import ground_gsd

A, E2 = 6_378_137.0, 0.0066943799901413165
BANEPA = (85.52, 27.63)
FOREZ = (4.06, 45.74)


def radii(lat):
    """Metres per radian of latitude and, on the parallel, of longitude (WGS 84)."""
    w = math.sqrt(1 - E2 * math.sin(lat) ** 2)
    return A * (1 - E2) / w**3, A / w * math.cos(lat)


def plane(crs, lonlat, down, along=None, angle=0.0, shape=(40, 60)):
    """A plane of `down` x `along` units whose centre is at `lonlat`."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat)
    to_centre = Affine.translation(-shape[1] / 2, -shape[0] / 2)
    pixel = Affine.scale(along or down, -down)
    return GeoBox(shape, Affine.translation(x, y) * Affine.rotation(angle) * pixel * to_centre, crs)


def test_banepa_in_web_mercator():
    down, along = ground_gsd(plane("EPSG:3857", BANEPA, 0.2986))
    assert down == pytest.approx(0.2645, abs=1.5e-3)
    assert along == pytest.approx(0.2645, abs=1.5e-3)


@given(st.floats(-75, 75), st.floats(-179, 179), st.floats(0.1, 20))
@settings(max_examples=30, deadline=None)
def test_web_mercator_anywhere(lat, lon, unit):
    m, n = radii(math.radians(lat))
    down, along = ground_gsd(plane("EPSG:3857", (lon, lat), unit))
    assert down == pytest.approx(unit * m * math.cos(math.radians(lat)) / A, rel=1e-5)
    assert along == pytest.approx(unit * n / A, rel=1e-5)


@given(st.floats(-75, 75), st.floats(-179, 179), st.floats(1e-6, 1e-4), st.floats(1e-6, 1e-4))
@settings(max_examples=30, deadline=None)
def test_degrees_anywhere(lat, lon, down, along):
    m, n = radii(math.radians(lat))
    found = ground_gsd(plane("EPSG:4326", (lon, lat), down, along))
    assert found == pytest.approx((math.radians(down) * m, math.radians(along) * n), rel=1e-4)


@pytest.mark.parametrize(("crs", "lonlat"), [("EPSG:2154", FOREZ), ("EPSG:32631", FOREZ)])
@pytest.mark.parametrize("angle", [0, 30, 90, 200])
def test_conformal_projections(crs, lonlat, angle):
    scale = Proj(crs).get_factors(*lonlat).meridional_scale
    found = ground_gsd(plane(crs, lonlat, 0.5, 0.8, angle))
    assert found == pytest.approx((0.5 / scale, 0.8 / scale), rel=2e-5)
    assert found != pytest.approx((0.5, 0.8), rel=2e-5)


@pytest.mark.parametrize("crs", ["EPSG:2154", "EPSG:32631", "EPSG:3857", "EPSG:4326"])
def test_a_whole_row_is_so_many_pixels_long(crs):
    unit = 1e-5 if crs == "EPSG:4326" else 1.0
    box = plane(crs, FOREZ, unit, angle=10, shape=(101, 203))
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    ends = [to_lonlat.transform(*(box.affine * p)) for p in ((0, 50.5), (203, 50.5))]
    length = Geod(ellps="WGS84").inv(*ends[0], *ends[1])[2]
    assert ground_gsd(box)[1] * 203 == pytest.approx(length, rel=1e-5)


def test_a_quarter_turn_in_degrees_exchanges_the_sides():
    m, n = radii(math.radians(BANEPA[1]))
    down, along = ground_gsd(plane("EPSG:4326", BANEPA, 1e-5, angle=90))
    unit = math.radians(1e-5)
    assert (down, along) == pytest.approx((unit * n, unit * m), rel=1e-4)


def test_south_up_pixels_have_a_size_too():
    box = GeoBox((10, 10), Affine(0.5, 0, 789_000, 0, 0.5, 6_501_000), "EPSG:2154")
    assert ground_gsd(box) == pytest.approx((0.5, 0.5), rel=2e-3)


@pytest.mark.parametrize("side", [1, 2])
def test_one_pixel_is_enough(side):
    assert ground_gsd(plane("EPSG:2154", FOREZ, 0.5, shape=(side, 1)))[0] == pytest.approx(
        0.5, rel=2e-3
    )


def test_no_crs_is_an_error():
    with pytest.raises(GridError, match="no CRS"):
        ground_gsd(GeoBox((10, 10), Affine(1, 0, 0, 0, -1, 0), None))


@pytest.mark.parametrize("corner", [1e9, 1e12, math.inf])
def test_a_place_that_is_not_on_earth_is_an_error(corner):
    with pytest.raises(GridError, match="transform or CRS is wrong"):
        ground_gsd(GeoBox((3, 4), Affine(0.5, 0, corner, 0, -0.5, corner), "EPSG:32631"))
