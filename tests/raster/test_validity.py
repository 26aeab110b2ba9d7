"""Where a scene has an image: alpha in any place and type; holes that nobody declared."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp as Kind

from geopipe.grid import Window
from geopipe.raster import Scene
from geopipe.raster.undeclared import nodata_warning, undeclared_nodata, warn_of_nodata
from geopipe.report.map_report import downscale

RGB = [Kind.red, Kind.green, Kind.blue]
HOLE = np.s_[:40, :60]


def write(path, data, kinds=None, **more):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(data),
        height=data.shape[1],
        width=data.shape[2],
        dtype=data.dtype,
        crs="EPSG:2154",
        transform=Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000),
        **more,
    ) as dst:
        if kinds:
            dst.colorinterp = kinds
        dst.write(data)
    return path


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(60, 160, (3, 200, 220)).astype(np.uint8)


def holed(image, colour):
    out = image.copy()
    out[(slice(None), *HOLE)] = np.array(colour, out.dtype)[:, None, None]
    return out


@pytest.mark.parametrize("place", [0, 1, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "full"), [("uint8", 255), ("uint16", 65535), ("int16", 1), ("float32", 1.0)]
)
@pytest.mark.parametrize("nodata", [None, 7])
def test_alpha_in_any_place_of_any_type(tmp_path, image, place, dtype, full, nodata):
    filled = holed(image, (205, 80, 80)).astype(dtype)
    alpha = np.full((1, *image.shape[1:]), full, dtype)
    alpha[0][HOLE] = 0
    bands = [*filled[:, None], np.full_like(alpha, 99)]
    kinds = [*RGB, Kind.undefined]
    bands.insert(place, alpha)
    kinds.insert(place, Kind.alpha)
    path = write(tmp_path / "a.tif", np.concatenate(bands), kinds, nodata=nodata)
    expected = np.ones(image.shape[1:], bool)
    expected[HOLE] = False
    scene = Scene.open(path)
    found = scene.read()
    np.testing.assert_array_equal(found.valid, expected)
    np.testing.assert_array_equal(found.data, np.where(expected, filled, 0))
    part = scene.read(Window(30, 50, 20, 30))
    np.testing.assert_array_equal(part.valid, expected[30:50, 50:80])
    assert (downscale(scene, 220)[:, 5:35, 5:55] == 225).all()  # the report shows no image there


def test_an_alpha_band_that_is_chosen_is_image(tmp_path, image):
    infrared = image[:1] * 0
    path = write(
        tmp_path / "a.tif",
        np.concatenate([image, image[:1], infrared]),
        [*RGB, Kind.undefined, Kind.alpha],
    )
    assert Scene.open(path, (5, 1, 2)).read().valid.all()
    assert not Scene.open(path).read().valid.any()


def test_values_that_are_not_finite_are_transparent(tmp_path, image):
    alpha = np.ones((1, *image.shape[1:]), np.float32)
    alpha[0][HOLE] = np.nan
    data = np.concatenate([image.astype(np.float32), alpha])
    found = Scene.open(write(tmp_path / "a.tif", data, [*RGB, Kind.alpha])).read()
    assert not found.valid[HOLE].any()
    assert found.valid.sum() == 200 * 220 - 40 * 60


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", 0),
        ("uint8", 255),
        ("int16", -32768),
        ("int16", -9999),
        ("int16", 32767),
        ("uint16", 65535),
        ("float32", -9999),
        ("float32", 0),
        ("float32", -3.4028234663852886e38),
        ("float32", 1e20),
        ("float32", -777),
        ("float64", -32768),
        ("float64", 12345),
    ],
)
def test_holes_of_one_value_anywhere(tmp_path, image, dtype, value):
    filled = image.astype(dtype)
    filled[:, 60:120, 50:130] = value
    scene = Scene.open(write(tmp_path / "a.tif", filled))
    found = undeclared_nodata(scene)
    assert found is not None
    assert found == pytest.approx((value,) * 3)
    said = nodata_warning(scene, "learnt as something")
    text = "-3.4028235e+38" if value < -1e38 else f"{value:.9g}"
    assert f"areas where all bands are {text}: " in said
    assert f"give nodata {text}, or they will be learnt as something" in said
    assert nodata_warning(Scene.open(scene.path, nodata=value), "x") == ""


@pytest.mark.parametrize("colour", [(128, 128, 128), (205, 80, 80), (254, 254, 254)])
@pytest.mark.parametrize(
    "area", [np.s_[:, :48, :], np.s_[:, :, -40:], np.s_[:, :3, :], np.s_[:, :, :1], np.s_[:, -2:]]
)
def test_borders_of_any_colour(tmp_path, image, colour, area):
    image[area] = np.array(colour, np.uint8).reshape(3, 1, 1)
    scene = Scene.open(write(tmp_path / "a.tif", image))
    assert undeclared_nodata(scene) == colour
    said = nodata_warning(scene, "mapped as something")
    cure = (
        "give nodata "
        if len(set(colour)) == 1
        else "nearblack -setalpha -nb 0 -near 0 -color 205,80,80"
    )
    assert cure in said


def test_no_hole_is_seen_in_an_image(tmp_path, image):
    assert undeclared_nodata(Scene.open(write(tmp_path / "a.tif", image))) is None
    image[:, 60:100, 50:120] = np.array([200, 90, 70], np.uint8)[:, None, None]  # a flat roof
    image[:, 120:150, 50:120] = 180
    assert undeclared_nodata(Scene.open(write(tmp_path / "b.tif", image))) is None
    image[:] = 99  # nothing but a flat image
    assert undeclared_nodata(Scene.open(write(tmp_path / "c.tif", image))) is None
    tiny = image[:, :9, :9]
    assert undeclared_nodata(Scene.open(write(tmp_path / "d.tif", tiny))) is None


def test_scenes_are_warned_of_once_each(tmp_path, image, caplog):
    image[(slice(None), *HOLE)] = 0
    scene = Scene.open(write(tmp_path / "a.tif", image))
    warn_of_nodata([scene, scene])
    assert [r.getMessage().count("all bands are 0") for r in caplog.records] == [1]
