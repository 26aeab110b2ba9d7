"""Undeclared holes: their value, and the rim that JPEG leaves."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geopipe.grid import Window
from geopipe.raster import Scene
from geopipe.raster.undeclared_nodata import MARGIN_PX, undeclared_nodata_mask


def town(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A textured image (3, 240, 260) with a slanted white hole, and where that is."""
    rng = np.random.default_rng(seed)
    image = rng.normal(110, 12, (3, 240, 260)).clip(0, 255).astype(np.uint8)
    rows, cols = np.mgrid[:240, :260]
    hole = (rows + 2 * cols > 300) & (rows + 2 * cols < 500) & (rows > 60) & (rows < 200)
    image[:, hole] = 255
    return image, hole


def jpeg(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG", quality=92)
    return np.asarray(Image.open(stream)).transpose(2, 0, 1)


def test_the_rim_that_jpeg_leaves_is_found():
    image, hole = town()
    mask = undeclared_nodata_mask(jpeg(image), 255)
    exact = (jpeg(image) == 255).all(axis=0)
    assert exact[hole].mean() < 0.95  # else there is no rim to find
    assert mask[hole].mean() > 0.985
    assert mask[~hole].mean() < 0.02


def test_a_bright_roof_is_no_hole():
    image, _ = town()
    image[:] = 120
    image[:, 50:90, 50:90] = 250
    image[:, 60:70, 60:70] = 255  # saturated in the middle, too small for a hole
    mask = undeclared_nodata_mask(image, 255)
    assert mask.sum() == 100


def test_sixteen_bits_are_taken_exactly():
    image = np.full((1, 60, 60), 65535, np.uint16)
    image[0, :, 30:] = 65530
    assert undeclared_nodata_mask(image, 65535).sum() == 60 * 30


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 200), st.integers(0, 220), st.integers(1, 40), st.integers(1, 40))
def test_windows_agree_with_the_whole(row, col, height, width):
    image, _ = town()
    image = jpeg(image)
    whole = undeclared_nodata_mask(image, 255)
    window = Window(row, col, height, width).clip(image.shape[1:])
    around = window.expand(MARGIN_PX).clip(image.shape[1:])
    part = undeclared_nodata_mask(image[(slice(None), *around.slices)], 255)[window.within(around)]
    np.testing.assert_array_equal(part, whole[window.slices])


@pytest.mark.parametrize("nodata", [None, 255])
def test_a_scene_reads_holes_as_invalid(make_raster, nodata):
    image, hole = town()
    image = jpeg(image)
    scene = Scene.open(make_raster(image, "s.tif"), nodata=nodata)
    whole = scene.read().valid
    assert (~whole[hole]).mean() > 0.985 if nodata else whole.all()
    part = Window(90, 70, 50, 60)
    np.testing.assert_array_equal(scene.read(part).valid, whole[part.slices])
