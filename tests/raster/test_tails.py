"""Bytes behind the end of a file: it is read as every viewer reads it, and a cut one is refused."""

import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from geopipe.classes import load_scheme
from geopipe.errors import SceneError
from geopipe.labels import open_labels
from geopipe.raster import Scene
from geopipe.raster.chips import Chip

TAILS = [b"\n", b"\0" * 5, b"IEND", b"certainly no image " * 400]
PLANE = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)


def image():
    return np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".jp2"])
def test_chips(tmp_path, suffix, tail):
    good, long = tmp_path / f"good{suffix}", tmp_path / f"long{suffix}"
    if suffix == ".tif":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                good, "w", driver="GTiff", count=3, height=32, width=48, dtype="uint8"
            ) as dst:
                dst.write(image().transpose(2, 0, 1))
    else:
        Image.fromarray(image()).save(good)
    long.write_bytes(good.read_bytes() + tail)
    np.testing.assert_array_equal(Chip(str(long)).read(), Chip(str(good)).read())


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("tail", [b"", b"IEND", b"\0" * 4000])
def test_a_cut_png_is_refused_whatever_follows(tmp_path, keep, tail):
    Image.fromarray(image()).save(tmp_path / "good.png")
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: int(len(data) * keep)] + tail)
    with pytest.raises(SceneError, match=r"cannot (read|open).*cut\.png"):
        Chip(str(tmp_path / "cut.png")).read()


@pytest.mark.parametrize("tail", TAILS)
def test_scenes_and_labels(tmp_path, tail):
    pixels = image().transpose(2, 0, 1)
    with rasterio.open(
        tmp_path / "good.tif",
        "w",
        driver="GTiff",
        count=3,
        height=32,
        width=48,
        dtype="uint8",
        crs="EPSG:2154",
        transform=PLANE,
        compress="deflate",
    ) as dst:
        dst.write(pixels)
    house = shapely.box(789_002, 6_500_990, 789_012, 6_500_998)
    frame = gpd.GeoDataFrame({"building": ["yes"]}, geometry=[house], crs=2154)
    frame.to_file(tmp_path / "good.gpkg")
    for suffix in (".tif", ".gpkg"):
        data = (tmp_path / f"good{suffix}").read_bytes()
        (tmp_path / f"long{suffix}").write_bytes(data + tail)
    scene = Scene.open(tmp_path / "long.tif")
    np.testing.assert_array_equal(scene.read().data, pixels)
    labels = open_labels(tmp_path / "long.gpkg", load_scheme("buildings"), scene.geobox)
    assert (labels.read(scene.geobox) == 1).sum() == 20 * 16
