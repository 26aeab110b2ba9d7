"""Specks and pinholes; oracle: one look at the whole raster with scipy, area by area."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geopipe.classes import IGNORE
from geopipe.mapping.sieve import sieve

SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))


def sieved(make_raster, ids, min_area, rows=None):
    """The ids (h, w) after the sieve, in pixels of 1 m2."""
    source = make_raster(np.asarray(ids, np.uint8)[None], nodata=IGNORE)
    target = source.with_name("sieved.tif")
    result = sieve(source, target, min_area, strip_rows=rows)
    with rasterio.open(target) as src:
        assert src.nodata == IGNORE
        made = src.read(1)
    assert result.changed == (made != ids).sum()
    pixels = [(made == k).sum() for k in range(len(min_area))]
    assert result.areas == pytest.approx(pixels, rel=2e-3)
    counts = [ndimage.label(made == k)[1] for k in range(len(min_area))]
    assert result.area_counts == tuple(counts)
    return made


def areas_of(ids):
    """Connected areas (h, w) from 1 on, 0 for nodata, and their class ids."""
    labels, classes = np.zeros(ids.shape, int), [IGNORE]
    for k in np.unique(ids[ids != IGNORE]):
        found, count = ndimage.label(ids == k)
        labels[found > 0] = found[found > 0] + len(classes) - 1
        classes += [int(k)] * count
    return labels, classes


def oracle(ids, least):
    labels, classes = areas_of(ids)
    sizes = np.bincount(labels.ravel(), minlength=len(classes))
    settled = {a for a in range(1, len(classes)) if sizes[a] >= least[classes[a]]}
    classes = dict(enumerate(classes))
    padded = np.pad(labels, 1)
    while True:
        taken = {}
        for a in set(range(1, len(sizes))) - settled:
            borders = np.zeros(len(least))
            for row, col in np.argwhere(padded == a):
                for down, along in SIDES:
                    other = int(padded[row + down, col + along])
                    if other in settled:
                        borders[classes[other]] += 1
            if borders.any():
                taken[a] = int(borders.argmax())
        if not taken:
            return np.array([classes[a] for a in range(len(sizes))], np.uint8)[labels]
        classes |= taken
        settled |= set(taken)


@given(
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    seed=st.integers(0, 10**6),
    rough=st.booleans(),
    holes=st.sampled_from([0, 0.1, 0.5]),
    least=st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 3)),
    rows=st.integers(1, 5),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_strips_of_any_height_do_what_one_look_at_the_whole_does(
    make_raster, shape, seed, rough, holes, least, rows
):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, shape).astype(np.uint8)
    if not rough:
        ids = ndimage.median_filter(ids, 3)
    ids[rng.random(shape) < holes] = IGNORE
    expected = oracle(ids, least)
    np.testing.assert_array_equal(sieved(make_raster, ids, least), expected)
    np.testing.assert_array_equal(sieved(make_raster, ids, least, rows), expected)


def test_specks_go_and_pinholes_are_filled(make_raster):
    ids = np.zeros((12, 14), np.uint8)
    ids[2:10, 2:10] = 1  # a house of 64 m2 with a hole
    ids[5, 5] = 0
    ids[1, 12] = 1  # a speck
    ids[10, 0:3] = 2  # a bit of road
    expected = np.zeros_like(ids)
    expected[2:10, 2:10] = 1
    np.testing.assert_array_equal(sieved(make_raster, ids, (4, 4, 4)), expected)
    expected[10, 0:3] = 2
    np.testing.assert_array_equal(sieved(make_raster, ids, (4, 4, 3)), expected)
    np.testing.assert_array_equal(sieved(make_raster, ids, (0, 0, 0)), ids)


def test_a_speck_takes_the_longest_border_and_of_equals_the_lowest_id(make_raster):
    ids = np.full((9, 8), 2, np.uint8)
    ids[:, :4] = 1
    ids[4, 3:5] = 0  # three sides to each
    ids[7, 4] = 0  # three sides to 2, one to 1
    made = sieved(make_raster, ids, (5, 5, 5))
    assert (made[4, 3], made[4, 4], made[7, 4]) == (1, 1, 2)


def test_what_nodata_surrounds_stays(make_raster):
    ids = np.full((9, 9), IGNORE, np.uint8)
    ids[4, 4] = 1
    np.testing.assert_array_equal(sieved(make_raster, ids, (9, 9)), ids)


def test_the_least_area_is_in_metres_on_the_ground(make_raster):
    ids = np.zeros((40, 40), np.uint8)
    ids[5, 5:13] = 1  # 8 px of 0.25 m2
    half = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
    for least, left in ((2.0, 8), (2.1, 0)):
        source = make_raster(ids[None], transform=half, nodata=IGNORE)
        sieve(source, source.with_name("s.tif"), (least, least))
        with rasterio.open(source.with_name("s.tif")) as src:
            assert (src.read(1) == 1).sum() == left
