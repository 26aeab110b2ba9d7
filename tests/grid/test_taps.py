"""Oracles: the overlap of intervals in fractions, numpy's own interpolation."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.grid import NetworkGrid, Window, average_weights, bilinear_weights

factors = st.floats(0.1, 20) | st.sampled_from([0.5, 1.0, 2.0, 3.78, 4.0, 10.0, 1 / 3])
starts = st.integers(-40, 40)
counts = st.integers(1, 12)


def dense(taps, columns):
    """The taps as a matrix (outputs, inputs)."""
    matrix = np.zeros((taps.index.shape[1], columns))
    rows = np.broadcast_to(np.arange(taps.index.shape[1]), taps.index.shape)
    np.add.at(matrix, (rows, taps.index), taps.weight)
    return matrix


def source_of(start, count, factor):
    source = NetworkGrid((1, 1), (factor, factor)).averaged_from(Window(start, start, count, count))
    return source.row, source.height


@given(starts, counts, factors)
def test_average_weighs_source_pixels_by_their_overlap(start, count, factor):
    first, size = source_of(start, count, factor)
    taps = average_weights(start, count, factor, first)
    assert taps.index.min() >= 0
    assert taps.index.max() < size
    f, columns = Fraction(factor), range(first, first + size)
    overlap = [
        [max(Fraction(0), min(j + 1, (i + 1) * f) - max(j, i * f)) / f for j in columns]
        for i in range(start, start + count)
    ]
    np.testing.assert_allclose(dense(taps, size), np.array(overlap, float), atol=1e-7)


@given(starts, counts, factors)
def test_average_weights_are_shares(start, count, factor):
    taps = average_weights(start, count, factor, source_of(start, count, factor)[0])
    assert (taps.weight >= 0).all()
    np.testing.assert_allclose(taps.weight.sum(0), 1, atol=1e-7)


@given(st.integers(1, 300), factors, st.data())
def test_average_does_not_depend_on_the_window(total, factor, data):
    start = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, total - start))
    first, size = source_of(0, total, factor)
    whole = dense(average_weights(0, total, factor, first), size)[start : start + count]
    part_first, part_size = source_of(start, count, factor)
    part = dense(average_weights(start, count, factor, part_first), part_size)
    left = part_first - first
    np.testing.assert_array_equal(part, whole[:, left : left + part_size])
    assert np.count_nonzero(whole) == np.count_nonzero(part)


@given(st.integers(1, 40), factors, st.data())
@settings(deadline=None)
def test_bilinear_is_numpys_interpolation_between_centres(size, factor, data):
    pixels = max(1, round(size * factor))
    start = data.draw(st.integers(0, pixels - 1))
    count = data.draw(st.integers(1, min(60, pixels - start)))
    taps = bilinear_weights(start, count, factor, size, 0)
    values = np.random.default_rng(size).normal(size=size)
    at = (np.arange(start, start + count) + 0.5) / factor - 0.5
    oracle = np.interp(at, np.arange(size), values)
    np.testing.assert_allclose((taps.weight * values[taps.index]).sum(0), oracle, atol=1e-12)


@given(st.integers(1, 40), factors, st.data())
def test_bilinear_does_not_depend_on_the_window(size, factor, data):
    pixels = max(1, round(size * factor))
    start = data.draw(st.integers(0, pixels - 1))
    count = data.draw(st.integers(1, pixels - start))
    shift = data.draw(st.integers(-5, 5))
    whole = bilinear_weights(0, pixels, factor, size, 0)
    part = bilinear_weights(start, count, factor, size, shift)
    np.testing.assert_array_equal(part.index + shift, whole.index[:, start : start + count])
    np.testing.assert_array_equal(part.weight, whole.weight[:, start : start + count])
