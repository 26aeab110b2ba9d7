"""Borders between neighbouring buildings, on houses whose walls and gaps are known."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.classes import IGNORE, load_scheme
from geopipe.grid import Window
from geopipe.labels import (
    BORDERS,
    Area,
    ClippedLabels,
    IgnoreBufferLabels,
    VectorLabels,
    border_labels,
)
from geopipe.raster.scene import window_geobox

SCHEME = load_scheme("buildings-roads")
PLANE = GeoBox((80, 120), Affine(0.5, 0, 500_000, 0, -0.5, 6_500_000), "EPSG:32631")
REACH = 1.0
"""Metres: 2 px."""


def houses(*boxes, classes=None):
    """Labels of boxes (left, top, right, bottom) in pixels."""
    shapes = [
        shapely.transform(shapely.box(*b), lambda p: np.column_stack(PLANE.affine * p.T))
        for b in boxes
    ]
    ids = np.array(classes or [1] * len(boxes), np.uint8)
    return VectorLabels(SCHEME, PLANE, np.array(shapes, object), ids)


def borders(labels, geobox=PLANE):
    found = border_labels(labels, REACH)
    assert found.scheme == BORDERS
    return found.read(geobox)


def test_a_shared_wall_is_a_band_on_both_sides_of_it():
    drawn = borders(houses((10, 10, 40, 50), (40, 10, 70, 50)))
    assert (drawn[12:48] == (np.arange(120) >= 38) * (np.arange(120) < 42)).all()
    assert not drawn[:8].any()
    assert not drawn[52:].any()


@pytest.mark.parametrize(("gap", "width"), [(1, 3), (2, 2), (3, 1), (5, 0), (20, 0)])
def test_a_narrow_gap_is_a_border_and_a_wide_one_is_none(gap, width):
    drawn = borders(houses((10, 10, 40, 50), (40 + gap, 10, 90, 50)))
    assert (drawn[20:40].sum(1) == width).all()


def test_one_house_alone_has_no_border():
    assert not borders(houses((10, 10, 40, 50))).any()
    court = shapely.box(10, 10, 70, 70) - shapely.box(38, 38, 40, 40)
    labels = houses((0, 0, 1, 1))
    ring = shapely.transform(court, lambda p: np.column_stack(PLANE.affine * p.T))
    assert not borders(replace(labels, shapes=np.array([ring], object))).any()


def test_a_part_of_a_building_is_not_its_neighbour():
    assert not borders(houses((10, 10, 60, 50), (20, 20, 40, 40), (10, 10, 60, 50))).any()


def test_a_road_beside_a_house_is_no_border():
    assert not borders(houses((10, 10, 40, 50), (40, 10, 70, 50), classes=[1, 2])).any()


def test_windows_agree_and_the_area_limits():
    labels = houses((10, 10, 40, 50), (40, 10, 70, 50), (11, 51, 60, 70))
    whole = borders(labels)
    window = Window(30, 25, 30, 40)
    part = border_labels(labels, REACH).read(window_geobox(PLANE, window))
    np.testing.assert_array_equal(part, whole[30:60, 25:65])
    half = shapely.transform(
        shapely.box(0, 0, 40, 80), lambda p: np.column_stack(PLANE.affine * p.T)
    )
    clipped = borders(ClippedLabels(labels, Area(np.array([half], object), "half")))
    np.testing.assert_array_equal(clipped[:, :40], whole[:, :40])
    assert (clipped[:, 40:] == IGNORE).all()


def test_labels_without_single_buildings_have_none(array_labels):
    assert border_labels(IgnoreBufferLabels(houses((10, 10, 40, 50)), 1.0), REACH) is None
    without = replace(houses((10, 10, 40, 50)), scheme=BORDERS)
    assert border_labels(without, REACH) is None
