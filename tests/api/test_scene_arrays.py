"""Scenes as lazy arrays: pixels, validity, place and names of the file."""

import pickle

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine

import geopipe as gp
from geopipe.errors import GridError, SceneError
from geopipe.grid import Window


def pixels(bands=3, shape=(50, 70), dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 200, (bands, *shape)).astype(dtype)


def test_the_array_is_lazy_and_holds_the_files_pixels(make_raster):
    data = pixels()
    path = make_raster(data)
    array = gp.open_scene(path).to_xarray(chunk=32)
    assert array.chunks == ((3,), (32, 18), (32, 32, 6))
    assert (array.dtype, array.dims) == (np.uint8, ("band", "y", "x"))
    np.testing.assert_array_equal(array.values, data)
    assert array.valid.values.all()
    known = rioxarray.open_rasterio(path)
    for name in ("band", "y", "x"):
        np.testing.assert_array_equal(array[name], known[name])
    assert array.rio.crs == known.rio.crs
    assert array.rio.transform() == known.rio.transform()
    assert array.rio.nodata is None


def test_bands_have_their_names_and_order(make_raster):
    path = make_raster(pixels())
    with rasterio.open(path, "r+") as out:
        out.descriptions = ("near", "", "far")
    array = gp.open_scene(path, bands=(3, 1)).to_xarray()
    assert array.attrs["long_name"] == ("far", "near")
    assert array.band.values.tolist() == [3, 1]
    assert gp.open_scene(path, bands=[2]).to_xarray().attrs["long_name"] in ("gray", "green")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_not_valid_holds_the_nodata_value(make_raster, dtype):
    data = pixels(dtype=dtype)
    data[:, 5:9, 7:30] = 250
    data[1, 20, 20] = 250  # valid in the other bands
    array = gp.open_scene(make_raster(data, nodata=250)).to_xarray()
    assert array.rio.nodata == 250
    np.testing.assert_array_equal(array.values, data)
    assert (array.valid.values == (data != 250).any(axis=0)).all()
    assert array.rio.crs.to_epsg() == 2154


def test_a_mask_and_an_undeclared_nodata_are_in_the_coordinate(make_raster):
    data, mask = pixels(), np.ones((50, 70), bool)
    mask[10:20, 5:30] = False
    array = gp.open_scene(make_raster(data, mask=mask)).to_xarray(chunk=32)
    np.testing.assert_array_equal(array.valid, mask)
    data[:, :30, :30] = 255
    scene = gp.open_scene(make_raster(data, "hole.tif"), nodata=255)
    array = scene.to_xarray(chunk=32)
    np.testing.assert_array_equal(array.valid, scene.read().valid)
    assert array.rio.nodata == 255


def test_a_nodata_value_that_no_pixel_can_have_is_none(make_raster, tmp_path):
    path = make_raster(pixels())
    rasterio.shutil.copy(path, tmp_path / "far.vrt", driver="VRT")
    text = (tmp_path / "far.vrt").read_text()
    band = '<VRTRasterBand dataType="Byte" band="1"'
    assert band in text
    at = text.index(">", text.index(band)) + 1
    (tmp_path / "far.vrt").write_text(text[:at] + "<NoDataValue>-9999</NoDataValue>" + text[at:])
    assert gp.open_scene(tmp_path / "far.vrt").to_xarray().rio.nodata is None


def test_a_file_that_breaks_off_is_told_with_rows_and_columns(make_raster):
    path = make_raster(pixels(shape=(400, 300)), tiled=True, blockxsize=64, blockysize=64)
    array = gp.open_scene(path).to_xarray(chunk=128)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 20_000)
    assert (array[:, :64, :64].values > 0).all()
    with pytest.raises(SceneError, match=r"cannot read rows 384-400, columns .* of .*scene.tif"):
        array[:, 390:].compute(scheduler="sync")


def test_a_rotated_scene_has_no_array(make_raster):
    turned = Affine.translation(789_000, 6_501_000) * Affine.rotation(20) * Affine.scale(1, -1)
    scene = gp.open_scene(make_raster(pixels(), transform=turned))
    with pytest.raises(GridError, match=r"rotated .*gdalwarp"):
        scene.to_xarray()


def test_a_chunk_has_a_size(make_raster):
    with pytest.raises(GridError, match="chunk=0"):
        gp.open_scene(make_raster(pixels())).to_xarray(chunk=0)


def test_a_scene_travels_and_reads_as_before(make_raster):
    scene = gp.open_scene(make_raster(pixels()))
    again = pickle.loads(pickle.dumps(scene))
    assert (type(again), again) == (gp.Scene, scene)
    window = Window(3, 4, 5, 6)
    np.testing.assert_array_equal(again.read(window).data, scene.read(window).data)


def test_a_scene_says_what_it_is_and_markup_in_names_is_text(make_raster):
    scene = gp.open_scene(make_raster(pixels(), "<b>a&b.tif"), nodata=7)
    for part in ("70 x 50 px of 1 x 1 m", "EPSG:2154, RGF93", "1, 2, 3 (uint8)", "<b>a&b.tif"):
        assert part in repr(scene)
    html = scene._repr_html_()
    assert "&lt;b&gt;a&amp;b.tif" in html
    assert "<b>" not in html
