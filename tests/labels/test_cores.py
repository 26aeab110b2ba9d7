"""Cores of buildings, of houses whose walls are known."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import label

from geopipe.classes import IGNORE, load_scheme
from geopipe.grid import Window
from geopipe.labels import (
    CORES,
    Area,
    ClippedLabels,
    IgnoreBufferLabels,
    VectorLabels,
    core_labels,
)
from geopipe.raster.scene import window_geobox

SCHEME = load_scheme("buildings-roads")
PLANE = GeoBox((80, 120), Affine(0.5, 0, 500_000, 0, -0.5, 6_500_000), "EPSG:32631")
DEPTH = 1.0
"""Metres: 2 px."""


def on_plane(shape):
    return shapely.transform(shape, lambda p: np.column_stack(PLANE.affine * p.T))


def labels_of(*shapes, classes=None):
    """Labels of shapes in pixels."""
    ids = np.array(classes or [1] * len(shapes), np.uint8)
    return VectorLabels(SCHEME, PLANE, np.array([on_plane(s) for s in shapes], object), ids)


def cores(labels, geobox=PLANE):
    found = core_labels(labels, DEPTH)
    assert found.scheme == CORES
    return found.read(geobox)


def box_of(top, bottom, left, right):
    expected = np.zeros(PLANE.shape, np.uint8)
    expected[top:bottom, left:right] = 1
    return expected


def test_terraced_houses_have_a_core_each():
    houses = [shapely.box(10 + 20 * k, 10, 30 + 20 * k, 50) for k in range(5)]
    drawn = cores(labels_of(*houses))
    expected = np.sum([box_of(12, 48, 12 + 20 * k, 28 + 20 * k) for k in range(5)], axis=0)
    np.testing.assert_array_equal(drawn, expected)
    assert label(drawn)[1] == 5
    assert label(labels_of(*houses).read(PLANE))[1] == 1


def test_a_detached_house_and_one_around_a_courtyard_have_one_core():
    np.testing.assert_array_equal(
        cores(labels_of(shapely.box(10, 10, 40, 50))), box_of(12, 48, 12, 38)
    )
    ring = shapely.box(10, 10, 70, 70) - shapely.box(30, 30, 50, 50)
    np.testing.assert_array_equal(
        cores(labels_of(ring)), box_of(12, 68, 12, 68) - box_of(28, 52, 28, 52)
    )


def test_a_building_thinner_than_twice_the_depth_and_a_road_have_none():
    thin, road = shapely.box(10, 10, 60, 13), shapely.box(10, 30, 60, 50)
    assert not cores(labels_of(thin, road, classes=[1, 2])).any()


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326"])
def test_the_depth_is_metres_on_the_ground(crs):
    """At 60 degrees north a metre of Web Mercator is half as long, and degrees are uneven."""
    if crs == "EPSG:3857":
        affine, along, down = Affine(1, 0, 0, 0, -1, 8_399_737), 2.0, 2.0
    else:
        affine, along, down = Affine(1e-5, 0, 0, 0, -1e-5, 60.0), 1 / 0.558, 1 / 1.114
    plane = GeoBox((80, 120), affine, crs)
    house = shapely.transform(
        shapely.box(10, 10, 70, 60), lambda p: np.column_stack(plane.affine * p.T)
    )
    found = core_labels(
        VectorLabels(SCHEME, plane, np.array([house], object), np.ones(1, np.uint8)), 3.0
    )
    left, top, right, bottom = shapely.bounds(
        shapely.transform(found.shapes[0], lambda p: np.column_stack(~plane.affine * p.T))
    )
    assert (left - 10, 70 - right) == pytest.approx((3 * along,) * 2, rel=0.01)
    assert (top - 10, 60 - bottom) == pytest.approx((3 * down,) * 2, rel=0.01)


def test_windows_agree_and_the_area_limits():
    labels = labels_of(shapely.box(10, 10, 40, 50), shapely.box(40, 10, 70, 50))
    whole = cores(labels)
    part = core_labels(labels, DEPTH).read(window_geobox(PLANE, Window(30, 25, 30, 40)))
    np.testing.assert_array_equal(part, whole[30:60, 25:65])
    half = np.array([on_plane(shapely.box(0, 0, 40, 80))], object)
    clipped = cores(ClippedLabels(labels, Area(half, "half")))
    np.testing.assert_array_equal(clipped[:, :40], whole[:, :40])
    assert (clipped[:, 40:] == IGNORE).all()


def test_labels_without_single_buildings_have_none(array_labels):
    house = labels_of(shapely.box(10, 10, 40, 50))
    assert core_labels(array_labels(SCHEME, PLANE, house.read(PLANE)), DEPTH) is None
    assert core_labels(IgnoreBufferLabels(house, 1.0), DEPTH) is None
    assert core_labels(replace(house, scheme=CORES), DEPTH) is None
