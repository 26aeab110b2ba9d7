"""A box on the ground becomes the square around it, inside the scene."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.errors import ConfigError
from geopipe.retrieve.box import Box
from geopipe.retrieve.header import SceneEntry

NORTH_UP = (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_700_000.0)
TURNED = (0.0, 0.5, 500_000.0, 0.5, 0.0, 4_700_000.0)


def entry(path="/a.tif", affine=NORTH_UP, shape=(400, 600)):
    return SceneEntry(
        path, "1:1", shape, "EPSG:32631", affine, (1, 2, 3), "uint8", None, (64, 32, 0)
    )


@settings(deadline=None)
@given(st.integers(0, 390), st.integers(0, 590), st.integers(8, 300), st.integers(8, 300))
def test_the_square_is_around_the_box_and_in_the_scene(row, col, height, width):
    left, top = 500_000 + 0.5 * col, 4_700_000 - 0.5 * row
    box = Box((left, top - 0.5 * height, left + 0.5 * width, top))
    found, window = box.find([entry()])
    side = max(height, width)
    assert window.shape == (side, side)
    assert 0 <= window.row <= 400 - side
    assert 0 <= window.col <= 600 - side
    # Each side of the box that is in the scene is in the square.
    assert window.row <= row
    assert window.col <= col
    assert window.bottom >= min(row + height, 400)
    assert window.right >= min(col + width, 600)
    for first, n, at, most in ((row, height, window.row, 400), (col, width, window.col, 600)):
        if 0 < at < most - side:  # not moved into the scene
            assert abs((2 * at + side) - (2 * first + n)) <= 1
    assert found.path == "/a.tif"


def test_turned_scenes():
    box = Box((500_010, 4_700_020, 500_060, 4_700_060))
    window = box.find([entry(affine=TURNED)])[1]
    assert (window.row, window.col, window.height) == (20, 30, 100)


def test_the_square_is_one_on_the_ground():
    degrees = replace(entry(affine=(1e-5, 0.0, 7.1, 0.0, -1e-5, 60.0)), crs="EPSG:4326")
    window = Box((7.102, 59.998, 7.1025, 59.9985)).find([degrees])[1]
    assert window.shape == (50, 100)  # a degree of longitude is half as long there


def test_the_scene_that_shows_most_of_it():
    far = entry("/far.tif", (0.5, 0.0, 500_020.0, 0.0, -0.5, 4_700_000.0))
    box = Box((500_000, 4_699_950, 500_050, 4_700_000))
    assert box.find([far, entry()])[0].path == "/a.tif"
    assert box.find([entry(), far])[0].path == "/a.tif"
    with pytest.raises(ConfigError, match="outside all 0 scenes"):
        box.find([])
    with pytest.raises(ConfigError, match="is empty"):
        Box((0, 0, float("nan"), 1))
