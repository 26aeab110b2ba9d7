"""Arrays and models that cannot be used: one clear error each, before anything is computed."""

import json

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from safetensors import safe_open
from safetensors.torch import save_file

import geopipe as gp
from geopipe.errors import CheckpointError, GeopipeError, GridError, SceneError


@pytest.fixture
def path(make_raster):
    data = np.random.default_rng(0).integers(1, 200, (3, 64, 80)).astype(np.uint8)
    return make_raster(data, tiled=True, blockxsize=16, blockysize=16)


@pytest.fixture(params=["numpy", "dask"])
def array(request, path):
    found = rioxarray.open_rasterio(path).load()
    return found.chunk() if request.param == "dask" else found


def refused(model, array, kind, text):
    with pytest.raises(kind, match=text) as caught:
        gp.predict(model, array)
    assert isinstance(caught.value, GeopipeError)
    assert caught.value.hint
    assert "--" not in str(caught.value)  # a parameter, not a flag


def test_no_crs(model, array):
    bare = array.drop_vars("spatial_ref")
    refused(model, bare, SceneError, r"the array has no CRS .*write_crs")


def test_no_coordinates_and_no_transform(model, array):
    bare = array.drop_vars(["x", "y", "spatial_ref"]).rio.write_crs(2154)
    refused(model, bare, GridError, "no coordinates x and y")


def test_no_spatial_dimensions(model, array):
    refused(
        model, array.rename(x="p", y="q"), GridError, r"dimensions band, q, p.*set_spatial_dims"
    )


def test_a_rotated_grid(model, make_raster):
    turned = Affine.translation(789_000, 6_501_000) * Affine.rotation(20) * Affine.scale(1, -1)
    path = make_raster(np.ones((3, 40, 50), np.uint8), transform=turned)
    refused(model, rioxarray.open_rasterio(path), GridError, "rotated against its CRS")
    refused(model, gp.open_scene(path), GridError, "rotated against its CRS")


def test_an_irregular_grid(model, array):
    x = array.x.values.copy()
    x[40:] += 0.5
    text = r"irregular: along x, pixels are 1 to 1.5 apart .*reproject"
    refused(model, array.assign_coords(x=x), GridError, text)
    cut = array.isel(y=[0, 1, 2, 4, 5])
    refused(model, cut, GridError, "irregular: along y, pixels are 1 to 2 apart")


def test_coordinates_that_are_no_numbers(model, array):
    named = array.assign_coords(x=[f"c{i}" for i in range(array.sizes["x"])])
    refused(model, named, GridError, "the coordinates x are no row of numbers")


def test_other_bands_than_the_models(model, array):
    text = r"the model takes 3 bands, the array has 2 .*sel\(band=\[1, 2, 3\]\)"
    refused(model, array[:2], SceneError, text)
    refused(model, array[0], SceneError, "takes 3 bands, the array has 1")


def test_a_dimension_too_many(model, array):
    refused(model, array.expand_dims(time=2), SceneError, r"not \(band, y, x\).*isel\(time=0\)")


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64", "complex64", "bool"])
def test_another_dtype_than_the_models(model, array, dtype):
    text = f"the array is {dtype}, the model was trained on uint8 .*astype"
    refused(model, array.astype(dtype), CheckpointError, text)


def test_pixels_of_an_absurd_size(model, array):
    refused(
        model, array.assign_coords(x=array.x * 3000, y=array.y * 3000), GridError, "wrong|cannot"
    )


def test_a_source_that_breaks_off(model, path):
    """Of a file that xarray reads late: rows and columns, not what GDAL or xarray would say."""
    array = rioxarray.open_rasterio(path, cache=False)
    scene = gp.open_scene(path).to_xarray(chunk=16)
    on_dask = rioxarray.open_rasterio(path, chunks={"x": 16, "y": 16})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 8_000)
    text = r"cannot read rows 0-64, columns 0-80 of the array: .*Read.*truncated or damaged"
    refused(model, array, SceneError, text)
    refused(model, path, GeopipeError, r"cannot read rows .* of .*scene.tif")
    lazy = gp.predict(model, scene)
    with pytest.raises(SceneError, match=r"cannot read rows .* of .*scene.tif"):
        lazy.compute(scheduler="sync")
    lazy = gp.predict(model, on_dask)  # blocks that others read fail with their own error
    with pytest.raises(rasterio.errors.RasterioIOError):
        lazy.compute(scheduler="sync")


def test_a_block_of_another_shape_than_promised(model, array):
    lying = da.from_array(array.values).map_blocks(lambda b: b[..., :-1], dtype=np.uint8)
    found = gp.predict(model, xr.DataArray(lying, array.coords, array.dims))
    with pytest.raises(SceneError, match=r"rows 0-64, columns 0-80 are \(3, 64, 79\) values"):
        found.compute(scheduler="sync")


def test_a_model_of_another_format(model_path, tmp_path):
    with safe_open(model_path, "pt") as file:
        header = json.loads(file.metadata()["geopipe"])
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    header |= {"format": 0, "geopipe": "0.0.9"}
    save_file(state, tmp_path / "old.safetensors", {"geopipe": json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"old.* has format 0, .* reads 2 \(.*0.0.9"):
        gp.load_model(tmp_path / "old.safetensors")


def test_what_is_no_model(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="is not a geopipe model"):
        gp.load_model(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="there is no model"):
        gp.load_model(tmp_path / "none.safetensors")


def test_what_is_no_scene(model, array, tmp_path):
    with pytest.raises(SceneError, match="a DataArray is no scene in a file"):
        gp.map_scene(model, array, tmp_path / "out")
    with pytest.raises(SceneError, match="there is no file"):
        gp.open_scene(tmp_path / "none.tif")
