"""Vector files: every format the same labels; what cannot be used says why."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from conftest import place
from odc.geo.geobox import GeoBox

from geopipe.errors import LabelError
from geopipe.labels import VectorLabels, open_labels

CREDIT = "(c) OpenStreetMap contributors, ODbL 1.0"


def at(ids, east, south):
    """The class at metres from the upper left corner (half-metre pixels)."""
    return ids[round(south * 2), round(east * 2)]


def write(frame, path, **more):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".geojson":
        frame.to_crs(4326).to_file(path, driver="GeoJSON", COORDINATE_PRECISION=9, **more)
    else:
        frame.to_file(path, **more)
    return path


def parts(frame):
    return frame[frame.building.notna()], frame[frame.highway.notna()]


@pytest.fixture
def reference(tmp_path, mapped, scheme, plane):
    return open_labels(write(mapped, tmp_path / "reference.gpkg"), scheme, plane)


def test_the_drawn_map_is_burned_as_meant(reference, plane):
    ids = reference.read(plane)
    assert ids.dtype == np.uint8
    assert ids.shape == (300, 400)
    assert at(ids, 25, 25) == 1
    assert at(ids, 40, 35) == 0  # the court
    assert at(ids, 105, 70) == 1  # a building over a road
    assert at(ids, 80, 70) == 2
    assert at(ids, 80, 73.2) == 2
    assert at(ids, 80, 74) == 0
    assert at(ids, 80, 100) == 0  # tunnel
    assert at(ids, 80, 120) == 2  # bridge
    assert at(ids, 80, 140) == 0  # footway
    assert at(ids, 160, 30) == 0  # building=no
    assert reference.counts == (0, 2, 2)
    assert reference.skipped == (("highway of a kind that no rule names (footway)", 1),)
    assert reference.credit == ""
    assert isinstance(reference, VectorLabels)


@pytest.mark.parametrize("name", ["a.geojson", "a.parquet", "a.fgb", "a.gpkg"])
def test_formats_agree(tmp_path, mapped, scheme, plane, reference, name):
    labels = open_labels(write(mapped, tmp_path / name), scheme, plane)
    np.testing.assert_array_equal(labels.read(plane), reference.read(plane))


def test_layers_are_read_together_or_one_by_one(tmp_path, mapped, scheme, plane, reference):
    path = tmp_path / "two.gpkg"
    houses, roads = parts(mapped)
    write(houses.to_crs(3857), path, layer="houses")
    write(roads.to_crs(4326), path, layer="roads")
    both = open_labels(path, scheme, plane)
    # Sides of a building are straight in one CRS only; here that is less than a pixel.
    assert (both.read(plane) != reference.read(plane)).sum() < 20
    assert open_labels(path, scheme, plane, layer="roads").counts == (0, 0, 2)
    with pytest.raises(LabelError, match=r"layer 'rivers'.*houses, roads"):
        open_labels(path, scheme, plane, layer="rivers")


def test_shapefiles_with_shouting_columns(tmp_path, mapped, scheme, plane, reference):
    shouting = mapped.rename(columns={c: c.upper() for c in mapped.columns[:4]})
    houses, roads = (shouting[shouting[c].notna()] for c in ("BUILDING", "HIGHWAY"))
    found = []
    for frame, name in ((houses, "houses.shp"), (roads, "roads.shp")):
        found.append(open_labels(write(frame, tmp_path / name), scheme, plane).read(plane))
    np.testing.assert_array_equal(np.where(found[0] == 1, 1, found[1]), reference.read(plane))


def test_tags_in_hstore_columns(tmp_path, mapped, scheme, plane, reference):
    tags = [
        ",".join(f'"{k}"=>"{v}"' for k, v in row.items() if isinstance(v, str))
        for row in mapped.drop(columns="geometry").to_dict("records")
    ]
    bundled = gpd.GeoDataFrame({"other_tags": tags}, geometry=mapped.geometry, crs=mapped.crs)
    labels = open_labels(write(bundled, tmp_path / "gdal.gpkg"), scheme, plane)
    np.testing.assert_array_equal(labels.read(plane), reference.read(plane))
    assert labels.credit == CREDIT


def test_written_out_nones_are_no_tags(tmp_path, mapped, scheme, plane, reference):
    written = mapped.copy()
    written[["building", "highway", "tunnel"]] = written[["building", "highway", "tunnel"]].fillna(
        "None"
    )
    labels = open_labels(write(written, tmp_path / "none.geojson"), scheme, plane)
    np.testing.assert_array_equal(labels.read(plane), reference.read(plane))


def test_a_class_column_decides_alone(tmp_path, mapped, scheme, plane):
    given = mapped.iloc[[0, 1, 2, 4, 6]].copy()
    given["Class"] = ["building", "Building", "road", "road", "water"]
    labels = open_labels(write(given, tmp_path / "truth.gpkg"), scheme, plane)
    ids = labels.read(plane)
    assert at(ids, 160, 30) == 2  # a polygon of roads
    assert at(ids, 80, 100) == 2  # a line as wide as the rule says
    assert at(ids, 80, 103) == 2
    assert at(ids, 80, 104) == 0
    assert labels.counts == (0, 2, 2)
    assert labels.skipped == (("class 'water' that the scheme does not have", 1),)
    assert labels.credit == ""


def test_closed_lines_are_buildings_and_points_are_counted(tmp_path, mapped, scheme, plane):
    house, road = mapped.geometry.iloc[1], mapped.geometry.iloc[3]
    rows = [house.exterior, house.centroid, road, house, house.buffer(1), None]
    tags = {"building": ["yes", "yes", "yes", None, None, "yes"], "highway": [None] * 3}
    tags["highway"] += ["residential", "footway", None]
    frame = gpd.GeoDataFrame(tags, geometry=rows, crs=mapped.crs)
    labels = open_labels(write(frame, tmp_path / "odd.gpkg"), scheme, plane)
    assert labels.counts == (0, 1, 0)
    assert (labels.read(plane) == 1).sum() == 10 * 15 * 4
    assert dict(labels.skipped) == {
        "highway of a kind that no rule names (footway)": 1,
        "point where a polygon is wanted": 1,
        "line where a polygon is wanted": 1,
        "polygon where a line is wanted": 1,
    }


def test_width_and_lanes_columns(tmp_path, mapped, scheme, plane):
    road = mapped.geometry.iloc[3]
    frame = gpd.GeoDataFrame(
        {"highway": ["primary"], "width": [11.0], "lanes": [4]}, geometry=[road], crs=mapped.crs
    )
    labels = open_labels(write(frame, tmp_path / "wide.gpkg"), scheme, plane)
    assert labels.shapes[0].area == pytest.approx(11 * road.length, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("osm_roads.gpkg", None, None),
        ("a.gpkg", "osm_id", [1]),
        ("a.gpkg", "id", ["way/14296998"]),
        ("a.gpkg", "@id", ["way/14296998"]),
    ],
)
def test_osm_is_credited(tmp_path, mapped, scheme, plane, name, column, values):
    frame = mapped.iloc[[3]].copy()
    if column:
        frame[column] = values
    assert open_labels(write(frame, tmp_path / name), scheme, plane).credit == CREDIT


def test_a_name_like_cosmos_is_not_osm(tmp_path, mapped, scheme, plane):
    assert open_labels(write(mapped, tmp_path / "cosmos.gpkg"), scheme, plane).credit == ""


def test_labels_elsewhere(tmp_path, mapped, scheme, plane):
    moved = mapped.copy()
    moved["geometry"] = moved.translate(50_000, 0)
    for name in ("far.gpkg", "far.parquet"):
        with pytest.raises(
            LabelError, match=r"labels do not overlap the scene.*lon 4\.78.*lon 4\.14"
        ):
            open_labels(write(moved, tmp_path / name), scheme, plane)
    moved["osm_id"] = 1
    with pytest.raises(LabelError, match="OSM does not overlap the scene"):
        open_labels(write(moved, tmp_path / "osm.gpkg"), scheme, plane)


def test_features_beside_the_scene_are_dropped(tmp_path, mapped, scheme, plane):
    beside = mapped.copy()
    beside["geometry"] = beside.translate(-230, 0)
    both = gpd.GeoDataFrame(np.concatenate([mapped, beside]), columns=mapped.columns)
    both = both.set_geometry("geometry").set_crs(mapped.crs)
    labels = open_labels(write(both, tmp_path / "both.gpkg"), scheme, plane)
    assert labels.counts == (0, 2, 2)


def test_no_crs(tmp_path, mapped, scheme, plane):
    bare = mapped.set_crs(None, allow_override=True)
    houses = parts(bare)[0]
    for path in (tmp_path / "bare.parquet", tmp_path / "bare.shp"):
        with pytest.raises(LabelError, match="has no CRS"):
            open_labels(write(houses, path), scheme, plane)


def test_no_usable_column(tmp_path, mapped, scheme, plane):
    footprints = gpd.GeoDataFrame(
        {"height": [3.0], "class": ["x"]}, geometry=mapped.geometry[:1], crs=mapped.crs
    )
    with pytest.raises(LabelError, match=r"class \(x\), height \(3\).*building, highway.*'class'"):
        open_labels(write(footprints, tmp_path / "f.gpkg"), scheme, plane)
    with pytest.raises(LabelError, match=r"height.*building, highway"):
        open_labels(write(footprints.drop(columns="class"), tmp_path / "g.gpkg"), scheme, plane)


def test_nothing_that_any_rule_wants(tmp_path, mapped, scheme, plane):
    with pytest.raises(LabelError, match="no feature has tags"):
        open_labels(write(mapped.iloc[[2, 6]], tmp_path / "n.gpkg"), scheme, plane)
    points = mapped.iloc[[0]].copy()
    points["geometry"] = points.centroid
    with pytest.raises(LabelError, match="1 x point where a polygon is wanted"):
        open_labels(write(points, tmp_path / "p.gpkg"), scheme, plane)


@pytest.mark.parametrize(
    "name", ["a.gpkg", "a.geojson", "a.parquet", "a.osm", "a.osm.pbf", "a.tif"]
)
def test_files_that_are_not_what_they_say(tmp_path, scheme, plane, name):
    with pytest.raises(LabelError, match="there is no file"):
        open_labels(tmp_path / name, scheme, plane)
    (tmp_path / name).write_bytes(b"certainly nothing of the kind" * 9)
    with pytest.raises(LabelError, match="cannot read"):
        open_labels(tmp_path / name, scheme, plane)


def test_parquet_without_geometry(tmp_path, mapped, scheme, plane):
    mapped.drop(columns="geometry").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(LabelError, match="without geometries"):
        open_labels(tmp_path / "t.parquet", scheme, plane)


def test_a_polygon_around_the_whole_scene(tmp_path, scheme, plane):
    frame = gpd.GeoDataFrame(
        {"building": ["yes"]}, geometry=[shapely.box(3, 45, 5, 46)], crs="EPSG:4326"
    )
    labels = open_labels(write(frame, tmp_path / "big.gpkg"), scheme, plane)
    assert (labels.read(plane) == 1).all()


def test_a_shapefile_with_text_in_another_encoding_than_it_names(
    tmp_path, mapped, scheme, plane, reference, caplog
):
    houses = parts(mapped)[0]
    houses = houses.assign(building=houses.building.replace("yes", "église"))
    path = write(houses, tmp_path / "a.shp", encoding="ISO-8859-1")
    path.with_suffix(".cpg").write_text("UTF-8")
    labels = open_labels(path, scheme, plane)
    ids, expected = labels.read(plane), reference.read(plane)
    np.testing.assert_array_equal(ids == 1, expected == 1)
    assert "read as Latin-1" in caplog.text


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb"])
def test_shapes_whose_coordinates_are_no_numbers_are_left_out(
    tmp_path, mapped, scheme, plane, reference, caplog, number, suffix
):
    houses = mapped[mapped.building.notna()]
    strange = houses.iloc[:1].copy()
    corners = shapely.get_coordinates(strange.geometry.iloc[0])
    corners[1, 0] = number
    strange.geometry = [shapely.Polygon(corners)]
    layer = pd.concat([mapped, strange], ignore_index=True).set_crs(mapped.crs)
    options = {} if suffix == ".gpkg" else {"SPATIAL_INDEX": "NO"}
    path = write(layer, tmp_path / f"a{suffix}", **options)
    labels = open_labels(path, scheme, plane)
    np.testing.assert_array_equal(labels.read(plane), reference.read(plane))
    assert "of 1 shapes are no numbers" in caplog.text


def test_what_another_layer_says_is_counted(tmp_path, scheme, plane):
    houses = [place(shapely.box(20 * i, 10, 20 * i + 8, 18)) for i in range(4)]
    for layer, columns in (
        ("a", {"class": ["building", "building"]}),
        ("b", {"class": ["Bulding", "Bulding"]}),
        ("grid", {"row": [1, 2]}),
    ):
        frame = gpd.GeoDataFrame(columns, geometry=houses[:2], crs="EPSG:2154")
        frame.to_file(tmp_path / "a.gpkg", layer=layer)
    labels = open_labels(tmp_path / "a.gpkg", scheme, plane)
    assert labels.counts == (0, 2, 0)
    assert dict(labels.skipped) == {
        "class 'Bulding' that the scheme does not have": 2,
        f"of {tmp_path / 'a.gpkg'}, layer 'grid', which does not say a class": 2,
    }


def test_a_file_without_features_or_geometries(tmp_path, scheme, plane):
    empty = gpd.GeoDataFrame({"building": []}, geometry=[], crs="EPSG:2154")
    empty.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(LabelError, match="holds no feature"):
        open_labels(tmp_path / "a.parquet", scheme, plane)
    (tmp_path / "a.csv").write_text('building,geometry\nyes,"POINT (1 2)"\n')
    with pytest.raises(LabelError, match="has no geometries that GDAL finds") as e:
        open_labels(tmp_path / "a.csv", scheme, plane)
    assert "GEOM_POSSIBLE_NAMES" in e.value.hint


def test_json_of_overpass_is_named(tmp_path, scheme, plane):
    (tmp_path / "a.json").write_text('{"version": 0.6, "osm3s": {}, "elements": [{"id": 1}]}')
    with pytest.raises(LabelError) as e:
        open_labels(tmp_path / "a.json", scheme, plane)
    assert "[out:xml]" in e.value.hint


def test_a_promoted_ring_is_a_house(tmp_path, scheme, plane):
    ring = place(shapely.box(10, 10, 30, 30)).exterior
    open_ = shapely.LineString(ring.coords[:-1])
    shapes = [shapely.MultiLineString([ring]), shapely.MultiLineString([open_])]
    frame = gpd.GeoDataFrame({"building": ["yes", "yes"]}, geometry=shapes, crs="EPSG:2154")
    labels = open_labels(write(frame, tmp_path / "a.gpkg"), scheme, plane)
    assert labels.counts == (0, 1, 0)
    assert (labels.read(plane) == 1).sum() == 40 * 40
    assert labels.skipped == (("line where a polygon is wanted", 1),)


@pytest.mark.parametrize(
    "columns",
    [
        {"@osmId": "way/1"},
        {"element": "way", "id": 7},
        {"type": "way", "id": 7, "tags": '{"building": "yes"}'},
    ],
)
def test_openstreetmap_is_named_whoever_wrote_the_table(tmp_path, mapped, scheme, plane, columns):
    path = write(mapped.assign(**columns), tmp_path / "town.gpkg")
    assert open_labels(path, scheme, plane).credit == CREDIT
    own = {k: v for k, v in columns.items() if k in ("id", "type")}
    assert open_labels(write(mapped.assign(**own), path), scheme, plane).credit == ""


@pytest.mark.parametrize("value", ["planned", "destroyed", "razed", "removed", "demolished"])
def test_houses_that_are_not_there(tmp_path, mapped, scheme, plane, value):
    gone = mapped.assign(building=mapped.building.where(mapped.building != "house", value))
    labels = open_labels(write(gone, tmp_path / "a.gpkg"), scheme, plane)
    assert labels.counts == (0, 1, 2)


def test_mercator_across_the_antimeridian(tmp_path, scheme):
    """The box around the scene goes around the Earth there."""
    rim = 20_037_508.34
    for left in (rim - 20, rim - 180, -rim - 20):
        plane = GeoBox((100, 400), Affine(0.5, 0, left, 0, -0.5, 100_000), "EPSG:3857")
        houses = [shapely.box(left + x, 99_960, left + x + 10, 99_970) for x in range(5, 190, 20)]
        tags = {"building": ["yes"] * len(houses)}
        frame = gpd.GeoDataFrame(tags, geometry=houses, crs="EPSG:3857")
        labels = open_labels(write(frame, tmp_path / "a.gpkg"), scheme, plane)
        assert labels.counts == (0, len(houses), 0)
        assert (labels.read(plane) == 1).sum() == len(houses) * 400


def test_a_repaired_house_is_a_house(tmp_path, mapped, scheme, plane, reference):
    """Shapely makes a collection of a polygon with a spike: the polygon, and the spike."""
    shapes = [
        shapely.GeometryCollection([g, g.boundary]) if g.geom_type == "Polygon" else g
        for g in mapped.geometry
    ]
    labels = open_labels(write(mapped.set_geometry(shapes), tmp_path / "a.gpkg"), scheme, plane)
    np.testing.assert_array_equal(labels.read(plane), reference.read(plane))
    assert labels.skipped == reference.skipped
