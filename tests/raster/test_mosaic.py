"""Files of one delivery as one scene; oracle: the scene they were cut from, numpy's where."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window as RioWindow

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster import Scene
from geopipe.raster.mosaic import mosaic_files, open_mosaic

PLACE = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
CUTS = ((0, 0, 70, 90), (0, 90, 70, 60), (70, 0, 50, 90), (70, 90, 50, 60))
"""Row, column, height and width of four files of 120 x 150 px."""


def cut(source, folder, cuts=CUTS):
    files = []
    with rasterio.open(source) as src:
        for number, (row, col, height, width) in enumerate(cuts):
            window = RioWindow(col, row, width, height)
            place = {"transform": src.window_transform(window), "height": height, "width": width}
            files.append(str(folder / f"part{number}.tif"))
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(files[-1], "w", **(src.profile | place)) as out,
            ):
                out.write(src.read(window=window))
                if src.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]:
                    out.write_mask(src.read_masks(1, window=window))
    return files


def noise(bands=3, shape=(120, 150), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (bands, *shape)).astype(dtype)


VALIDITY = {
    "all": ({}, None),
    "nodata": ({"nodata": 0}, None),
    "mask": ({"mask": np.indices((120, 150)).sum(0) % 7 > 0}, None),
    "undeclared": ({}, 0),
}


@pytest.mark.parametrize("how", VALIDITY)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_four_files_of_a_scene_are_the_scene(make_raster, tmp_path, how, dtype):
    options, nodata = VALIDITY[how]
    data = noise(dtype=dtype)
    data[:, 60:80, 85:100] = 0
    data[1:, 20:30] = 0  # dark, yet valid in one band
    whole = Scene.open(make_raster(data, transform=PLACE, **options), None, nodata)
    files = cut(whole.path, tmp_path)
    mosaic = open_mosaic(files[::-1], tmp_path / "vrt" / "all.vrt", None, nodata)
    assert (mosaic.shape, mosaic.dtype, mosaic.bands) == (whole.shape, whole.dtype, whole.bands)
    assert mosaic.geobox == whole.geobox
    for window in (None, Window(60, 80, 40, 30), Window(-9, 140, 20, 30)):
        ours, theirs = mosaic.read(window), whole.read(window)
        np.testing.assert_array_equal(ours.valid, theirs.valid)
        np.testing.assert_array_equal(ours.data, theirs.data)
    assert mosaic_files(mosaic.path) == tuple(files[::-1])
    assert mosaic_files(whole.path) == ()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_files_the_first_that_is_valid_gives_all_bands(make_raster, tmp_path, order):
    a, b = noise(2, (40, 60)), noise(2, (50, 50), seed=1)
    a[:, 10:30, 30:50] = 0  # a hole in the overlap
    a[0, 5:12] = 0  # dark in one band: no hole
    b[:, 0:6, 0:9] = 0
    files = [
        str(make_raster(a, "a.tif", nodata=0, transform=PLACE)),
        str(make_raster(b, "b.tif", nodata=0, transform=PLACE * Affine.translation(20, -8))),
    ]
    mosaic = open_mosaic([files[i] for i in order], tmp_path / "m.vrt")
    expected = np.zeros((2, 50, 70), np.uint8)
    for i in order[::-1]:
        part, (row, col) = ((a, (8, 0)), (b, (0, 20)))[i]
        valid = (part != 0).any(0)
        at = expected[:, row : row + part.shape[1], col : col + part.shape[2]]
        np.copyto(at, part, where=valid)
    raster = mosaic.read()
    np.testing.assert_array_equal(raster.data, expected)
    np.testing.assert_array_equal(raster.valid, (expected != 0).any(0))


def test_where_no_file_lies_nothing_is_valid(make_raster, tmp_path):
    far = PLACE * Affine.translation(50, 45)
    files = [
        str(make_raster(noise(3, (40, 40)) | 1, "a.tif", transform=PLACE)),
        str(make_raster(noise(3, (40, 40)) | 1, "b.tif", transform=far)),
    ]
    mosaic = open_mosaic(files, tmp_path / "m.vrt")
    expected = np.zeros((85, 90), bool)
    expected[:40, :40] = expected[45:, 50:] = True
    np.testing.assert_array_equal(mosaic.read().valid, expected)


OTHERS = {
    "CRS": ({"crs": "EPSG:32631"}, r"b.tif has the CRS EPSG:32631, .*a.tif EPSG:2154"),
    "bands": ({"bands": 4}, "b.tif has pixels of type uint8 uint8 uint8 uint8, .*a.tif uint8"),
    "dtype": ({"dtype": np.uint16}, "b.tif has pixels of type uint16 uint16 uint16, .*a.tif uint8"),
    "size": ({"transform": PLACE * Affine.scale(0.8)}, r"b.tif has pixels of 0.4 x 0.4, .* of 0.5"),
    "turned": ({"transform": PLACE * Affine.rotation(3)}, "b.tif has pixels of"),
    "off the grid": (
        {"transform": PLACE * Affine.translation(100.3, 7)},
        r"b.tif lies 0.30 px off the pixel grid of .*a.tif",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_that_does_not_fit_is_named(make_raster, tmp_path, what):
    options, words = OTHERS[what]
    options = {"transform": PLACE} | options
    data = noise(options.pop("bands", 3), dtype=options.pop("dtype", np.uint8))
    files = [
        str(make_raster(noise(), "a.tif", transform=PLACE)),
        str(make_raster(data, "b.tif", **options)),
    ]
    with pytest.raises(SceneError, match=words):
        open_mosaic(files, tmp_path / "m.vrt")
    assert not (tmp_path / "m.vrt").exists()


def test_the_same_mosaic_again_touches_no_file(make_raster, tmp_path):
    files = cut(make_raster(noise(), transform=PLACE), tmp_path)
    target = tmp_path / "vrt" / "m.vrt"
    open_mosaic(files, target)
    before = {p: p.stat().st_mtime_ns for p in target.parent.iterdir()}
    open_mosaic(files, target)
    assert {p: p.stat().st_mtime_ns for p in target.parent.iterdir()} == before
    assert len(before) == 5
    with rasterio.open(target) as src:
        assert json.loads(src.tags(ns="GEOPIPE_MOSAIC")["FILES"]) == files


def test_a_file_that_is_gone_is_an_error_not_a_hole(make_raster, tmp_path):
    files = cut(make_raster(noise(), transform=PLACE), tmp_path)
    mosaic = open_mosaic(files, tmp_path / "vrt" / "m.vrt")
    (tmp_path / "part2.tif").unlink()
    assert mosaic.read(Window(0, 0, 40, 40)).valid.all()
    with pytest.raises(SceneError, match="part2"):
        mosaic.read(Window(80, 0, 20, 20))
