"""Patches that are turned and scaled."""

import math

import numpy as np
import pytest
import torch

from geopipe.classes import IGNORE
from geopipe.learn.warp import SHARE, Warp

RNG = np.random.default_rng(0)
IDS = RNG.integers(3, size=(40, 50), dtype=np.uint8)
IMAGE = torch.from_numpy(RNG.normal(size=(2, 40, 50)).astype(np.float32))


def test_a_warp_by_nothing_is_the_patch() -> None:
    still = Warp(0.0, 1.0)
    assert torch.allclose(still.image(IMAGE, 5, 7, 20), IMAGE[:, 5:25, 7:27], atol=1e-5)
    np.testing.assert_array_equal(still.labels(IDS, 5, 7, 20), IDS[5:25, 7:27])


def test_a_quarter_turn_moves_image_and_labels_alike() -> None:
    turn = Warp(math.pi / 2, 1.0)
    quarter = torch.rot90(IMAGE[:, 5:25, 7:27], -1, (1, 2))
    assert torch.allclose(turn.image(IMAGE, 5, 7, 20), quarter, atol=1e-4)
    np.testing.assert_array_equal(turn.labels(IDS, 5, 7, 20), np.rot90(IDS[5:25, 7:27], -1))


def test_a_scale_of_two_takes_every_second_pixel_around_the_middle() -> None:
    ids = np.add.outer(np.arange(40), np.arange(40)).astype(np.uint8)
    found = Warp(0.0, 2.0).labels(ids, 10, 10, 9)  # its middle is pixel 14
    np.testing.assert_array_equal(found, ids[6:23:2, 6:23:2])


def test_nothing_is_known_beyond_the_labels_and_the_image_is_its_mean_there() -> None:
    wide = Warp(0.0, 3.0)
    labels = wide.labels(IDS, 10, 15, 20)
    assert (labels[0] == IGNORE).all()
    assert (labels[10] != IGNORE).sum() == 16  # 50 px at every third
    assert not wide.image(IMAGE, 10, 15, 20)[:, 0].any()


@pytest.mark.parametrize("strength", [0.0, 0.25])
def test_angles_and_scales_stay_within_their_bounds(strength: float) -> None:
    rng = np.random.default_rng(1)
    drawn = [Warp.draw(rng, strength) for _ in range(400)]
    warps = [w for w in drawn if w]
    assert len(warps) / len(drawn) == pytest.approx(SHARE, abs=0.07)
    assert all(abs(w.angle) <= math.pi / 4 for w in warps)
    scales = [math.log(w.scale) for w in warps]
    assert min(scales) >= -strength
    assert max(scales) <= strength
    assert max(scales) - min(scales) >= 1.9 * strength
