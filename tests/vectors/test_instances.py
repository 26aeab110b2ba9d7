"""Telling touching buildings apart, on shapes made for it."""

import numpy as np
import pytest
from rasterio.features import rasterize
from shapely import box, union_all
from shapely.affinity import rotate

from geopipe.vectors.instances import split_instances

GSD = (0.5, 0.5)
MIN_M2 = 10.0


def mask(shapes, angle=0):
    turned = [rotate(shape, angle, origin=(60, 60)) for shape in shapes]
    return rasterize([(shape, 1) for shape in turned], (120, 120), dtype="uint8") > 0


def count(pixels, probability=None):
    labels = split_instances(pixels, GSD, MIN_M2, probability)
    np.testing.assert_array_equal(labels > 0, pixels)
    assert set(np.unique(labels[pixels])) == set(range(1, labels.max() + 1))
    return int(labels.max())


ONE = {
    "hall": [box(10, 10, 110, 100)],
    "L": [box(20, 20, 90, 40), box(20, 20, 34, 90)],
    "T": [box(20, 20, 90, 40), box(45, 20, 65, 90)],
    "U": [box(20, 20, 34, 90), box(20, 20, 90, 34), box(76, 20, 90, 90)],
    "courtyard": [box(20, 20, 90, 90) - box(38, 38, 72, 72)],
    "house and annex": [box(20, 20, 50, 50), box(50, 28, 62, 40)],
}
MANY = {
    "two squares and a neck": ([box(20, 40, 44, 64), box(46, 40, 70, 64), box(44, 50, 46, 58)], 2),
    "corners": ([box(20, 40, 44, 64), box(40, 60, 64, 90)], 2),
    "row of five": (
        [*(box(10 + 18 * k, 30, 27 + 18 * k, 54) for k in range(5)), box(10, 38, 99, 46)],
        5,
    ),
}


@pytest.mark.parametrize("angle", [0, 30, 77])
@pytest.mark.parametrize("name", ONE)
def test_one_building_stays_one(name, angle):
    assert count(mask(ONE[name], angle)) == 1


@pytest.mark.parametrize("angle", [0, 30, 77])
@pytest.mark.parametrize("name", MANY)
def test_buildings_that_touch_are_told_apart(name, angle):
    shapes, number = MANY[name]
    assert count(mask(shapes, angle)) == number


def test_a_dip_of_the_probability_separates_and_noise_does_not():
    row = mask([box(10, 30, 100, 54)])
    flat = np.full(row.shape, 0.9, np.float32)
    assert count(row, flat) == 1
    rng = np.random.default_rng(0)
    assert count(row, flat + rng.normal(0, 0.05, row.shape).astype(np.float32)) == 1
    dips = flat.copy()
    for k in range(1, 5):
        dips[:, 9 + 18 * k : 11 + 18 * k] = 0.55
    labels = split_instances(row, GSD, MIN_M2, dips)
    assert labels.max() == 5
    walls = np.flatnonzero(np.diff(labels[40, 10:100])) + 11
    assert np.abs(walls - [28, 46, 64, 82]).max() <= 1
    dips[60:] = np.nan  # unknown pixels change nothing elsewhere
    assert count(row, dips) == 5
    assert count(row, np.full(row.shape, np.nan, np.float32)) == 1


def test_a_part_below_the_smallest_area_stays_with_its_neighbour():
    shapes = [box(20, 20, 50, 50), box(52, 32, 57, 38), box(50, 34, 52, 35)]
    assert count(mask(shapes)) == 1
    assert split_instances(mask(shapes), GSD, 1.0).max() == 2


def cores_of(shapes):
    """As a network scores them: high in the core of each shape, low on its outline and off it."""
    inner = mask([shape.buffer(-2, join_style="mitre") for shape in shapes])
    return np.where(inner, 0.95, 0.1).astype(np.float32)


TERRACE = [box(10 + 18 * k, 30, 28 + 18 * k, 54) for k in range(5)]


def test_houses_in_a_row_are_told_apart_by_their_cores():
    row = mask(TERRACE)
    flat = np.full(row.shape, 0.95, np.float32)
    assert count(row, flat) == 1
    for probability in (None, flat):
        labels = split_instances(row, GSD, MIN_M2, probability, cores=cores_of(TERRACE))
        assert labels.max() == 5
        walls = np.flatnonzero(np.diff(labels[40, 10:100])) + 11
        assert np.abs(walls - [28, 46, 64, 82]).max() <= 1


@pytest.mark.parametrize("name", [n for n in ONE if n != "house and annex"])
def test_a_building_with_one_core_stays_one(name):
    pixels = mask(ONE[name])
    one = cores_of([union_all(ONE[name])])
    assert split_instances(pixels, GSD, MIN_M2, cores=one).max() == 1
    assert split_instances(pixels, GSD, MIN_M2, cores=one * np.nan).max() == 1


def test_a_gap_of_the_core_that_ends_inside_separates_nothing():
    """A ridge, a chimney: around its end the building goes on."""
    hall = box(10, 20, 100, 90)
    cores = cores_of([hall])
    cores[:50, 53:57] = 0.1
    assert split_instances(mask([hall]), GSD, MIN_M2, cores=cores).max() == 1
