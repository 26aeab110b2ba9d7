"""Oracle: numpy's mean over the valid pixels of each net pixel."""

from itertools import pairwise

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.checkpoint import image as image_module
from geopipe.checkpoint import network_input, strips
from geopipe.grid import NetworkGrid, Window
from geopipe.raster import Scene

HALF = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)


@pytest.fixture(scope="module")
def holed(tmp_path_factory, make_raster_at):
    """A scene (2, 41, 58) with a hole of nodata in it and scattered ones, and its validity."""
    rng = np.random.default_rng(0)
    data = rng.integers(1, 4000, (2, 41, 58)).astype(np.uint16)
    valid = rng.random(data.shape[1:]) < 0.8
    valid[8:21, 10:31] = False
    data[:, ~valid] = 0
    path = tmp_path_factory.mktemp("scene") / "holed.tif"
    make_raster_at(path, data, transform=HALF, nodata=0)
    return Scene.open(path), data, valid


def oracle(data, valid, factor, window):
    """Mean and validity per net pixel, scene pixels weighed by how much of them is covered."""
    image = np.zeros((data.shape[0], *window.shape))
    some = np.zeros(window.shape, bool)
    pad = 60
    data = np.pad(data, ((0, 0), (pad, pad), (pad, pad)))
    valid = np.pad(valid, pad)
    edges = [np.arange(n + 1) - pad for n in valid.shape]
    for i in range(window.height):
        for j in range(window.width):
            rows, cols = (
                np.clip(np.minimum(e[1:], (at + 1) * f) - np.maximum(e[:-1], at * f), 0, None)
                for e, at, f in zip(edges, (window.row + i, window.col + j), factor, strict=True)
            )
            weight = np.outer(rows, cols) * valid
            some[i, j] = weight.sum() > 1e-6
            if some[i, j]:
                image[:, i, j] = (data * weight).sum((1, 2)) / weight.sum()
    return image, some


@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3.78, 3.78), (0.5, 0.5), (2, 4.3)])
def test_means_over_valid_pixels(holed, factor):
    scene, data, valid = holed
    grid = NetworkGrid(scene.shape, factor)
    window = Window.of_shape(grid.shape).expand(2)
    image, some = network_input(scene, grid, window)
    expected, expected_some = oracle(data, valid, factor, window)
    np.testing.assert_array_equal(some, expected_some)
    np.testing.assert_allclose(image, expected, rtol=1e-5, atol=1e-3)
    assert image.shape == (2, *window.shape)
    assert (image[:, ~some] == 0).all()


def test_a_hole_is_not_valid_and_does_not_darken_its_rim(tmp_path, make_raster_at):
    data = np.full((3, 40, 40), 200, np.uint8)
    data[:, 10:20, 11:21] = 0
    scene = Scene.open(make_raster_at(tmp_path / "s.tif", data, transform=HALF, nodata=0))
    image, valid = network_input(scene, NetworkGrid.of(scene.geobox, 1.0), Window(0, 0, 20, 20))
    hole = np.zeros((20, 20), bool)
    hole[5:10, 6:10] = True  # columns 5 and 10 are cut in half, so partly valid
    np.testing.assert_array_equal(valid, ~hole)
    np.testing.assert_array_equal(image, np.where(hole, 0, 200)[None].repeat(3, 0))


@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3.78, 3.78), (0.5, 0.7)])
def test_strips_are_the_whole(holed, factor, monkeypatch):
    scene, _, _ = holed
    grid = NetworkGrid(scene.shape, factor)
    window = Window.of_shape(grid.shape).expand(3)
    whole = network_input(scene, grid, window)
    monkeypatch.setattr(image_module, "STRIP_PX", 150)
    cuts = strips(grid, window)
    assert len(cuts) > 3
    assert [(c.row, c.bottom) for c in cuts][1:] == [
        (a.bottom, b.bottom) for a, b in pairwise(cuts)
    ]
    read = []
    monkeypatch.setattr(
        Scene, "read", lambda self, w, real=Scene.read: read.append(w) or real(self, w)
    )
    for mine, expected in zip(network_input(scene, grid, window), whole, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert len(read) == len(cuts)


@given(st.data(), st.sampled_from([(1.0, 1.0), (2.0, 2.0), (3.78, 3.78), (0.5, 0.7)]))
@settings(max_examples=40, deadline=None)
def test_any_window_is_a_cut_of_a_larger_one(holed, data, factor):
    scene, _, _ = holed
    grid = NetworkGrid(scene.shape, factor)
    whole = Window.of_shape(grid.shape).expand(6)
    row = data.draw(st.integers(whole.row, whole.bottom - 1))
    col = data.draw(st.integers(whole.col, whole.right - 1))
    window = Window(
        row,
        col,
        data.draw(st.integers(1, whole.bottom - row)),
        data.draw(st.integers(1, whole.right - col)),
    )
    image, valid = network_input(scene, grid, window)
    expected, expected_valid = network_input(scene, grid, whole)
    at = window.within(whole)
    np.testing.assert_array_equal(image, expected[(slice(None), *at)])
    np.testing.assert_array_equal(valid, expected_valid[at])


def test_far_outside_nothing_is_valid(holed):
    scene, _, _ = holed
    image, valid = network_input(scene, NetworkGrid(scene.shape, (2, 2)), Window(500, -300, 4, 6))
    assert not valid.any()
    assert (image == 0).all()
