"""Burned tile by tile equals burned at once, and equals what shapely says of pixel centres."""

import pickle

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe.errors import GridError
from geopipe.grid import NetworkGrid, Window
from geopipe.labels import VectorLabels
from geopipe.labels.features import FeatureCollector
from geopipe.raster.scene import window_geobox

SIZE = (60, 80)


def labels_of(scheme, plane, shapes):
    gathering = FeatureCollector(scheme, CRS(plane.crs.proj), None)
    for shape, class_id, width in shapes:
        gathering._append(shape, class_id, width)
    return VectorLabels.of([gathering.finish()], scheme, plane)


@st.composite
def triangles(draw):
    """Triangles in pixels whose corners often lie right on pixel centres and edges."""
    step = draw(st.sampled_from([1.0, 0.5, 0.25, 0.1, 1 / 3]))
    corner = st.tuples(st.integers(-20, 320), st.integers(-20, 260))
    corners = [tuple(step * v for v in draw(corner)) for _ in range(3)]
    return shapely.Polygon(corners)


PLANES = [
    Affine(0.5, 0, 789_000.0, 0, -0.5, 6_501_000.0),
    Affine(0.29858214173896974, 0, 9519391.065607566, 0, -0.29858214173896974, 3203475.8554317355),
    Affine.translation(789_000.3, 6_501_000.7) * Affine.rotation(20) * Affine.scale(0.3, -0.3),
]


@pytest.mark.parametrize("affine", PLANES, ids=["half", "mercator", "rotated"])
@pytest.mark.parametrize("gsd", [None, 0.9, 1.7])
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(triangles(), st.integers(1, 2)), min_size=1, max_size=6),
    st.integers(1, 59),
    st.integers(1, 79),
)
def test_windows_agree_with_the_whole(scheme, affine, gsd, drawn, row, col):
    plane = GeoBox(SIZE, affine, "EPSG:3857" if affine.c > 9e6 else "EPSG:2154")
    shapes = [
        (shapely.transform(t, lambda p: np.column_stack(affine * p.T)), i, np.nan)
        for t, i in drawn
        if t.area > 0.5
    ]
    shapes.append((plane.extent.geom.buffer(1e-9), 0, np.nan))  # so that something always meets
    labels = labels_of(scheme, plane, shapes)
    target = plane if gsd is None else NetworkGrid.of(plane, gsd).geobox(plane)
    whole = labels.read(target)
    height, width = target.shape
    row, col = min(row, height), min(col, width)
    put = np.full_like(whole, 77)
    for top, h in ((0, row), (row, height - row)):
        for left, w in ((0, col), (col, width - col)):
            if h and w:
                window = Window(top, left, h, w)
                put[window.slices] = labels.read(window_geobox(target, window))
    np.testing.assert_array_equal(put, whole)
    halo = Window(row, col, 5, 5).expand(7)
    inside = halo.clip(target.shape)
    read = labels.read(window_geobox(target, halo))
    np.testing.assert_array_equal(read[inside.within(halo)], whole[inside.slices])


def test_a_pixel_is_what_its_centre_lies_in(scheme, plane):
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 150, (12, 3, 2)) * (1, -1) + (789_000, 6_501_000)
    shapes = [shapely.Polygon(c) for c in corners]
    labels = labels_of(scheme, plane, [(s, 1, np.nan) for s in shapes])
    rows, cols = np.mgrid[0:300, 0:400] + 0.5
    x, y = plane.affine * (cols, rows)
    want = shapely.contains_xy(shapely.union_all(shapes), x, y)
    assert (labels.read(plane) == 1).sum() > 5000
    assert ((labels.read(plane) == 1) != want).sum() <= 2


def test_priority_and_not_the_order_of_the_file_decides(scheme, plane):
    building = shapely.box(789_010, 6_500_950, 789_050, 6_500_990)
    road = shapely.LineString([(789_000, 6_500_970), (789_100, 6_500_970)])
    shapes = [(building, 1, np.nan), (road, 2, 7.0)]
    first, second = labels_of(scheme, plane, shapes), labels_of(scheme, plane, shapes[::-1])
    ids = first.read(plane)
    np.testing.assert_array_equal(ids, second.read(plane))
    assert (ids[20:100, 20:100] == 1).all()
    assert ids[60, 15] == 2
    assert ids[60, 150] == 2
    assert ids[5, 5] == 0


def test_holes_stay_and_invalid_polygons_are_mended_and_counted(scheme, plane):
    at = (789_000, 6_501_000)
    bow_tie = shapely.Polygon([(10, -10), (30, -30), (30, -10), (10, -30)])
    ring = shapely.Polygon(
        [(50, -10), (90, -10), (90, -50), (50, -50)], [[(60, -20), (80, -20), (80, -40), (60, -40)]]
    )
    moved = [shapely.transform(s, lambda p: p + at) for s in (bow_tie, ring)]
    flat = shapely.Polygon([(789_100, 6_500_990), (789_110, 6_500_990), (789_120, 6_500_990)])
    labels = labels_of(scheme, plane, [(s, 1, np.nan) for s in (*moved, flat)])
    ids = labels.read(plane)
    assert ids[60, 140] == 0  # the hole
    assert (ids == 1).sum() == pytest.approx((200 + 1200) * 4, rel=0.03)
    assert labels.repaired == 2
    assert labels.skipped == (("shape without area", 1),)
    assert labels.counts == (0, 2, 0)


def test_labels_travel_to_other_processes(scheme, plane):
    labels = labels_of(
        scheme, plane, [(shapely.box(789_010, 6_500_950, 789_050, 6_500_990), 1, np.nan)]
    )
    copy = pickle.loads(pickle.dumps(labels))
    np.testing.assert_array_equal(copy.read(plane), labels.read(plane))
    assert (copy.counts, copy.scheme) == (labels.counts, labels.scheme)


def test_another_crs_is_refused(scheme, plane):
    labels = labels_of(
        scheme, plane, [(shapely.box(789_010, 6_500_950, 789_050, 6_500_990), 1, np.nan)]
    )
    with pytest.raises(GridError, match="EPSG:3857"):
        labels.read(GeoBox((4, 4), Affine(1, 0, 0, 0, -1, 0), "EPSG:3857"))
