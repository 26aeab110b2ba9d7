import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from shapely.affinity import rotate, scale, translate

from geopipe.raster.orthogonalize import orthogonalized

PIXEL = 0.5


def traced(shape):
    """`shape` (metres) as its pixels of half a metre show it."""
    left, bottom, *_ = shape.bounds
    x, y = (int(v // PIXEL) * PIXEL - 5 * PIXEL for v in (left, bottom))
    moved = scale(translate(shape, -x, -y), 1 / PIXEL, 1 / PIXEL, origin=(0, 0))
    burned = rasterize([moved], [int(v) + 5 for v in moved.bounds[:1:-1]], dtype="uint8")
    found = (shapely.geometry.shape(s) for s, v in shapes(burned, connectivity=4) if v)
    largest = max(found, key=lambda outline: outline.area)
    return translate(scale(largest, PIXEL, PIXEL, origin=(0, 0)), x, y)


def sides(ring):
    """Direction in degrees and length of each side."""
    side = np.diff(shapely.get_coordinates(ring), axis=0)
    return np.degrees(np.arctan2(side[:, 1], side[:, 0])), np.hypot(*side.T)


def bends(ring):
    """How far from a right angle its corners are, in degrees."""
    angles = sides(ring)[0]
    return np.abs((angles - np.roll(angles, 1)) % 180 - 90)


def turned_by(ring, degrees):
    """How far its sides are from a direction or the one across it, in degrees."""
    return np.abs((sides(ring)[0] - degrees + 45) % 90 - 45)


def iou(a, b):
    return a.intersection(b).area / a.union(b).area


def placed(shape, degrees, dx=0.0, dy=0.0):
    return translate(rotate(shape, degrees, origin=(0, 0)), dx, dy)


def ell(length, width, across):
    """An L of two wings, both `across` wide."""
    return shapely.box(0, 0, length, across) | shapely.box(0, 0, across, width)


metres = st.floats(10, 30)
turns = st.floats(0, 90)
parts_of_a_pixel = st.floats(0, PIXEL)


@settings(max_examples=100, deadline=None)
@given(metres, metres, turns, parts_of_a_pixel, parts_of_a_pixel)
def test_a_rectangle_comes_back(length, width, degrees, dx, dy):
    true = placed(shapely.box(0, 0, length, width), degrees, dx, dy)
    raw = traced(true)
    squared = orthogonalized(raw, PIXEL)
    assert len(squared.exterior.coords) == 5
    assert bends(squared.exterior).max() < 1e-6
    # One step of the raster along the shorter side can hide.
    assert turned_by(squared.exterior, degrees).max() < np.degrees(PIXEL / min(length, width))
    assert squared.area == pytest.approx(raw.area, rel=0.05)
    assert iou(squared, true) > 0.88  # the raster alone may be half a pixel off
    assert iou(squared, true) >= iou(raw, true) - 0.005


@settings(max_examples=100, deadline=None)
@given(metres, metres, st.floats(4, 6), turns, parts_of_a_pixel, parts_of_a_pixel)
def test_an_l_comes_back(length, width, across, degrees, dx, dy):
    true = placed(ell(length, width, across), degrees, dx, dy)
    raw = traced(true)
    squared = orthogonalized(raw, PIXEL)
    assert len(squared.exterior.coords) == 7
    assert bends(squared.exterior).max() < 1e-6
    assert squared.area == pytest.approx(raw.area, rel=0.05)
    assert iou(squared, true) > 0.8  # small wings, half a pixel off all around


@pytest.mark.parametrize("true", [shapely.box(0, 0, 20, 12), ell(20, 14, 6)])
def test_areas_and_directions_are_right_on_average(true):
    errors, off, gain = [], [], []
    for degrees in range(90):
        turned = placed(true, degrees, 0.1, 0.2)
        raw = traced(turned)
        squared = orthogonalized(raw, PIXEL)
        errors.append(squared.area / true.area - 1)
        off.append(turned_by(squared.exterior, degrees).max())
        gain.append(iou(squared, turned) - iou(raw, turned))
    assert np.abs(errors).max() < 0.05
    assert abs(np.mean(errors)) < 0.005
    assert np.mean(off) < 0.5
    assert np.mean(gain) > 0.02


def test_steps_in_a_wall_stay_when_they_are_large():
    """A row of two houses, one set back by 0.6 m (noise of the raster) or by 3 m."""
    for step, corners in ((0.6, 4), (3.0, 8)):
        row = shapely.box(0, 0, 12, 10) | shapely.box(12, step, 24, 10 + step)
        squared = orthogonalized(traced(placed(row, 20)), PIXEL)
        assert len(squared.exterior.coords) - 1 == corners


def test_a_small_step_is_shared_out_by_length():
    raw = shapely.box(0, 0, 24, 10) | shapely.box(20, 0, 24, 10.95)
    squared = orthogonalized(raw, PIXEL)
    assert len(squared.exterior.coords) == 5
    assert squared.area == pytest.approx(raw.area, rel=1e-3)


def test_a_cut_corner_becomes_a_corner():
    cut = shapely.box(0, 0, 20, 15) - shapely.Polygon([(17, 0), (20, 0), (20, 3)])
    squared = orthogonalized(traced(placed(cut, 33)), PIXEL)
    assert len(squared.exterior.coords) == 5
    assert squared.area == pytest.approx(20 * 15, rel=0.03)


@pytest.mark.parametrize("radius", [1.5, 3, 6, 12, 25])
def test_a_circle_is_not_deformed(radius):
    raw = traced(shapely.Point(0.2, 0.1).buffer(radius, 64))
    squared = orthogonalized(raw, PIXEL)
    assert iou(squared, raw) >= 0.8
    if radius >= 12:
        assert squared is raw


@pytest.mark.parametrize("length", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("radius", [5, 8, 12, 20])
def test_circles_and_ovals_of_ten_pixels_and_more_stay(length, radius):
    rng = np.random.default_rng(radius)
    for degrees, dx, dy in rng.uniform(0, 90, (10, 3)):
        oval = scale(shapely.Point(0, 0).buffer(radius, 64), length, 1)
        raw = traced(placed(oval, degrees, dx / 90, dy / 90))
        assert orthogonalized(raw, PIXEL) is raw


def test_a_triangle_stays():
    raw = traced(shapely.Polygon([(0, 0), (30, 3), (12, 25)]))
    assert orthogonalized(raw, PIXEL) is raw


def test_holes_follow_the_walls_of_the_building():
    block = shapely.box(0, 0, 40, 30)
    court, flaw = shapely.box(10, 8, 25, 20), shapely.box(31, 20, 31.6, 20.6)
    squared = orthogonalized(traced(placed(block - court - flaw, 27)), PIXEL)
    (hole,) = squared.interiors
    assert len(hole.coords) == 5
    assert turned_by(hole, 27).max() < 2
    assert np.ptp(turned_by(hole, 0)) < 1e-6
    assert turned_by(hole, 0)[0] == pytest.approx(turned_by(squared.exterior, 0)[0], abs=1e-6)
    assert shapely.Polygon(hole).area == pytest.approx(court.area, rel=0.05)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9), (2, 5), (3, 3)])
def test_few_pixels_in_line_stay_what_they_are(size):
    raw = shapely.box(0, 0, size[0] * PIXEL, size[1] * PIXEL)
    assert orthogonalized(raw, PIXEL).equals(raw)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_blob_gives_a_valid_polygon_near_to_it(seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(36, 36))
    for axis in (0, 1):
        noise = sum(np.roll(noise, k, axis) for k in range(-2, 3))
    blobs = (noise > rng.normal() * noise.std()).astype("uint8")
    for shape, value in shapes(blobs, connectivity=4):
        raw = shapely.geometry.shape(shape)
        squared = orthogonalized(raw, 1.0)
        assert squared.is_valid
        if squared is not raw:
            assert value in (0, 1)
            assert iou(squared, raw) >= 0.8
            assert all(bends(r).max() < 1e-6 for r in (squared.exterior, *squared.interiors))
            assert sides(squared.exterior)[1].min() > 0


def test_place_and_unit_do_not_matter():
    raw = traced(placed(ell(20, 14, 6), 17))
    squared = orthogonalized(raw, PIXEL)
    far = orthogonalized(translate(raw, 700_000, 6_500_000), PIXEL)
    assert translate(far, -700_000, -6_500_000).equals_exact(squared, 1e-6)
    feet = orthogonalized(scale(raw, 3.28, 3.28, origin=(0, 0)), PIXEL * 3.28)
    assert scale(feet, 1 / 3.28, 1 / 3.28, origin=(0, 0)).equals_exact(squared, 1e-9)


def test_near_neighbours_overlap_by_no_more_than_two_pixels():
    """Two houses drawn a pixel apart, turned against each other: overlaps are thin."""
    for degrees in range(0, 90, 7):
        one = traced(placed(shapely.box(0, 0, 12, 10), degrees))
        other = traced(placed(shapely.box(12.5, 0, 22, 10), degrees))
        common = orthogonalized(one, PIXEL).intersection(orthogonalized(other, PIXEL))
        assert common.buffer(-PIXEL).is_empty
