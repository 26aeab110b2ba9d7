import pickle

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster import Scene
from geopipe.raster.undeclared import undeclared_nodata

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def noise(bands=3, height=21, width=34, dtype="uint8", seed=0):
    """Values from 1 on, so that 0 is free to mean nodata."""
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1000
    values = np.random.default_rng(seed).integers(1, top, (bands, height, width), endpoint=True)
    return values.astype(dtype)


def assert_reads(scene, data, valid=None):
    raster = scene.read()
    valid = np.ones(data.shape[1:], bool) if valid is None else valid
    np.testing.assert_array_equal(raster.valid, valid)
    np.testing.assert_array_equal(raster.data, np.where(valid, data, 0))
    assert raster.data.dtype == data.dtype == scene.dtype
    assert raster.geobox == scene.geobox


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"interleave": "pixel"},
        {"compress": "deflate", "predictor": 2, "tiled": True, "blockxsize": 32, "blockysize": 16},
    ],
    ids=["striped", "tiled", "pixel", "deflate"],
)
def test_reads_what_was_written(make_raster, dtype, layout):
    if dtype.startswith("float") and "predictor" in layout:
        layout = {**layout, "predictor": 3}
    data = noise(dtype=dtype)
    assert_reads(Scene.open(make_raster(data, **layout)), data)


@pytest.mark.parametrize("shape", [(1, 1), (5, 4999), (4999, 5)])
def test_odd_shapes(make_raster, shape):
    data = noise(3, *shape)
    scene = Scene.open(make_raster(data))
    assert scene.shape == shape
    assert_reads(scene, data)
    last = scene.read(Window(shape[0] - 1, shape[1] - 1, 1, 1))
    np.testing.assert_array_equal(last.data[:, 0, 0], data[:, -1, -1])


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:2154", Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)),
        ("EPSG:3857", Affine(0.2986, 0, 9_520_000, 0, -0.2986, 3_203_000)),
        ("EPSG:4326", Affine(1e-5, 0, 4, 0, -1e-5, 45)),
        ("EPSG:32631", Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000)),
        ("EPSG:32631", Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000)),
    ],
    ids=["lambert", "mercator", "degrees", "south-up", "rotated"],
)
def test_pixels_keep_their_place(make_raster, crs, transform):
    data = noise()
    scene = Scene.open(make_raster(data, crs=crs, transform=transform))
    assert scene.geobox.crs == crs
    assert scene.geobox.affine == transform
    raster = scene.read(Window(3, -2, 4, 9))
    assert raster.geobox.crs == crs
    assert raster.geobox.affine * (0, 0) == pytest.approx(transform * (-2, 3), rel=1e-15)
    assert raster.geobox.affine * (9, 4) == pytest.approx(transform * (7, 7), rel=1e-15)
    np.testing.assert_array_equal(raster.data[:, :, 2:], data[:, 3:7, :7])


@pytest.fixture(scope="module")
def holed(tmp_path_factory, make_raster_at):
    """A tiled scene with nodata holes, and what it should read as."""
    data = noise(2, 23, 37)
    valid = np.random.default_rng(1).random(data.shape[1:]) < 0.7
    data = np.where(valid, data, 0)
    path = make_raster_at(
        tmp_path_factory.mktemp("scene") / "holed.tif",
        data,
        nodata=0,
        tiled=True,
        blockxsize=16,
        blockysize=16,
    )
    return Scene.open(path), data, valid


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=80, deadline=None)
def test_any_window_is_a_cut_of_the_padded_scene(holed, row, col, height, width):
    scene, data, valid = holed
    raster = scene.read(Window(row, col, height, width))
    pad = 120
    cut = slice(row + pad, row + pad + height), slice(col + pad, col + pad + width)
    padded = np.pad(data, ((0, 0), (pad, pad), (pad, pad)))
    np.testing.assert_array_equal(raster.data, padded[(slice(None), *cut)])
    np.testing.assert_array_equal(raster.valid, np.pad(valid, pad)[cut])
    assert raster.geobox.shape == (height, width)


def test_a_scene_is_a_small_picklable_value(make_raster):
    scene = Scene.open(make_raster(noise()))
    again = pickle.loads(pickle.dumps(scene))
    assert again == scene
    assert len(pickle.dumps(scene)) < 1500
    np.testing.assert_array_equal(again.read().data, scene.read().data)


# Bands


def test_alpha_becomes_validity(make_raster):
    data = noise(4)
    data[3] = np.random.default_rng(1).choice([0, 255], data.shape[1:])
    scene = Scene.open(make_raster(data, photometric="RGB", alpha="YES"))
    assert scene.bands == (1, 2, 3)
    assert_reads(scene, data[:3], data[3] > 0)


def test_grey_with_alpha(make_raster):
    data = noise(2)
    data[1, :, :5] = 0
    scene = Scene.open(make_raster(data, interp=(ColorInterp.gray, ColorInterp.alpha)))
    assert scene.bands == (1,)
    assert_reads(scene, data[:1], data[1] > 0)


def test_red_green_blue_are_found_where_the_file_names_them(make_raster, caplog):
    data = noise(4, dtype="uint16")
    path = make_raster(
        data, photometric="MINISBLACK", interp=(*reversed(RGB), ColorInterp.undefined)
    )
    scene = Scene.open(path)
    assert scene.bands == (3, 2, 1)
    assert_reads(scene, data[[2, 1, 0]])
    assert not caplog.records


def test_the_first_three_of_unnamed_bands_with_a_warning(make_raster, caplog):
    data = noise(5)
    path = make_raster(data, photometric="MINISBLACK", interp=[ColorInterp.undefined] * 5)
    scene = Scene.open(path)
    assert scene.bands == (1, 2, 3)
    assert_reads(scene, data[:3])
    assert "taking bands 1, 2, 3 of 5" in caplog.text


@pytest.mark.parametrize("count", [1, 2])
def test_all_of_fewer_than_three_bands(make_raster, count):
    data = noise(count)
    scene = Scene.open(make_raster(data, interp=[ColorInterp.undefined] * count))
    assert_reads(scene, data)


@pytest.mark.parametrize("bands", [(4, 3, 2), (1,), (2, 2), (4, 1, 2, 3)])
def test_bands_are_read_in_the_order_asked_for(make_raster, bands):
    data = noise(4)
    scene = Scene.open(make_raster(data), bands=bands)
    assert_reads(scene, data[[b - 1 for b in bands]])


@pytest.mark.parametrize("wrong", [0, 5, -1])
def test_bands_that_are_not_there(make_raster, wrong):
    with pytest.raises(SceneError, match=f"bands 1 to 4, not {wrong}"):
        Scene.open(make_raster(noise(4)), bands=[1, wrong])


def test_bands_of_two_dtypes_are_read_as_the_wider(make_raster, tmp_path):
    narrow, wide = noise(1), noise(1, dtype="uint16")
    make_raster(narrow, "narrow.tif")
    make_raster(wide, "wide.tif")
    scene = Scene.open(
        stacked(tmp_path / "mixed.vrt", ("Byte", "narrow.tif"), ("UInt16", "wide.tif"))
    )
    assert_reads(scene, np.concatenate([narrow, wide]))


def stacked(path, *bands):
    """A VRT of one band per (type, file)."""
    rows = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for i, (kind, name) in enumerate(bands, 1)
    )
    path.write_text(
        '<VRTDataset rasterXSize="34" rasterYSize="21"><SRS>EPSG:2154</SRS>'
        f"<GeoTransform>789000, 1, 0, 6501000, 0, -1</GeoTransform>{rows}</VRTDataset>"
    )
    return path


# Validity


def test_a_nodata_pixel_has_it_in_all_bands(make_raster):
    data = noise()
    data[:, 2, 3] = 0
    data[0, 5, 6] = 0  # black in red alone
    valid = np.ones(data.shape[1:], bool)
    valid[2, 3] = False
    assert_reads(Scene.open(make_raster(data, nodata=0)), data, valid)
    assert_reads(Scene.open(make_raster(data, "plain.tif")), data)


def test_an_internal_mask_is_obeyed(make_raster):
    data = noise()
    mask = np.random.default_rng(1).random(data.shape[1:]) < 0.5
    path = make_raster(data, mask=mask)
    assert not path.with_name(path.name + ".msk").exists()
    assert_reads(Scene.open(path), data, mask)


def test_floats_that_are_no_number_are_not_valid(make_raster):
    data = noise(dtype="float32")
    data[0, 1, 1], data[1, 2, 2], data[2, 3, 3] = np.nan, np.inf, -np.inf
    scene = Scene.open(make_raster(data))
    assert_reads(scene, data, np.isfinite(data).all(0))
    assert np.isfinite(scene.read().data).all()


def test_nan_as_nodata(make_raster):
    data = noise(dtype="float32")
    data[:, 4, :] = np.nan
    assert_reads(Scene.open(make_raster(data, nodata=np.nan)), data, np.isfinite(data).all(0))


@pytest.mark.parametrize("bands", [None, (3, 1)])
def test_nodata_that_the_file_does_not_declare(make_raster, bands):
    data = noise(4)
    data[:, 2, 3] = 7
    data[[0, 2], 4, 4] = 7  # all of the two bands, not of the three
    data[1, 5, 5] = 7
    chosen = data[[b - 1 for b in bands or (1, 2, 3)]]
    scene = Scene.open(make_raster(data), bands=bands, nodata=7)
    assert_reads(scene, chosen, ~(chosen == 7).all(0))
    assert not scene.read().valid[2, 3]
    assert scene.read().valid[4, 4] == (bands is None)
    assert pickle.loads(pickle.dumps(scene)) == scene


def test_nodata_given_adds_to_what_the_file_says(make_raster):
    data = noise()
    data[:, 1, 1], data[:, 2, 2] = 0, 255
    scene = Scene.open(make_raster(data, nodata=0), nodata=255)
    assert_reads(scene, data, ~((data == 0).all(0) | (data == 255).all(0)))


@pytest.mark.parametrize(("dtype", "fill"), [("uint8", 0), ("uint8", 255), ("uint16", 65535)])
def test_undeclared_holes_are_suspected(make_raster, dtype, fill):
    data = noise(3, 200, 150, dtype)
    data[:, 40:110, 30:90] = fill
    assert undeclared_nodata(Scene.open(make_raster(data))) == (fill,) * 3
    assert undeclared_nodata(Scene.open(make_raster(data, "declared.tif", nodata=fill))) is None
    assert undeclared_nodata(Scene.open(make_raster(data, "given.tif"), nodata=fill)) is None


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (200, 150)])
def test_a_scene_without_holes_is_not_suspected(make_raster, shape):
    data = noise(3, *shape)
    data[:, :40, :40] = 77  # a flat roof
    data[0, 60:, 60:] = 0  # no red there, but green and blue
    assert undeclared_nodata(Scene.open(make_raster(data))) is None


# Virtual rasters


def test_a_vrt(make_raster, tmp_path):
    data = noise()
    for i, band in enumerate(data):
        make_raster(band[None], f"{i}.tif")
    path = stacked(tmp_path / "s.vrt", *(("Byte", f"{i}.tif") for i in range(3)))
    assert_reads(Scene.open(path), data)


def test_a_vrt_whose_source_is_gone_names_the_rows(tmp_path):
    scene = Scene.open(stacked(tmp_path / "s.vrt", ("Byte", "gone.tif")))
    with pytest.raises(SceneError, match="rows 4-6, columns 0-3"):
        scene.read(Window(4, 0, 2, 3))


def test_a_vrt_whose_source_is_gone_names_the_source(tmp_path):
    scene = Scene.open(stacked(tmp_path / "s.vrt", ("Byte", "gone.tif")))
    with pytest.raises(SceneError, match=r"gone\.tif"):
        scene.read()


PANSHARPENED = """<VRTDataset subClass="VRTPansharpenedDataset"><PansharpeningOptions>
<PanchroBand><SourceFilename relativeToVRT="1">pan.tif</SourceFilename><SourceBand>1</SourceBand>
</PanchroBand>{}</PansharpeningOptions></VRTDataset>"""

SPECTRAL = """<SpectralBand dstBand="{0}"><SourceFilename relativeToVRT="1">ms.tif</SourceFilename>
<SourceBand>{0}</SourceBand></SpectralBand>"""


def test_a_pansharpened_vrt(make_raster, tmp_path):
    """Brovey with equal weights: a band times panchromatic over the mean of the bands."""
    pan = noise(1, 48, 64, "uint16").clip(500, 1500)
    colours = np.array([400, 1000, 1600, 1000], np.uint16)
    colour = np.broadcast_to(colours[:, None, None], (4, 12, 16))
    make_raster(pan, "pan.tif", transform=Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000))
    make_raster(colour, "ms.tif", transform=Affine(2, 0, 789_000, 0, -2, 6_501_000))
    path = tmp_path / "sharp.vrt"
    path.write_text(PANSHARPENED.format("".join(map(SPECTRAL.format, range(1, 5)))))
    scene = Scene.open(path, bands=(3, 2, 1))
    assert scene.shape == (48, 64)
    assert scene.geobox.affine.a == 0.5
    assert scene.dtype == "uint16"
    raster = scene.read(Window(-3, 10, 20, 20))
    sharp = colours[[2, 1, 0], None, None] * (pan[:, :17, 10:30] / 1000)
    np.testing.assert_allclose(raster.data[:, 3:], sharp, atol=1)
    assert raster.valid[3:].all()
    assert not raster.valid[:3].any()
