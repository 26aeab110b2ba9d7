"""The least areas that a model learns of, from labels drawn by hand."""

import numpy as np
import pytest

from geopipe.checkpoint import LABEL_AREAS
from geopipe.classes import IGNORE
from geopipe.learn.label_areas import learnt_areas, small_label_areas
from geopipe.learn.sampler import PatchPool, PoolBlock

NAMES = ("background", "building", "road")


def pool_of(*labels):
    blocks = tuple(PoolBlock(np.zeros((1, *x.shape)), np.ones(x.shape, bool), x) for x in labels)
    return PatchPool(blocks, 0, len(NAMES), 1.0, ())


@pytest.fixture
def labels():
    """A hundred houses of 2 x 2 to 2 x 11 px, ten of each, and things that do not count."""
    ids = np.zeros((82, 130), np.uint8)
    for row in range(10):
        for col in range(10):
            ids[2 + 8 * row : 4 + 8 * row, 2 + 12 * col : 4 + 12 * col + row] = 1
    ids[-1, 60] = 1  # cut by the edge
    ids[0, 60] = IGNORE
    ids[1, 60] = 1  # beside unknown ground
    return ids


def test_the_smallest_hundredth_in_square_metres(labels):
    found = small_label_areas(pool_of(labels), NAMES, 0.5)
    assert found == {"building": 4 * 0.25}


def test_areas_of_all_blocks_count_together(labels):
    half = labels.copy()
    half[:41] = 0
    assert small_label_areas(pool_of(half), NAMES, 1.0) == {}
    assert small_label_areas(pool_of(half, half), NAMES, 1.0) == {"building": 14.0}


def test_a_model_keeps_what_it_learnt_before_of_classes_with_few_areas(labels, make_model):
    model = make_model(classes=3)
    model = model.with_net(model.net, {LABEL_AREAS: {"building": 30.0, "road": 9.0}})
    assert learnt_areas(pool_of(labels), model) == {LABEL_AREAS: {"building": 4.0, "road": 9.0}}
    assert learnt_areas(pool_of(labels * 0), make_model(classes=3)) == {}
