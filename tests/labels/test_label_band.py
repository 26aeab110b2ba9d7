"""The band of IGNORE along outlines: as wide as it says, the same whoever asks."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geopipe.classes import IGNORE, load_scheme
from geopipe.errors import LabelError
from geopipe.grid import Window, ground_gsd
from geopipe.labels import Area, ClippedLabels, IgnoreBufferLabels, VectorLabels
from geopipe.raster.scene import window_geobox

PLACES = {
    "lambert": ("EPSG:2154", Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)),
    "mercator": ("EPSG:3857", Affine(0.6, 0, 430_000, 0, -0.6, 5_700_000)),
    "degrees": ("EPSG:4326", Affine(5e-6, 0, 3.9, 0, -4e-6, 45.5)),
    "turned": ("EPSG:2154", Affine(0.3, 0, 789_000, 0, -0.3, 6_501_000) * Affine.rotation(30)),
}
SHAPE = (120, 140)


def labelled(place):
    """Houses and a road through them, in pixels of the scene."""
    crs, transform = PLACES[place]
    boxes = [
        shapely.box(20, 20, 50, 41),
        shapely.box(60, 30, 63, 90),
        shapely.box(0, 70, 140, 78),
        shapely.box(100, 100, 130, 119),
    ]
    shapes = [
        shapely.transform(b, lambda xy: np.array([transform * (x, y) for x, y in xy]))
        for b in boxes
    ]
    plane = GeoBox(SHAPE, transform, crs)
    ids = np.array([1, 1, 2, 1], np.uint8)
    return VectorLabels(load_scheme("buildings-roads"), plane, np.array(shapes, object), ids)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("metres", [0.75, 1.0, 2.4])
def test_it_is_as_wide_as_it_says(place, metres):
    """Against the distance from every pixel to every pixel of another class."""
    labels = labelled(place)
    plane = labels.geobox
    down, along = ground_gsd(plane)
    banded = IgnoreBufferLabels(labels, metres, plane).read(plane)
    ids = labels.read(plane.pad(12, 12))
    found = np.full(SHAPE, False)
    for i in range(-12, 13):
        for j in range(-12, 13):
            other = ids[12 + i : 12 + i + SHAPE[0], 12 + j : 12 + j + SHAPE[1]]
            near = np.hypot(i * down, j * along) - min(down, along) / 2 <= metres
            found |= near & (other != ids[12:-12, 12:-12])
    inside = ids[12:-12, 12:-12]
    assert np.array_equal(banded, np.where(found, IGNORE, inside))
    assert (banded == IGNORE).any()
    assert (banded == 1).any()


@settings(max_examples=40, deadline=None)
@given(
    place=st.sampled_from(sorted(PLACES)),
    metres=st.sampled_from([0.5, 0.75, 1.0, 1.5, 3.0]),
    row=st.integers(-9, 110),
    col=st.integers(-9, 130),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_any_window_says_the_same(place, metres, row, col, height, width):
    labels = labelled(place)
    banded = IgnoreBufferLabels(labels, metres, labels.geobox)
    around = Window(-10, -10, 200, 220)
    window = Window(row, col, height, width)
    whole = banded.read(window_geobox(labels.geobox, around))
    part = banded.read(window_geobox(labels.geobox, window))
    assert np.array_equal(part, whole[window.within(around)])


def test_windows_of_a_tall_mercator_scene_agree():
    """40 km of latitude change the size of a pixel by half a percent: enough to tip 0.75 m."""
    labels = labelled("mercator")
    tall = GeoBox((70_000, 140), *PLACES["mercator"][::-1])
    # What lies two pixels off is within for the small window's own pixels, not for the large one's.
    gsd = ground_gsd(window_geobox(tall, Window(0, 0, 10_000, 140)))[0]
    banded = IgnoreBufferLabels(labels, 1.5 * gsd, tall)
    large = Window(0, 0, 20_000, 140)
    whole = banded.read(window_geobox(tall, large))
    part = banded.read(window_geobox(tall, Window(0, 0, 120, 140)))
    assert np.array_equal(part, whole[:120])


def test_the_rim_of_an_area_is_no_border():
    labels = labelled("lambert")
    west = shapely.box(789_000, 6_500_940, 789_017, 6_501_000)
    limited = ClippedLabels(labels, Area(np.array([west], object), "west"))
    plain, banded = (x.read(labels.geobox) for x in (limited, IgnoreBufferLabels(limited, 1.0)))
    assert (plain[:, 34:] == IGNORE).all()
    assert (banded[30, 24:34] == plain[30, 24:34]).all()
    assert banded[30, 20] == IGNORE


@pytest.mark.parametrize("metres", [0.0, -1.0, 51.0, float("nan")])
def test_nonsense_is_refused(metres):
    with pytest.raises(LabelError, match="to ignore"):
        IgnoreBufferLabels(labelled("lambert"), metres)
