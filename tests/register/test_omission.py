"""Missing objects are counted without bias: as many as were taken away, none where none were."""

from dataclasses import dataclass

import numpy as np
import pytest

from geopipe.grid import Window
from geopipe.register.omission import find_omission, find_spots

SIDE, HOUSES, OTHERS = 700, 200, 80


@dataclass(frozen=True)
class Grid:
    gsd: float = 1.0


@pytest.fixture(scope="module")
def world():
    """Houses, and dark strips that look a little like them: likelihood, house number."""
    rng = np.random.default_rng(3)
    likelihood = rng.uniform(0, 0.3, (SIDE, SIDE)).astype(np.float32)
    number = np.zeros((SIDE, SIDE), int)
    places = [(r, c) for r in range(20, SIDE - 30, 40) for c in range(20, SIDE - 30, 40)]
    for i, k in enumerate(rng.permutation(len(places))[: HOUSES + OTHERS]):
        row, col = places[k]
        height, width = rng.integers(9, 16, 2) if i < HOUSES else (4, int(rng.integers(14, 26)))
        at = (slice(row, row + height), slice(col, col + width))
        seen = rng.uniform(0.75, 1.0) if i < HOUSES else rng.uniform(0.7, 0.95)
        likelihood[at] = seen
        if i < HOUSES:
            number[at] = i + 1
    return likelihood, number


def missing(world, share, block=SIDE):
    likelihood, number = world
    gone = np.random.default_rng(1).permutation(HOUSES)[: round(share * HOUSES)] + 1
    labelled = (number > 0) & ~np.isin(number, gone)
    valid = np.ones(number.shape, bool)
    parts = []
    for row in range(0, SIDE, block):
        part = Window(row, 0, block, SIDE)
        outer = part.expand(30).clip(number.shape)
        at = outer.within(Window(0, 0, SIDE, SIDE))
        pixels = (likelihood[at], valid[at], labelled[at])
        parts.append(find_spots(Grid(), *pixels, part, outer))
    return find_omission(1, parts), np.isin(number, gone)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_as_many_are_missed_as_were_taken_away(world, share):
    omission, gone = missing(world, share)
    # The least of several bounds: of few objects it is low rather than high.
    assert omission.expected == pytest.approx(share * HOUSES, rel=0.35, abs=0.03 * HOUSES)
    right = [gone[round(s.row), round(s.col)] for s in omission.spots]
    if share:
        assert np.mean(right) > 0.9
        assert len(right) > 0.4 * share * HOUSES
    else:
        assert len(right) < 0.02 * HOUSES


def test_parts_of_a_scene_give_what_the_whole_gives(world):
    whole, parts = missing(world, 0.2)[0], missing(world, 0.2, block=350)[0]
    assert parts.expected == pytest.approx(whole.expected, rel=0.1)
    places = {(round(s.row), round(s.col)) for s in whole.spots}
    assert len({(round(s.row), round(s.col)) for s in parts.spots} & places) > 0.8 * len(places)


def test_few_labels_tell_nothing(world):
    assert np.isnan(missing(world, 0.95)[0].expected)
