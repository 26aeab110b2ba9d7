"""Weights between two networks: where they lie, and how the tile's halves choose."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geopipe.learn import PatchPool
from geopipe.learn.interpolation import (
    SHARES,
    best_share,
    count_buildings,
    interpolated,
    regularized,
    share_of_all,
    share_of_half,
    trusted_share,
)
from geopipe.learn.sampler import PoolBlock

pytestmark = pytest.mark.usefixtures("one_thread")


def saying(make_model, *biases):
    """A model whose scores are `biases` wherever it looks."""
    model = make_model(iterations=0)
    head = model.net.base.conv4
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(biases))
    return model


def half_of(class_id):
    """A pool of 40 x 40 px of one class."""
    ids = np.full((40, 40), class_id, np.uint8)
    image = np.zeros((3, 40 + 64, 40 + 64), np.float32)
    block = PoolBlock(image, np.ones(image.shape[1:], bool), ids)
    at = np.insert(np.argwhere(ids == class_id), 0, 0, axis=1).astype(np.int32)
    positions = tuple(at if k == class_id else at[:0] for k in range(3))
    return PatchPool((block,), 32, 3, 1.0, positions)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_lie_on_the_line(make_model, share):
    first, last = (make_model(iterations=0, seed=seed).net for seed in (1, 2))
    weights = interpolated(first, last, share).state_dict()
    for name, weight in weights.items():
        start, end = first.state_dict()[name], last.state_dict()[name]
        torch.testing.assert_close(weight, start + share * (end - start), rtol=1e-5, atol=1e-6)
    if share == 1:
        assert all(torch.equal(weight, last.state_dict()[k]) for k, weight in weights.items())


def test_networks_of_two_architectures_have_nothing_between(make_model):
    with pytest.raises((KeyError, RuntimeError)):
        interpolated(make_model(iterations=0).net, make_model(iterations=1).net, 0.5)


@pytest.mark.parametrize(("truth", "best"), [(0, 0.25), (1, 0.75)])
def test_the_halves_choose(make_model, truth, best):
    """Scores go from (1, 0) to (0, 1): class 1 is the best beyond a share of a half."""
    base, fine_tuned = saying(make_model, 1.0, 0.0, -9.0), saying(make_model, 0.0, 1.0, -9.0)
    folds = [(fine_tuned, half_of(truth))] * 2
    assert best_share(base, folds) == best
    model, between = regularized(base, fine_tuned, folds, tile_with(81))
    share = share_of_all(best)
    expected = torch.tensor([1 - share, share, -9.0])
    torch.testing.assert_close(model.net.base.conv4.bias, expected, rtol=1e-3, atol=1e-4)
    for fold, _ in between:
        assert fold.provenance["finetuning"]["interpolation"] == best
    assert model.provenance["finetuning"]["interpolation"] == round(share, 4)


@given(st.floats(0, 10), st.floats(0, 10))
def test_twice_the_pixels_shrink_half_as_much(signal, variance):
    if signal + variance > 1e-3:
        of_halves = signal / (signal + variance)
        expected = signal / (signal + variance / 2) if signal else 0
        assert share_of_all(of_halves) == pytest.approx(expected)


def test_shares_end_at_the_fine_tuned_network():
    assert share_of_all(SHARES[-1]) == 1


def tile_with(houses):
    """A pool of one block with so many single houses, two of which meet at a corner."""
    ids = np.zeros((60, 60), np.uint8)
    for i in range(houses):
        row, col = 3 + 6 * (i // 9), 3 + 6 * (i % 9)
        ids[row : row + 3, col : col + 3] = 1
    if houses > 1:
        ids[6, 6] = 1  # a corner of the first: no house of its own
    block = PoolBlock(np.zeros((3, 124, 124), np.float32), np.ones((124, 124), bool), ids)
    at = [np.insert(np.argwhere(ids == k), 0, 0, axis=1).astype(np.int32) for k in range(3)]
    return PatchPool((block,), 32, 3, 1.0, tuple(at))


def test_buildings_are_connected_areas_of_their_class():
    assert count_buildings(tile_with(5), ("background", "building", "road")) == 5
    assert count_buildings(tile_with(0), ("background", "building", "road")) == 0
    assert count_buildings(tile_with(5), ("background", "water", "road")) is None


def test_few_buildings_do_not_undo_what_the_network_knew(make_model, caplog):
    """Both halves are for the fine-tuned network; the number of buildings is not."""
    base, fine_tuned = saying(make_model, 1.0, 0.0, -9.0), saying(make_model, 0.0, 1.0, -9.0)
    folds = [(fine_tuned, half_of(1))] * 2
    for houses, expected, warns in ((3, 0.2, True), (12, 0.5, False), (45, 45 / 57, False)):
        caplog.clear()
        model, between = regularized(base, fine_tuned, folds, tile_with(houses))
        share = model.provenance["finetuning"]["interpolation"]
        assert share == pytest.approx(expected, abs=1e-4)
        assert model.provenance["finetuning"]["buildings"] == houses
        torch.testing.assert_close(
            model.net.base.conv4.bias, torch.tensor([1 - share, share, -9.0]), rtol=1e-3, atol=1e-3
        )
        of_halves = between[0][0].provenance["finetuning"]["interpolation"]
        assert share_of_all(of_halves) == pytest.approx(share, abs=1e-3)
        assert (f"few buildings on accurate ground ({houses})" in caplog.text) == warns


def test_without_halves_the_buildings_decide(make_model):
    base, fine_tuned = saying(make_model, 1.0, 0.0, -9.0), saying(make_model, 0.0, 1.0, -9.0)
    model, between = regularized(base, fine_tuned, [], tile_with(4))
    assert (model.provenance["finetuning"]["interpolation"], between) == (0.25, [])


def test_other_classes_are_not_limited():
    assert trusted_share(None) == 1
    assert trusted_share(0) == 0


@given(st.floats(0, 1))
def test_the_share_of_a_half_is_the_inverse(share):
    assert share_of_all(share_of_half(share)) == pytest.approx(share, abs=1e-9)
