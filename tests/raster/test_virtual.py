"""What a VRT may refer to, and what not."""

import os

import numpy as np
import pytest
import rasterio

from geopipe.errors import SceneError
from geopipe.raster import Scene
from geopipe.raster.remote import consent
from geopipe.raster.scene import opened

DATA = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
PLACE = "<SRS>EPSG:2154</SRS><GeoTransform>789000, 1, 0, 6501000, 0, -1</GeoTransform>"


def vrt(path, source, *, relative=1, band="", more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<VRTDataset rasterXSize='8' rasterYSize='8'>{PLACE}{more}"
        f"<VRTRasterBand dataType='Byte' band='1'{band}><SimpleSource>"
        f"<SourceFilename relativeToVRT='{relative}'>{source}</SourceFilename>"
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def test_mosaics_of_local_files_are_read_wherever_they_lie(tmp_path, make_raster):
    beside = make_raster(DATA, "beside.tif")
    cases = [
        vrt(tmp_path / "m.vrt", "beside.tif"),
        vrt(tmp_path / "deep/er/m.vrt", "../../beside.tif"),
        vrt(tmp_path / "other/m.vrt", beside, relative=0),
        vrt(tmp_path / "nested/n.vrt", "../m.vrt"),
    ]
    for path in cases:
        assert (Scene.open(path).read().data == DATA[:1]).all()


@pytest.mark.parametrize("name", ["m.vrt", "m.tif"])
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("/vsicurl/http://127.0.0.1:9/a.tif", "on a network - --allow-remote"),
        ("http://127.0.0.1:9/a.tif", "on a network - --allow-remote"),
        ("/vsizip//vsicurl/http://127.0.0.1:9/a.zip/a.tif", "on a network - --allow-remote"),
        ("/vsis3/bucket/a.tif", "on a network - --allow-remote"),
        ("WMS:http://127.0.0.1:9/wms?", "which is no file"),
        ("/vsistdin/", "which is no file"),
        ("vrt://a.tif?bands=1", "which is no file"),
        ("/dev/zero", "which is no file"),
        ("pipe", "which is no file"),
        ("outside/secret.txt", "lies outside of its folder"),
    ],
)
def test_what_a_vrt_may_not_refer_to(tmp_path, name, source, says):
    (tmp_path / "vrt").mkdir()
    os.mkfifo(tmp_path / "vrt/pipe")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.txt").write_text("secret" * 100)
    source = source.replace("outside", "../outside")
    direct = vrt(tmp_path / "vrt" / name, source)
    nested = vrt(tmp_path / "vrt/nested.vrt", name)
    for path in (direct, nested):
        with pytest.raises(SceneError) as error:
            Scene.open(path)
        text, _, hint = says.partition(" - ")
        assert text in error.value.message
        assert hint in error.value.hint


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("<PixelFunctionLanguage>Python</PixelFunctionLanguage>", "pixel function in Python"),
        ("<PixelFunctionCode>import os</PixelFunctionCode>", "code of a pixel function"),
        ("<pixelfunctioncode>import os</pixelfunctioncode>", "code of a pixel function"),
        (
            "<Metadata domain='GEOLOCATION'><MDI key='X_DATASET'>/vsicurl/http://h/x</MDI>"
            "</Metadata>",
            "on a network",
        ),
    ],
)
def test_code_and_hidden_sources_are_refused(tmp_path, make_raster, monkeypatch, more, says):
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    make_raster(DATA, "a.tif")
    with pytest.raises(SceneError, match=says):
        Scene.open(vrt(tmp_path / "m.vrt", "a.tif", more=more))


def test_a_document_type_is_refused(tmp_path, make_raster):
    make_raster(DATA, "a.tif")
    path = vrt(tmp_path / "m.vrt", "&amp;x;")
    path.write_text("<!DOCTYPE a [<!ENTITY x 'a.tif'>]>" + path.read_text())
    with pytest.raises(SceneError, match="document type"):
        Scene.open(path)


def test_raw_bytes_of_other_folders_become_no_pixels(tmp_path, make_raster):
    secret = make_raster(DATA, "secret.tif")
    path = tmp_path / "v/m.vrt"
    path.parent.mkdir()
    path.write_text(
        f"<VRTDataset rasterXSize='8' rasterYSize='8'>{PLACE}<VRTRasterBand dataType='Byte' "
        f"band='1' subClass='VRTRawRasterBand'><SourceFilename>{secret}</SourceFilename>"
        "<ImageOffset>0</ImageOffset></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(SceneError, match="lies outside of its folder"):
        Scene.open(path)


def test_with_consent_a_vrt_may_refer_to_the_network(tmp_path):
    path = vrt(tmp_path / "m.vrt", "/vsicurl/http://127.0.0.1:9/a.tif")
    with pytest.raises(SceneError, match="on a network"):
        Scene.open(path)
    with consent(True):
        scene = Scene.open(path)
    assert scene.remote  # travels to workers with the scene
    with pytest.raises(SceneError, match="on a network"), opened(path):
        pass


def test_python_stays_off_whatever_the_environment_says(tmp_path, make_raster):
    from rasterio.env import get_gdal_config

    with opened(make_raster(DATA)):
        assert get_gdal_config("GDAL_VRT_ENABLE_PYTHON", normalize=False) == "NO"


def test_sidecars_reach_no_network(tmp_path, make_raster):
    """Statistics beside a file may name overviews anywhere; GDAL may open none on a network."""
    path = make_raster(DATA)
    path.with_name(path.name + ".aux.xml").write_text(
        "<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>"
        "/vsicurl/http://127.0.0.1:9/o.tif</MDI></Metadata></PAMDataset>"
    )
    with opened(path) as src:
        assert src.overviews(1) == []


def test_drivers_come_back_for_nobody(make_raster):
    with opened(make_raster(DATA)), rasterio.Env() as env:
        assert not {"WMS", "WMTS", "HTTP", "GDALG", "DERIVED", "netCDF"} & set(env.drivers())


def test_chips_that_decompress_to_gigapixels_are_refused(tmp_path):
    from geopipe.raster.chips import Chip

    path = tmp_path / "bomb.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=100_000,
        height=100_000,
        count=1,
        dtype="uint8",
        tiled=True,
        SPARSE_OK=True,
        crs="EPSG:2154",
        transform=rasterio.Affine(1, 0, 0, 0, -1, 9),
    ):
        pass
    with pytest.raises(SceneError, match="too many for a chip"):
        Chip(str(path)).read()
