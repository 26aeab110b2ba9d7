"""The polygons that limit labels: all layers of a file, in any format that labels have."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from conftest import place

from geopipe.classes import load_scheme
from geopipe.errors import LabelError
from geopipe.labels import open_labels
from geopipe.labels.area import Area, ClippedLabels

WEST = place(shapely.box(-10, -10, 100, 160))
EAST = place(shapely.box(100, -10, 210, 160))


def frame(*shapes, crs="EPSG:2154"):
    names = [f"part {i}" for i in range(len(shapes))]
    return gpd.GeoDataFrame({"name": names}, geometry=list(shapes), crs=crs)


def test_a_repaired_polygon_counts(tmp_path, plane):
    """Repairs leave collections: the polygon, and its spike as a line."""
    both = shapely.GeometryCollection([shapely.MultiPolygon([WEST]), WEST.exterior])
    frame(shapely.GeometryCollection([both])).to_parquet(tmp_path / "a.parquet")
    inside = Area.open(tmp_path / "a.parquet", plane).inside(plane)
    assert (inside[:, :200].all(), inside[:, 200:].any()) == (True, False)


def test_every_layer_counts(tmp_path, plane):
    path = tmp_path / "a.gpkg"
    frame(WEST.centroid).to_file(path, layer="points")
    frame(WEST).to_file(path, layer="west")
    frame(EAST).to_crs(4326).to_file(path, layer="east")
    assert Area.open(path, plane).inside(plane).all()


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.parquet", "a.shp"])
def test_formats_agree(tmp_path, plane, name):
    path, west = tmp_path / name, frame(WEST)
    west.to_parquet(path) if name.endswith("parquet") else west.to_file(path)
    inside = Area.open(path, plane).inside(plane)
    assert inside[:, :200].all()
    assert not inside[:, 200:].any()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "is empty"),
        ([WEST.exterior], "holds no polygon, but 1 x closed line"),
        ([WEST.centroid, EAST.centroid], "holds no polygon, but 2 x point"),
        ([shapely.box(0, 0, 1, 1)], "none of the 1 polygons .* lies on the scene"),
    ],
)
def test_why_there_is_no_area(tmp_path, plane, shapes, message):
    frame(*shapes).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(LabelError, match=message):
        Area.open(tmp_path / "a.parquet", plane)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_polygons_without_a_place_are_not_passed_over(tmp_path, plane):
    path = tmp_path / "a.gpkg"
    frame(WEST).to_file(path, layer="west")
    frame(EAST, crs=None).to_file(path, layer="east")
    with pytest.raises(LabelError, match="layer 'east', has no CRS"):
        Area.open(path, plane)


def test_no_file(tmp_path, plane):
    with pytest.raises(LabelError, match="there is no file"):
        Area.open(tmp_path / "a.gpkg", plane)
    (tmp_path / "a.gpkg").write_bytes(np.arange(99, dtype=np.uint8).tobytes())
    with pytest.raises(LabelError, match="cannot read"):
        Area.open(tmp_path / "a.gpkg", plane)


def test_what_labels_in_an_area_leave_out_is_not_lost(tmp_path, plane):
    houses = frame(WEST, EAST).assign(**{"class": ["building", "buildng"]})
    houses.to_file(tmp_path / "l.gpkg")
    labels = open_labels(tmp_path / "l.gpkg", load_scheme("buildings"), plane)
    frame(WEST).to_file(tmp_path / "a.gpkg")
    clipped = ClippedLabels(labels, Area.open(tmp_path / "a.gpkg", plane))
    assert dict(clipped.skipped) == {"class 'buildng' that the scheme does not have": 1}


def test_labels_around_the_scene_are_not_said_to_lie_elsewhere(tmp_path, plane):
    left, bottom, right, top = plane.extent.boundingbox
    corners = [(left - 45, top + 45), (right + 45, bottom - 45)]
    houses = frame(*(shapely.box(x - 9, y - 9, x + 9, y + 9) for x, y in corners))
    houses.assign(building="yes").to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelError, match=r"l.gpkg lies on the scene itself, only around it"):
        open_labels(tmp_path / "l.gpkg", load_scheme("buildings"), plane)
