"""Which paths are addresses, and the options of GDAL for them."""

import pytest
import rasterio

from geopipe.raster import remote

ADDRESSES = [
    "https://a.b/c.tif",
    "http://a.b/c.tif?x=1",
    "s3://bucket/c.tif",
    "gs://bucket/c.tif",
    "az://box/c.tif",
    "/vsicurl/https://a.b/c.tif",
    "/vsis3/bucket/c.tif",
    "/vsigs/bucket/c.tif",
    "/vsiaz/box/c.tif",
    "/vsicurl?use_head=no&url=https%3A%2F%2Fa.b%2Fc.tif",
    "/vsizip//vsicurl/https://a.b/c.zip/c.tif",
    "zip+https://a.b/c.zip!c.tif",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address(path):
    assert remote.is_remote(path)
    assert remote.gdal_options(path)["GDAL_DISABLE_READDIR_ON_OPEN"].upper() == "EMPTY_DIR"


@pytest.mark.parametrize(
    "path",
    [
        "c.tif",
        "/data/c.tif",
        "https/c.tif",
        "s3/c.tif",
        "/vsizip/a.zip/c.tif",
        "/vsimem/c.tif",
        "zip://a.zip!c.tif",
        "GTIFF_DIR:1:c.tif",
        r"C:\data\c.tif",
        "/data/vsicurl/c.tif",
    ],
)
def test_no_address(path):
    assert not remote.is_remote(path)
    assert remote.gdal_options(path) == {}


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "7")
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="NO"):
        options = remote.gdal_options("s3://bucket/c.tif")
    assert not {"GDAL_HTTP_TIMEOUT", "GDAL_DISABLE_READDIR_ON_OPEN"} & set(options)
    assert options["GDAL_HTTP_CONNECTTIMEOUT"] == "10"
