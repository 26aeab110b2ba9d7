"""A scene's plane of 400 x 300 half-metre pixels in Lambert-93, and a map drawn on it."""

import geopandas as gpd
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.classes import load_scheme

LEFT, TOP = 789_000.0, 6_501_000.0


def place(shape):
    """Metres east and south of the corner -> Lambert-93."""
    return shapely.transform(shape, lambda p: p * (1, -1) + (LEFT, TOP))


@pytest.fixture(scope="session")
def scheme():
    return load_scheme("buildings-roads")


@pytest.fixture(scope="session")
def plane():
    return GeoBox((300, 400), Affine(0.5, 0, LEFT, 0, -0.5, TOP), "EPSG:2154")


@pytest.fixture(scope="session")
def mapped():
    """Buildings (one with a hole, one tagged no) and roads (one a tunnel, one a bridge)."""
    court = shapely.Polygon(
        [(20, 20), (60, 20), (60, 50), (20, 50)], [[(30, 30), (50, 30), (50, 40), (30, 40)]]
    )
    rows = [
        ("yes", None, None, None, court),
        ("house", None, None, None, shapely.box(100, 60, 110, 75)),
        ("no", None, None, None, shapely.box(150, 20, 170, 40)),
        (None, "residential", None, None, shapely.LineString([(5, 70), (190, 70)])),
        (None, "primary", "yes", None, shapely.LineString([(5, 100), (190, 100)])),
        (None, "primary", None, "yes", shapely.LineString([(5, 120), (190, 120)])),
        (None, "footway", None, None, shapely.LineString([(5, 140), (190, 140)])),
    ]
    columns = ["building", "highway", "tunnel", "bridge", "geometry"]
    frame = gpd.GeoDataFrame(rows, columns=columns, geometry="geometry", crs="EPSG:2154")
    frame["geometry"] = [place(g) for g in frame.geometry]
    return frame
