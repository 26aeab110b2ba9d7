"""Oracles: the overlap of intervals in fractions, numpy's own interpolation."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.grid import GridAxis, average_weights, bilinear_weights

factors = st.floats(0.1, 20) | st.sampled_from([0.5, 1.0, 2.0, 3.78, 4.0, 10.0, 1 / 3])
axes = st.builds(GridAxis.of, factors, st.integers(-(10**8), 10**8))
starts = st.integers(-40, 40)
counts = st.integers(1, 12)


def dense(taps, columns):
    """The taps as a matrix (outputs, inputs)."""
    matrix = np.zeros((taps.index.shape[1], columns))
    rows = np.broadcast_to(np.arange(taps.index.shape[1]), taps.index.shape)
    np.add.at(matrix, (rows, taps.index), taps.weight)
    return matrix


def source_of(axis, start, count):
    first, last = axis.averaged_from(start, start + count)
    return first, last - first


def moved(axis, pixels):
    """The axis of a file that begins some pixels later, and the net pixels that it lacks."""
    along = axis.lead + pixels * axis.q
    return GridAxis(axis.p, axis.q, along % axis.p), along // axis.p


@settings(deadline=None)
@given(axes, starts, counts)
def test_average_weighs_source_pixels_by_their_overlap(axis, start, count):
    first, size = source_of(axis, start, count)
    taps = average_weights(axis, start, count, first)
    assert taps.index.min() >= 0
    assert taps.index.max() < size
    f, lead = Fraction(axis.p, axis.q), Fraction(axis.lead, axis.q)
    overlap = [
        [
            max(Fraction(0), min(j + 1, (i + 1) * f - lead) - max(j, i * f - lead)) / f
            for j in range(first, first + size)
        ]
        for i in range(start, start + count)
    ]
    np.testing.assert_allclose(dense(taps, size), np.array(overlap, float), atol=1e-15)


@settings(deadline=None)
@given(axes, starts, counts)
def test_average_weights_are_shares(axis, start, count):
    taps = average_weights(axis, start, count, source_of(axis, start, count)[0])
    assert (taps.weight >= 0).all()
    np.testing.assert_allclose(taps.weight.sum(0), 1, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 300), axes, st.data())
def test_average_does_not_depend_on_the_window(total, axis, data):
    start = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, total - start))
    first, size = source_of(axis, 0, total)
    whole = dense(average_weights(axis, 0, total, first), size)[start : start + count]
    part_first, part_size = source_of(axis, start, count)
    part = dense(average_weights(axis, start, count, part_first), part_size)
    left = part_first - first
    np.testing.assert_array_equal(part, whole[:, left : left + part_size])
    assert np.count_nonzero(whole) == np.count_nonzero(part)


@settings(deadline=None)
@given(axes, starts, counts, st.integers(-5000, 5000))
def test_average_does_not_depend_on_where_a_file_begins(axis, start, count, pixels):
    other, lacking = moved(axis, pixels)
    mine = average_weights(axis, start, count, 0)
    same = average_weights(other, start - lacking, count, -pixels)
    np.testing.assert_array_equal(mine.index, same.index)
    np.testing.assert_array_equal(mine.weight, same.weight)


@given(st.integers(1, 40), axes, st.data())
@settings(deadline=None)
def test_bilinear_is_numpys_interpolation_between_centres(size, axis, data):
    pixels = max(1, round(size * axis.factor))
    start = data.draw(st.integers(0, pixels - 1))
    count = data.draw(st.integers(1, min(60, pixels - start)))
    taps = bilinear_weights(axis, start, count, size, 0)
    values = np.random.default_rng(size).normal(size=size)
    at = (np.arange(start, start + count) + 0.5 - axis.start) / axis.factor - 0.5
    oracle = np.interp(at, np.arange(size), values)
    np.testing.assert_allclose((taps.weight * values[taps.index]).sum(0), oracle, atol=1e-11)


@settings(deadline=None)
@given(st.integers(1, 40), axes, st.data())
def test_bilinear_does_not_depend_on_the_window(size, axis, data):
    pixels = max(1, round(size * axis.factor))
    start = data.draw(st.integers(0, pixels - 1))
    count = data.draw(st.integers(1, pixels - start))
    shift = data.draw(st.integers(-5, 5))
    whole = bilinear_weights(axis, 0, pixels, size, 0)
    part = bilinear_weights(axis, start, count, size, shift)
    np.testing.assert_array_equal(part.index + shift, whole.index[:, start : start + count])
    np.testing.assert_array_equal(part.weight, whole.weight[:, start : start + count])


@settings(deadline=None)
@given(axes, st.integers(0, 300), counts, st.integers(-5000, 5000))
def test_bilinear_does_not_depend_on_where_a_file_begins(axis, start, count, pixels):
    other, lacking = moved(axis, pixels)
    start += 10**7  # far from the edges, which are held
    mine = bilinear_weights(axis, start, count, 10**9, 0)
    same = bilinear_weights(other, start - pixels, count, 10**9, -lacking)
    np.testing.assert_array_equal(mine.index, same.index)
    np.testing.assert_array_equal(mine.weight, same.weight)
