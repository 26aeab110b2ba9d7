import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopipe.errors import GridError
from geopipe.grid import Window

sizes = st.integers(0, 12)
windows = st.builds(Window, st.integers(-15, 15), st.integers(-15, 15), sizes, sizes)
filled = windows.filter(lambda w: w.height and w.width)


def pixels(window):
    return {
        (r, c) for r in range(window.row, window.bottom) for c in range(window.col, window.right)
    }


@given(windows, st.tuples(sizes, sizes))
def test_clip_keeps_exactly_the_pixels_inside(window, shape):
    assert pixels(window.clip(shape)) == pixels(window) & pixels(Window.of_shape(shape))


@given(windows, st.integers(0, 6))
def test_expand_adds_px_on_every_side(window, px):
    wide = window.expand(px)
    assert (wide.row, wide.col) == (window.row - px, window.col - px)
    assert (wide.bottom, wide.right) == (window.bottom + px, window.right + px)


def test_expand_by_less_than_nothing_stops_at_empty():
    assert Window(0, 0, 8, 8).expand(-3) == Window(3, 3, 2, 2)
    with pytest.raises(GridError, match="-2 x -2"):
        Window(0, 0, 8, 8).expand(-5)


@given(filled, st.integers(1, 9))
def test_snap_is_the_smallest_on_the_step(window, step):
    snapped = window.snap(step)
    assert not any(n % step for n in (snapped.row, snapped.col, snapped.bottom, snapped.right))
    assert pixels(window) <= pixels(snapped)
    assert window.row - snapped.row < step
    assert window.col - snapped.col < step
    assert snapped.bottom - window.bottom < step
    assert snapped.right - window.right < step
    assert snapped.snap(step) == snapped


@given(windows, st.integers(0, 5))
def test_within_finds_the_window_in_an_array_of_the_outer_one(window, px):
    outer = window.expand(px)
    rows, cols = np.mgrid[outer.row : outer.bottom, outer.col : outer.right]
    found = set(zip(rows[window.within(outer)].flat, cols[window.within(outer)].flat, strict=True))
    assert found == pixels(window)


@given(st.tuples(sizes, sizes))
def test_slices_of_the_whole_plane(shape):
    plane = np.zeros(shape)
    assert plane[Window.of_shape(shape).slices].shape == shape == Window.of_shape(shape).shape


@pytest.mark.parametrize(("height", "width"), [(-1, 5), (5, -1)])
def test_negative_sizes_are_refused_with_their_numbers(height, width):
    with pytest.raises(GridError, match=f"{height} x {width}"):
        Window(0, 0, height, width)


def test_a_window_is_a_value():
    window = Window(1, 2, 3, 4)
    assert pickle.loads(pickle.dumps(window)) == window
    assert len({window, Window(1, 2, 3, 4)}) == 1
    with pytest.raises(AttributeError):
        window.row = 5
