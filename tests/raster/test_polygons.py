import sqlite3

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pyproj import Geod
from rasterio.features import rasterize

from geopipe.classes import load_scheme
from geopipe.errors import SceneError
from geopipe.raster import polygons
from geopipe.raster.polygons import write_polygons

SCHEME = load_scheme("buildings-roads")
UTM = Affine(0.5, 0, 500_000, 0, -0.5, 9_000_000)


def save(path, ids, transform=UTM, crs="EPSG:32736"):
    with rasterio.open(
        path, "w", driver="GTiff", height=ids.shape[0], width=ids.shape[1], count=1, dtype="uint8",
        nodata=255, crs=crs, transform=transform,
    ) as out:  # fmt: skip
        out.write(ids, 1)
    return path


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ids=arrays(
        np.uint8,
        array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0, 1, 2, 255]),
    ),
    turned=st.booleans(),
)
def test_burning_the_polygons_gives_the_map_back(tmp_path, ids, turned):
    plane = UTM * Affine.rotation(25) if turned else UTM
    target = tmp_path / "classes.gpkg"
    count = write_polygons(save(tmp_path / "m.tif", ids, plane), target, SCHEME, background=True)
    table = pyogrio.read_dataframe(target, layer="classes")
    assert len(table) == count
    assert table.geometry.is_valid.all()
    pairs = zip(table.geometry, table["class_id"], strict=True)
    back = np.full(ids.shape, 255, np.uint8)
    if count:
        back = rasterize(pairs, ids.shape, fill=255, transform=plane, dtype="uint8")
    np.testing.assert_array_equal(back, ids)
    assert [SCHEME.names[i] for i in table["class_id"]] == list(table["class"])


def test_background_is_left_out_unless_asked_for(tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[2:6, 3:13] = 1
    ids[10:12] = 2
    ids[15:, 20:] = 255
    source = save(tmp_path / "m.tif", ids)
    assert write_polygons(source, tmp_path / "a.gpkg", SCHEME) == 2
    assert write_polygons(source, tmp_path / "b.gpkg", SCHEME, background=True) == 4
    table = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="classes").set_index("class")
    assert set(table.index) == {"building", "road"}
    building = table.loc["building"]
    assert building.geometry.equals(shapely.box(500_001.5, 8_999_997, 500_006.5, 8_999_999))
    assert table.crs.to_epsg() == 32736
    # The UTM scale factor at the central meridian is 0.9996: the ground is a little larger.
    assert building["area_m2"] == pytest.approx(10 / 0.9996**2, rel=1e-6)
    assert {p.name for p in tmp_path.iterdir()} == {"m.tif", "a.gpkg", "b.gpkg"}


@pytest.mark.parametrize(
    ("crs", "plane"),
    [
        ("EPSG:4326", Affine(1e-5, 0, 85.5, 0, -1e-5, 27.6)),
        ("EPSG:3857", Affine(0.3, 0, 9_520_000, 0, -0.3, 3_200_000)),
        ("EPSG:32736", UTM),
    ],
)
def test_areas_are_those_on_the_ground(tmp_path, crs, plane):
    ids = np.zeros((400, 300), np.uint8)
    ids[30:350, 40:260] = 1
    ids[100:200, 100:200] = 0
    write_polygons(save(tmp_path / "m.tif", ids, plane, crs), tmp_path / "a.gpkg", SCHEME)
    table = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="classes")
    (outline,) = table.to_crs(4326).geometry
    geodesic, _ = Geod(ellps="WGS84").geometry_area_perimeter(outline)
    assert table["area_m2"][0] == pytest.approx(abs(geodesic), rel=1e-5)


def test_batches_write_the_same_table(tmp_path, monkeypatch):
    ids = np.random.default_rng(0).integers(0, 3, (40, 40)).astype(np.uint8)
    source = save(tmp_path / "m.tif", ids)
    write_polygons(source, tmp_path / "a.gpkg", SCHEME)
    monkeypatch.setattr(polygons, "_BATCH", 7)
    write_polygons(source, tmp_path / "b.gpkg", SCHEME)
    a, b = (pyogrio.read_dataframe(tmp_path / f"{n}.gpkg", layer="classes") for n in "ab")
    assert a.equals(b)


def test_an_empty_map_is_an_empty_layer(tmp_path):
    source = save(tmp_path / "m.tif", np.zeros((9, 9), np.uint8))
    assert write_polygons(source, tmp_path / "a.gpkg", SCHEME) == 0
    table = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="classes")
    assert list(table.columns) == ["class_id", "class", "area_m2", "geometry"]
    assert table.crs.to_epsg() == 32736


def test_the_layer_has_one_default_style(tmp_path):
    source = save(tmp_path / "m.tif", np.ones((9, 9), np.uint8))
    write_polygons(source, tmp_path / "a.gpkg", SCHEME)
    with sqlite3.connect(tmp_path / "a.gpkg") as db:
        rows = db.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
        check = db.execute("PRAGMA integrity_check").fetchone()
    ((table, geometry, default, style),) = rows
    assert (table, default, check) == ("classes", 1, ("ok",))
    assert geometry == pyogrio.read_info(tmp_path / "a.gpkg", layer="classes")["geometry_name"]
    assert "categorizedSymbol" in style


@pytest.mark.parametrize(
    ("ids", "crs", "words"),
    [(np.full((5, 5), 9, np.uint8), "EPSG:32736", "class id 9"), (np.ones((5, 5)), None, "no CRS")],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, ids, crs, words):
    source = save(tmp_path / "m.tif", ids.astype(np.uint8), crs=crs)
    with pytest.raises(SceneError, match=words):
        write_polygons(source, tmp_path / "a.gpkg", SCHEME)
    with pytest.raises(SceneError):
        write_polygons(source, tmp_path / "nowhere" / "a.gpkg", SCHEME)
    assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]
