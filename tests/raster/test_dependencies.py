"""What a step depends on: sources, companions and journals of the files that it names."""

import sqlite3
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from geopipe.raster.dependencies import files_of
from geopipe.workflow.steps import Step, is_current, run_step

RASTER_VRT = (
    "<VRTDataset rasterXSize='20' rasterYSize='10'><SRS>EPSG:2154</SRS>"
    "<GeoTransform>0, 1, 0, 10, 0, -1</GeoTransform><VRTRasterBand dataType='Byte' band='1'>"
    "<SimpleSource><SourceFilename relativeToVRT='1'>{}</SourceFilename><SourceBand>1</SourceBand>"
    "</SimpleSource></VRTRasterBand></VRTDataset>"
)
VECTOR_VRT = (
    "<OGRVRTDataSource><OGRVRTUnionLayer name='all'><OGRVRTLayer name='b'>"
    "<SrcDataSource relativeToVRT='1'>{}</SrcDataSource></OGRVRTLayer></OGRVRTUnionLayer>"
    "</OGRVRTDataSource>"
)


def raster(path, **more):
    driver = {".tif": "GTiff", ".png": "PNG"}[path.suffix]
    with rasterio.open(
        path,
        "w",
        driver=driver,
        count=1,
        height=10,
        width=20,
        dtype="uint8",
        crs="EPSG:2154",
        transform=Affine(1, 0, 0, 0, -1, 10),
        **more,
    ) as dst:
        dst.write(np.ones((1, 10, 20), np.uint8))
    return path


def vectors(path, **more):
    gpd.GeoDataFrame({"building": ["yes"]}, geometry=[shapely.box(0, 0, 5, 5)], crs=2154).to_file(
        path, **more
    )
    return path


def touched(path):
    path.write_bytes(path.read_bytes() + b" ")


def current(path, records):
    """Whether a step that reads `path` need not run; it has run afterwards."""
    out = records.with_suffix(".txt")
    step = Step("s", files_of(path), {}, [out], lambda _: out.write_text("made") and None)
    known = is_current(step, records)
    run_step(step, records)
    return known


@pytest.fixture
def files(tmp_path):
    """File that is named -> those whose change must be seen."""
    raster(tmp_path / "part.tif")
    (tmp_path / "mosaic.vrt").write_text(RASTER_VRT.format("part.tif"))
    (tmp_path / "nested.vrt").write_text(RASTER_VRT.format("mosaic.vrt"))
    vectors(tmp_path / "houses.shp")
    vectors(tmp_path / "mapinfo.tab", driver="MapInfo File")
    vectors(tmp_path / "houses.gpkg", layer="b")
    (tmp_path / "vectors.vrt").write_text(VECTOR_VRT.format("houses.shp"))
    (tmp_path / "deep.vrt").write_text(VECTOR_VRT.format("vectors.vrt"))
    return {
        "mosaic.vrt": ["mosaic.vrt", "part.tif"],
        "nested.vrt": ["nested.vrt", "mosaic.vrt", "part.tif"],
        "houses.shp": ["houses.shp", "houses.dbf", "houses.shx", "houses.prj"],
        "mapinfo.tab": ["mapinfo.tab", "mapinfo.dat", "mapinfo.map", "mapinfo.id"],
        "vectors.vrt": ["vectors.vrt", "houses.shp", "houses.dbf", "houses.prj"],
        "deep.vrt": ["deep.vrt", "vectors.vrt", "houses.dbf"],
    }


def test_a_change_of_any_of_them_is_seen(tmp_path, files):
    for name, sources in files.items():
        path, records = tmp_path / name, tmp_path / f"steps-{name}"
        assert not current(path, records)
        assert current(path, records), name
        for source in sources:
            assert tmp_path / source in files_of(path)
            touched(tmp_path / source)
            assert not current(path, records), f"{source} of {name}"
            assert current(path, records), f"{source} of {name}"


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("a.tif", "a.tif.msk"),
        ("a.tif", "a.tif.aux.xml"),
        ("a.tif", "a.tif.ovr"),
        ("a.tif", "a.tfw"),
        ("a.png", "a.pgw"),
        ("a.png", "a.prj"),
        ("a.png", "a.wld"),
        ("a.png", "a.PGW"),
        ("a.gpkg", "a.gpkg-wal"),
        ("a.gpkg", "a.gpkg-journal"),
        ("a.geojson", "a.gfs"),
    ],
)
def test_companions_that_come_change_and_go(tmp_path, name, beside):
    path, companion, records = tmp_path / name, tmp_path / beside, tmp_path / "steps"
    raster(path) if path.suffix in (".tif", ".png") else vectors(path)
    companion.unlink(missing_ok=True)
    (tmp_path / "unlike.txt").write_text("x")
    current(path, records)
    assert current(path, records)
    for change in (
        lambda: companion.write_bytes(b"\n"),
        lambda: touched(companion),
        companion.unlink,
    ):
        change()
        assert not current(path, records)
        assert current(path, records)
    touched(tmp_path / "unlike.txt")
    assert current(path, records)


def test_changes_that_sqlite_has_not_merged_yet(tmp_path):
    path, records = vectors(tmp_path / "a.gpkg", layer="b"), tmp_path / "steps"
    editing = sqlite3.connect(path, isolation_level=None)
    editing.execute("pragma journal_mode=wal")
    editing.execute("pragma wal_autocheckpoint=0")
    editing.execute("create table notes(x)")
    current(path, records)
    assert current(path, records)
    before = path.read_bytes()
    editing.execute("insert into notes values (1)")
    assert path.read_bytes() == before
    assert not current(path, records)
    editing.close()


def test_a_file_that_is_not_there_or_refers_to_itself(tmp_path):
    assert files_of(tmp_path / "none.gpkg") == [tmp_path / "none.gpkg"]
    loop = tmp_path / "loop.vrt"
    loop.write_text(VECTOR_VRT.format("loop.vrt"))
    assert files_of(loop) == [loop]
    away = tmp_path / "away.vrt"
    away.write_text(VECTOR_VRT.format("/vsicurl/https://example.org/a.gpkg"))
    assert files_of(away) == [away]
    assert all(isinstance(p, Path) for p in files_of(away))
