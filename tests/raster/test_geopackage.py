"""GeoPackages that GDAL did not finish, and said nothing of."""

import sqlite3
from contextlib import closing

import geopandas as gpd
import pyogrio
import pytest
import shapely

from geopipe.errors import OutputError
from geopipe.raster.geopackage import atomic_geopackage, write_layer


def _write(path, count=3):
    frame = gpd.GeoDataFrame(
        {"n": range(count)}, geometry=[shapely.box(i, 0, i + 1, 1) for i in range(count)], crs=2154
    )
    pyogrio.write_dataframe(frame, path, layer="squares", driver="GPKG")


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("DELETE FROM gpkg_spatial_ref_sys WHERE srs_id = 2154", "gpkg_spatial_ref_sys"),
        ("DELETE FROM gpkg_contents", "gpkg_contents"),
        ("DELETE FROM gpkg_geometry_columns", "has no geometry"),
        ("DELETE FROM gpkg_extensions", "gpkg_extensions lacks layer squares"),
        ("DELETE FROM gpkg_ogr_contents", "gpkg_ogr_contents lacks layer squares"),
        ("UPDATE gpkg_ogr_contents SET feature_count = 2", "has 3 features, 2 counted"),
        ("UPDATE gpkg_contents SET min_x = NULL", "another extent"),
        ("UPDATE gpkg_contents SET max_x = 2", "another extent"),
        ("DROP TABLE rtree_squares_geom", "rtree_squares_geom"),
        ("DROP TRIGGER trigger_delete_feature_count_squares", "trigger_delete"),
        ("DROP TRIGGER rtree_squares_geom_insert", "rtree_squares_geom_insert is missing"),
    ],
)
def test_a_file_that_lacks_what_its_layers_refer_to_does_not_appear(tmp_path, statement, lost):
    def write():
        with atomic_geopackage(tmp_path / "a.gpkg") as part:
            _write(part)
            with closing(sqlite3.connect(part)) as db, db:
                db.execute(statement)

    with pytest.raises(OutputError, match=lost):
        write()
    assert not list(tmp_path.iterdir())


def test_a_file_with_a_damaged_page_does_not_appear(tmp_path):
    def write():
        with atomic_geopackage(tmp_path / "a.gpkg") as part:
            _write(part, 2000)
            data = bytearray(part.read_bytes())
            page = int.from_bytes(data[16:18], "big")
            with closing(sqlite3.connect(part)) as db:
                root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'squares'")
                at = (root.fetchone()[0] - 1) * page
            data[at : at + 12] = b"\xff" * 12
            part.write_bytes(data)

    with pytest.raises(OutputError, match="cannot write"):
        write()
    assert not list(tmp_path.iterdir())


def test_equal_layers_are_equal_bytes(tmp_path):
    for name in ("a.gpkg", "b.gpkg"):
        with atomic_geopackage(tmp_path / name) as part:
            _write(part)
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()


def test_layers_of_one_file_are_of_the_version_that_old_qgis_knows(tmp_path):
    path = tmp_path / "a.gpkg"
    for name in ("one", "two"):
        write_layer(gpd.GeoDataFrame(geometry=[shapely.Point(1, 2)], crs=2154), path, name)
    assert [name for name, _ in pyogrio.list_layers(path)] == ["one", "two"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (10200,)
