"""Files that are no scene, or no longer."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from geopipe.errors import GridError, SceneError
from geopipe.grid import Window
from geopipe.raster import Scene


def noise(bands=3, height=21, width=34, dtype="uint8", seed=0):
    """Values from 1 on, so that 0 is free to mean nodata."""
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1000
    values = np.random.default_rng(seed).integers(1, top, (bands, height, width), endpoint=True)
    return values.astype(dtype)


def test_no_crs(make_raster):
    with pytest.raises(SceneError, match=r"has no CRS \(set it, e\.g\. gdal_edit"):
        Scene.open(make_raster(noise(), crs=None))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("transform", [None, Affine.identity()])
def test_no_geotransform(make_raster, transform):
    with pytest.raises(GridError, match=r"has no geotransform \(georeference it"):
        Scene.open(make_raster(noise(), transform=transform))


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_numbers(tmp_path, dtype):
    path = tmp_path / "radar.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=4,
        height=4,
        count=1,
        dtype=dtype,
        crs="EPSG:2154",
        transform=Affine(1, 0, 789_000, 0, -1, 6_501_000),
    ):
        pass
    with pytest.raises(SceneError, match="complex"):
        Scene.open(path)


def test_a_palette(make_raster, tmp_path):
    path = make_raster(noise()[:1], crs="EPSG:2154")
    with rasterio.open(path, "r+") as out:
        out.write_colormap(1, {i: (i, 255 - i, 0) for i in range(256)})
    with pytest.raises(SceneError, match=r"palette.*-expand rgb"):
        Scene.open(path)
    assert Scene.open(path, (1,)).bands == (1,), "who asks for numbers gets them"


def test_no_file(tmp_path):
    with pytest.raises(SceneError, match=r"there is no file .*nothing\.tif \(check the path\)"):
        Scene.open(tmp_path / "nothing.tif")


@pytest.mark.parametrize("content", [b"", b"left,top\n1,2\n", b"II*\x00\xff\xff\xff\xff"])
def test_a_file_that_only_calls_itself_tif(tmp_path, content):
    path = tmp_path / "text.tif"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"text\.tif is not a raster that GDAL can open"):
        Scene.open(path)


def test_a_folder(tmp_path):
    with pytest.raises(SceneError, match="is a folder, not a file"):
        Scene.open(tmp_path)


@pytest.mark.parametrize("compress", [None, "deflate"])
def test_a_truncated_file_names_the_rows_that_are_gone(make_raster, compress):
    data = noise(1, 256, 64)
    path = make_raster(data, compress=compress, blockysize=16)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    scene = Scene.open(path)
    np.testing.assert_array_equal(scene.read(Window(0, 0, 64, 64)).data, data[:, :64])
    with pytest.raises(SceneError, match=r"rows 250-256, columns 8-20 .*\(the file.* truncated"):
        scene.read(Window(250, 8, 30, 12))


def test_a_file_that_vanishes_after_it_was_described(make_raster):
    path = make_raster(noise())
    scene = Scene.open(path)
    path.unlink()
    with pytest.raises(SceneError, match="there is no file"):
        scene.read()
