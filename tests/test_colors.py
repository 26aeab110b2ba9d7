"""Default colours of classes: as the names say, and told apart."""

import colorsys

import numpy as np
import pytest

from geopipe.colors import _distances, default_colors


def rgb(color):
    return tuple(bytes.fromhex(color[1:]))


def hue(color):
    """Degrees."""
    return 360 * colorsys.rgb_to_hsv(*(x / 255 for x in rgb(color)))[0]


@pytest.mark.parametrize(
    "name",
    ["grass", "Meadow", "forest", "trees", "tree cover", "grassland", "DenseForest", "Grassland_2"],
)
def test_vegetation_is_green(name):
    (color,) = default_colors([name])
    assert 75 <= hue(color) <= 150


@pytest.mark.parametrize("name", ["water", "River", "lake", "sea_lake", "water body", "rivers"])
def test_water_is_blue(name):
    (color,) = default_colors([name])
    assert 190 <= hue(color) <= 230


def test_buildings_are_red_bare_soil_is_brown_and_sand_is_light():
    building, soil, sand, snow = default_colors(["buildings", "bare soil", "sand", "snow"])
    assert hue(building) < 15
    assert 15 < hue(soil) < 40
    assert max(rgb(soil)) < 170
    assert 35 < hue(sand) < 55
    assert min(rgb(sand)) > 150
    assert min(rgb(snow)) > 230


def test_roads_are_grey():
    (color,) = default_colors(["road"])
    assert max(rgb(color)) - min(rgb(color)) < 30


@pytest.mark.parametrize(
    "names",
    [
        ["grass", "meadow", "forest", "trees", "water", "river", "lake", "sea", "pond", "road"],
        ["forest", "x", "y", "z", "water", "tank", "court", "stadium"],
        [f"kind {i}" for i in range(30)],
    ],
)
def test_classes_of_a_map_are_told_apart(names):
    colors = [rgb(c) for c in default_colors(names)]
    apart = _distances(colors, colors)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 60


@pytest.mark.parametrize("word", ["forest", "kind"])
def test_even_254_classes_differ(word):
    colors = default_colors([f"{word} {i}" for i in range(254)])
    assert len(set(colors)) == 254


def test_equal_names_give_equal_colors():
    names = ["a", "forest", "b"]
    assert default_colors(names) == default_colors(names)
