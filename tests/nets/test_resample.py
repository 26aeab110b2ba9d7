"""Oracles: torch's own pooling and interpolation, for whole factors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from geopipe.grid import GridAxis, NetworkGrid, Window, average_weights, bilinear_weights
from geopipe.nets.resample import resample

factors = st.floats(0.2, 8) | st.sampled_from([0.5, 1.0, 2.0, 3.78])


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def averaged(x, factor, net):
    """Net pixels of a window as the mean of the pixels of `x` (bands, h, w) under them."""
    grid = NetworkGrid(tuple(x.shape[-2:]), factor)
    source = grid.averaged_from(net)
    rows = average_weights(GridAxis.of(factor[0]), net.row, net.height, source.row)
    cols = average_weights(GridAxis.of(factor[1]), net.col, net.width, source.col)
    return resample(x[(slice(None), *source.slices)], rows, cols)


def interpolated(net, factor, window):
    rows = bilinear_weights(GridAxis.of(factor[0]), window.row, window.height, net.shape[-2], 0)
    cols = bilinear_weights(GridAxis.of(factor[1]), window.col, window.width, net.shape[-1], 0)
    return resample(net, rows, cols)


@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 4), (7, 1)])
def test_whole_factors_average_like_pooling(factor):
    x = noise(3, factor[0] * 5, factor[1] * 6)
    found = averaged(x, factor, Window(0, 0, 5, 6))
    torch.testing.assert_close(found, F.avg_pool2d(x, factor), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [(0.5, 0.5), (0.25, 0.5)])
def test_smaller_net_pixels_repeat_the_scenes(factor):
    x = noise(2, 6, 7)
    up = tuple(round(1 / f) for f in factor)
    found = averaged(x, factor, Window(0, 0, 6 * up[0], 7 * up[1]))
    assert torch.equal(found, x.repeat_interleave(up[0], -2).repeat_interleave(up[1], -1))


@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 4), (5, 1)])
def test_whole_factors_interpolate_like_torch(factor):
    net = noise(3, 5, 6)
    found = interpolated(net, factor, Window(0, 0, 5 * factor[0], 6 * factor[1]))
    oracle = F.interpolate(net[None], scale_factor=factor, mode="bilinear")[0]
    torch.testing.assert_close(found, oracle, rtol=0, atol=1e-6)


@given(factors, factors, st.data())
@settings(max_examples=60, deadline=None)
def test_any_window_averages_to_the_same_bits_as_the_whole(fy, fx, data):
    grid = NetworkGrid((43, 37), (fy, fx))
    whole = Window.of_shape(grid.shape)
    source = grid.averaged_from(whole)
    x = noise(2, *source.shape)
    window = data.draw(windows_inside(grid.shape))
    expected = averaged(x, (fy, fx), whole)[(slice(None), *window.slices)]
    assert torch.equal(averaged(x, (fy, fx), window), expected)


@given(factors, factors, st.data())
@settings(max_examples=60, deadline=None)
def test_any_window_interpolates_to_the_same_bits_as_the_whole(fy, fx, data):
    scene = (43, 37)
    net = noise(2, *NetworkGrid(scene, (fy, fx)).shape)
    window = data.draw(windows_inside(scene))
    whole = interpolated(net, (fy, fx), Window.of_shape(scene))
    part = interpolated(net, (fy, fx), window)
    assert torch.equal(part, whole[(slice(None), *window.slices)])


@pytest.mark.parametrize("f", [1.0, 2.0, 5.0, 2.5, 3.78])
def test_averages_of_a_ramp_lie_on_it(f):
    """No half-pixel shift; a cut pixel counts as flat, which costs up to 1/8f of the slope."""
    rows, cols = np.mgrid[:60, :80] + 0.5
    ramp = torch.from_numpy(3 * rows - 2 * cols)[None]
    window = Window(1, 1, int(60 / f) - 2, int(80 / f) - 2)
    i, j = (np.mgrid[window.slices] + 0.5) * f
    found = averaged(ramp, (f, f), window)[0]
    flat = 0 if f.is_integer() else (3 + 2) / 4 / f
    np.testing.assert_allclose(found, 3 * i - 2 * j, atol=1e-9 + flat)


@pytest.mark.parametrize("f", [0.5, 1.0, 2.0, 2.5, 3.78])
def test_values_between_net_pixels_lie_on_the_ramp(f):
    rows, cols = np.mgrid[:60, :80] + 0.5
    shape = NetworkGrid((60, 80), (f, f)).shape
    i, j = (np.mgrid[: shape[0], : shape[1]] + 0.5) * f
    inner = Window(5, 7, 50, 66)
    found = interpolated(torch.from_numpy(3 * i - 2 * j)[None], (f, f), inner)[0]
    np.testing.assert_allclose(found, (3 * rows - 2 * cols)[inner.slices], atol=1e-9)


@st.composite
def windows_inside(draw, shape):
    row, col = (draw(st.integers(0, n - 1)) for n in shape)
    return Window(
        row, col, draw(st.integers(1, shape[0] - row)), draw(st.integers(1, shape[1] - col))
    )
