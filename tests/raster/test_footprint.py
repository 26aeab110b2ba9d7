"""Footprints of scenes at the 180th meridian and at the poles."""

import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.raster.footprint import footprint


def plane(crs, left, top, px, size=100):
    return GeoBox((size, size), Affine(px, 0, left, 0, -px, top), crs)


def checked(geobox):
    """The shape, after what RFC 7946 and STAC ask of it."""
    geometry, bbox = footprint(geobox)
    shape = shapely.geometry.shape(geometry)
    assert shape.is_valid
    west, south, east, north = bbox
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert -90 <= south < north <= 90
    rings = geometry["coordinates"]
    for ring in rings if geometry["type"] == "Polygon" else [r for part in rings for r in part]:
        assert ring[0] == ring[-1]
        assert shapely.LinearRing(ring).is_ccw
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
    return shape, bbox


@pytest.mark.parametrize("turn", [-720 + 360, 0, 360])
def test_degrees_that_run_past_180(turn):
    shape, bbox = checked(plane("EPSG:4326", 179.95 + turn, -17, 0.001))
    assert bbox == pytest.approx([179.95, -17.1, -179.95, -17.0])
    assert shape.geom_type == "MultiPolygon"
    assert shape.area == pytest.approx(0.01)


@pytest.mark.parametrize("left", [200.0, -160.0, -520.0])
def test_degrees_beyond_180_alone(left):
    shape, bbox = checked(plane("EPSG:4326", left, 10, 0.001))
    assert bbox == pytest.approx([-160.0, 9.9, -159.9, 10.0])
    assert shape.geom_type == "Polygon"


def test_metres_across_180():
    shape, bbox = checked(plane("EPSG:32701", 165_000, 8_120_000, 200))
    assert shape.geom_type == "MultiPolygon"
    assert bbox[0] > 179
    assert bbox[2] < -179
    assert sum(abs(b) for b in (bbox[0] - 180, bbox[2] + 180)) == pytest.approx(0.19, abs=0.01)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90.0), ("EPSG:3031", -90.0)])
def test_around_a_pole(crs, pole):
    shape, bbox = checked(plane(crs, -10_000, 10_000, 200))
    assert bbox[0::2] == [-180.0, 180.0]
    assert bbox[3 if pole > 0 else 1] == pole
    assert abs(bbox[1 if pole > 0 else 3]) == pytest.approx(89.87, abs=0.01)
    for lon in (-179.9, -90, 0, 90, 179.9):
        assert shape.contains(shapely.Point(lon, pole * 89.95 / 90))


def test_beside_a_pole():
    _, bbox = checked(plane("EPSG:3413", 50_000, -50_000, 100))
    assert bbox[3] < 89.5
    assert bbox[2] - bbox[0] < 20


@pytest.mark.parametrize("left", [-180.0, 0.0, -180.05])
def test_the_whole_world(left):
    shape, bbox = checked(plane("EPSG:4326", left, 90, 3.6 if left > -180.01 else 3.601, 100))
    assert bbox[0::2] == [-180.0, 180.0]
    assert shape.area > 360 * 170
