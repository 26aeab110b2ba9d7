"""Vectors that do not say what class they are, and users who do."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geopipe.errors import ConfigError, LabelError
from geopipe.labels import open_labels
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables

LEFT, TOP = 789_000.0, 6_501_000.0
COLUMNS = [{}, {"osm_id": [4, 5]}, {"class": [1, 1]}, {"DN": [255, 255]}, {"class": ["x", "road"]}]


def place(shape):
    """Metres east and south of the corner of the plane -> Lambert-93."""
    return shapely.transform(shape, lambda p: p * (1, -1) + (LEFT, TOP))


@pytest.fixture
def houses():
    return [place(shapely.box(20, 20, 60, 50)), place(shapely.box(100, 60, 110, 75))]


def saved(shapes, path, columns):
    frame = gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:2154")
    frame.to_file(path)
    return path


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp"])
def test_all_are_buildings(tmp_path, houses, scheme, plane, name, columns):
    path = saved(houses, tmp_path / name, columns)
    labels = open_labels(path, scheme, plane, all_are="building")
    assert labels.counts == (0, 2, 0)
    assert np.bincount(labels.read(plane).ravel()).tolist() == [120_000 - 5400, 4 * (1200 + 150)]
    (table,) = open_tables(path, scheme, Extent(plane), all_are="building")
    assert table.class_ids == (1, 1)


def test_lines_take_the_width_of_their_class(tmp_path, scheme, plane):
    path = saved([place(shapely.LineString([(5, 70), (190, 70)]))], tmp_path / "r.gpkg", {"n": [1]})
    labels = open_labels(path, scheme, plane, all_are="road")
    assert (labels.read(plane) == 2).sum() == pytest.approx(185 * 7 * 4, rel=0.01)


@pytest.mark.parametrize(
    ("columns", "described"),
    [
        ({}, "columns are none"),
        ({"osm_id": [4, 5]}, r"osm_id \(4, 5\)"),
        ({"class": [1, 1], "DN": [7, 8]}, r"class \(1\), DN \(7, 8\)"),
        ({"building": [None, "no"]}, None),
    ],
)
def test_the_error_tells_columns_and_values_and_the_way_out(
    tmp_path, houses, scheme, plane, columns, described
):
    path = saved(houses, tmp_path / "a.gpkg", columns)
    if described is None:  # the rules were looked at: the reason is another one
        described = "building"
    with pytest.raises(LabelError, match=described) as told:
        open_labels(path, scheme, plane)
    if described != "building":
        assert "`all_are` building" in told.value.hint


def test_lines_are_not_offered_a_class_of_areas(tmp_path, scheme, plane):
    path = saved([place(shapely.LineString([(5, 70), (190, 70)]))], tmp_path / "r.gpkg", {"n": [1]})
    with pytest.raises(LabelError) as told:
        open_labels(path, scheme, plane)
    assert "`all_are` road" in told.value.hint


def test_where_it_does_not_belong(tmp_path, houses, mapped, scheme, plane, make_raster):
    path = saved(houses, tmp_path / "a.gpkg", {})
    with pytest.raises(ConfigError, match="no class 'house'"):
        open_labels(path, scheme, plane, all_are="house")
    raster = make_raster(np.zeros((1, 300, 400), np.uint8), transform=plane.affine)
    with pytest.raises(LabelError, match="a raster, whose pixels say the class"):
        open_labels(raster, scheme, plane, all_are="building")
