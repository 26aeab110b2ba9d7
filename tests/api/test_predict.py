"""Predictions are the map's pixels, byte by byte, whatever they are made from."""

import dask
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

import geopipe as gp
from geopipe.errors import ConfigError, GridError

SOURCES = {
    "scene": gp.open_scene,
    "path": lambda path: path,
    "lazy": lambda path: gp.open_scene(path).to_xarray(),
    "odd chunks": lambda path: gp.open_scene(path).to_xarray(chunk=300),
    "rioxarray": rioxarray.open_rasterio,
    "masked": lambda path: rioxarray.open_rasterio(path, masked=True),
    "rioxarray on dask": lambda path: rioxarray.open_rasterio(path, chunks={"x": 500, "y": 40}),
    "in memory": lambda path: rioxarray.open_rasterio(path).load(),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_whole_scene_is_the_map(mapped, model, source):
    outputs = ("classes", "scores", "confidence") if source in ("scene", "lazy") else ("scores",)
    for output in outputs:
        found = gp.predict(model, SOURCES[source](mapped.path), output=output)
        expected = mapped.read(output)
        assert (found.dtype, found.name) == (np.uint8, output)
        np.testing.assert_array_equal(found.values, expected)
        assert output != "classes" or len(np.unique(expected)) > 2
    written = rioxarray.open_rasterio(mapped.folder / f"{output}.tif")
    np.testing.assert_array_equal(found.x, written.x)
    np.testing.assert_array_equal(found.y, written.y)
    assert found.rio.nodata == 255


@pytest.mark.parametrize("source", ["scene", "lazy", "rioxarray"])
def test_a_window_off_every_grid_is_cut_from_the_map(mapped, model, source):
    with rasterio.open(mapped.path) as src:
        height, width = src.shape
        rows, cols = (13, height - 21), (width // 3 + 1, width - 3)
        bounds = rasterio.windows.bounds(
            ((rows[0] + 0.4, rows[1] - 0.4), (cols[0] + 0.3, cols[1])), src.transform
        )
        transform = src.window_transform((rows, cols))
    found = gp.predict(model, SOURCES[source](mapped.path), bounds=bounds, output="scores")
    expected = mapped.read("scores")[:, rows[0] : rows[1], cols[0] : cols[1]]
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_allclose(found.rio.transform(), transform, rtol=0, atol=1e-6)
    assert found.rio.crs == rioxarray.open_rasterio(mapped.path).rio.crs


def test_a_single_pixel(mapped, model):
    array = gp.open_scene(mapped.path).to_xarray()
    x, y = float(array.x[70]), float(array.y[45])
    found = gp.predict(
        model, mapped.path, bounds=(x, y, np.nextafter(x, 2 * abs(x)), np.nextafter(y, 2 * abs(y)))
    )
    assert found.shape == (1, 1)
    assert found.item() == mapped.read("classes")[45, 70]


def test_on_dask_nothing_is_computed_before_it_is_asked_for(mapped, model):
    read = []

    def spy(block):
        read.append(block.shape)
        return block

    array = rioxarray.open_rasterio(mapped.path, chunks={"x": 256, "y": 256})
    watched = array.copy(data=array.data.map_blocks(spy, dtype=array.dtype, meta=array.data._meta))
    found = gp.predict(model, watched)
    assert not read
    assert dask.is_dask_collection(found)
    sizes = found.chunks[1]
    assert sizes[0] == min(1024, found.sizes["x"])
    found[:4, :4].compute(scheduler="sync")
    assert 0 < len(read) <= len(array.data.blocks.ravel())
    if len(sizes) > 1:  # of the second tile, the first blocks of the scene are not read
        read.clear()
        found[:4, -4:].compute(scheduler="sync")
        assert len(read) < 5


def test_a_tile_depends_on_what_its_halo_holds_and_on_nothing_else(mapped, model):
    """Tiles that saw less would differ from the map; one that saw all would not be lazy."""
    array = gp.open_scene(mapped.path).to_xarray()
    halves = array.isel(x=slice(None, -400)), 255 - array.isel(x=slice(-400, None))
    if array.sizes["x"] < 1024:
        return  # one tile, which sees all of it
    other = xr.concat(halves, "x").assign_coords(valid=array.valid)
    found, expected = gp.predict(model, other).values, mapped.read("classes")
    same = found.shape[1] - 400 - 200  # its context of 36 m is at most 138 px
    np.testing.assert_array_equal(found[:, :same], expected[:, :same])
    assert (found[:, -400:] != expected[:, -400:]).any()


def test_a_scene_with_holes_that_only_its_opener_knows(model, make_raster):
    data = np.random.default_rng(1).integers(1, 200, (3, 90, 80)).astype(np.uint8)
    data[:, :40, :40] = 255
    scene = gp.open_scene(make_raster(data), nodata=255)
    expected = gp.predict(model, scene)
    assert (expected[:40, :40] == 255).all()
    np.testing.assert_array_equal(gp.predict(model, scene.to_xarray()), expected)


def test_a_mask_is_only_in_the_scenes_own_array(model, make_raster):
    data = np.random.default_rng(1).integers(1, 200, (3, 90, 80)).astype(np.uint8)
    mask = np.ones((90, 80), bool)
    mask[20:50, 10:40] = False
    path = make_raster(data, mask=mask)
    found = gp.predict(model, gp.open_scene(path).to_xarray())
    np.testing.assert_array_equal(found, gp.predict(model, path))
    assert (found.values[~mask] == 255).all()


def test_the_accessor_does_the_same(mapped, model, model_path):
    array = gp.open_scene(mapped.path).to_xarray()
    np.testing.assert_array_equal(array.geopipe.predict(model_path), mapped.read("classes"))


def test_one_band_and_other_names_of_dimensions(make_model, make_raster, tmp_path):
    make_model(bands=1).save(tmp_path / "m.safetensors")
    data = np.random.default_rng(1).integers(1, 200, (1, 60, 50)).astype(np.uint8)
    path = make_raster(data)
    expected = gp.predict(tmp_path / "m.safetensors", path, output="confidence")
    array = rioxarray.open_rasterio(path)
    for other in (array[0], array[0].rename(x="longitude", y="latitude"), array.transpose()):
        found = gp.predict(tmp_path / "m.safetensors", other, output="confidence")
        np.testing.assert_array_equal(found, expected)
        assert found.dims == ("y", "x")


def test_classes_say_what_they_mean(mapped, model):
    array = gp.predict(model, mapped.path)
    assert array.attrs["flag_meanings"] == "background building road"
    assert array.attrs["flag_values"] == [0, 1, 2]
    scores = gp.predict(model, mapped.path, output="scores")
    assert scores.attrs["long_name"] == ("background", "building", "road")
    assert scores.attrs["scale_factor"] == 1 / 250


def test_impossible_wishes(mapped, model):
    with pytest.raises(ConfigError, match=r"output='class'.*classes, confidence, scores"):
        gp.predict(model, mapped.path, output="class")
    for bounds in ((0, 0, 1, 1), (5, 5, 5, 5), (np.nan,) * 4):
        with pytest.raises(GridError, match=r"bounds=.* hold no pixel"):
            gp.predict(model, mapped.path, bounds=bounds)
    with pytest.raises(GridError, match="left, bottom, right, top"):
        gp.predict(model, mapped.path, bounds=(1, 2))
