"""A plane goes on beyond its edges as numpy's symmetric padding has it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geopipe.grid import Window, mirror_pad

sizes = st.integers(1, 12)


@given(sizes, sizes, st.integers(-30, 30), st.integers(-30, 30), sizes, sizes)
def test_it_is_symmetric_padding(height, width, row, col, h, w):
    plane = np.arange(height * width).reshape(height, width)
    padded = np.pad(plane, 45, mode="symmetric")
    part, rows, cols = mirror_pad(Window(row, col, h, w), plane.shape)
    assert part.clip(plane.shape) == part
    seen = plane[part.slices][rows[:, None], cols]
    assert np.array_equal(seen, padded[45 + row : 45 + row + h, 45 + col : 45 + col + w])


@given(sizes, sizes)
def test_inside_it_changes_nothing(height, width):
    part, rows, cols = mirror_pad(Window(0, 0, height, width), (height + 3, width + 2))
    assert part == Window(0, 0, height, width)
    assert (rows == np.arange(height)).all()
    assert (cols == np.arange(width)).all()
