import numpy as np
import pytest
import torch

from geopipe.classes import IGNORE
from geopipe.learn.loss import generalised_cross_entropy, labelled_cross_entropy


def test_the_mean_over_labelled_pixels():
    scores = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 5, 6), dtype=torch.uint8)
    labels[0, 1:3] = IGNORE
    log_p = scores.numpy() - np.log(np.exp(scores.numpy()).sum(1, keepdims=True))
    known = labels.numpy() != IGNORE
    n, r, c = np.nonzero(known)
    oracle = -log_p[n, labels.numpy()[known], r, c].mean()
    assert labelled_cross_entropy(scores, labels).mean.item() == pytest.approx(oracle, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_without_a_label_costs_and_teaches_nothing(dtype):
    scores = torch.randn(2, 3, 4, 4).to(dtype).requires_grad_()
    nothing = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = labelled_cross_entropy(scores, nothing).mean
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_unknown_pixels_have_no_gradient():
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[0, 2] = IGNORE
    labelled_cross_entropy(scores, labels).mean.backward()
    moved = scores.grad.abs().sum(1)[0] > 0
    assert moved.equal(labels[0] != IGNORE)


def test_generalised_cross_entropy_is_its_definition():
    scores = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 5, 6), dtype=torch.uint8)
    labels[1, :, 2] = IGNORE
    chance = np.exp(scores.numpy()) / np.exp(scores.numpy()).sum(1, keepdims=True)
    known = labels.numpy() != IGNORE
    n, r, c = np.nonzero(known)
    right = chance[n, labels.numpy()[known], r, c]
    for q in (0.1, 0.7, 1.0):
        oracle = ((1 - right**q) / q).mean()
        assert generalised_cross_entropy(scores, labels, q).mean.item() == pytest.approx(
            oracle, rel=1e-4
        )


def test_generalised_cross_entropy_ends_in_the_cross_entropy():
    scores, labels = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8), dtype=torch.uint8)
    near = generalised_cross_entropy(scores, labels, 1e-4).mean.item()
    assert near == pytest.approx(labelled_cross_entropy(scores, labels).mean.item(), rel=1e-3)


def test_a_wrong_label_pulls_less_than_in_the_cross_entropy():
    """A pixel that is surely of another class than its label."""
    labels = torch.zeros(1, 1, 1, dtype=torch.uint8)
    pulls = []
    for loss in (labelled_cross_entropy, lambda s, y: generalised_cross_entropy(s, y, 0.7)):
        scores = torch.tensor([0.0, 6.0]).view(1, 2, 1, 1).requires_grad_()
        loss(scores, labels).mean.backward()
        pulls.append(scores.grad.abs().max().item())
    assert pulls[1] < 0.05 * pulls[0]


def test_a_batch_without_a_label_costs_nothing_with_the_robust_loss():
    scores = torch.randn(2, 3, 4, 4).requires_grad_()
    nothing = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = generalised_cross_entropy(scores, nothing, 0.7).mean
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


WEIGHTS = torch.tensor([1.0, 3.0, 0.5])


@pytest.mark.parametrize(
    "loss",
    [labelled_cross_entropy, lambda s, y, w=None: generalised_cross_entropy(s, y, 0.7, w)],
    ids=["cross-entropy", "generalised"],
)
def test_class_weights_count_a_pixel_as_that_many(loss):
    scores = torch.randn(1, 3, 1, 3, dtype=torch.float64)
    labels = torch.tensor([[[0, 1, 1]]], dtype=torch.uint8)
    repeated = [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]  # weights 1 : 3, twice
    many = loss(scores[..., repeated], labels[..., repeated])
    once = loss(scores, labels, WEIGHTS)
    assert once.weight == 1 + 3 + 3
    assert once.mean.item() == pytest.approx(many.mean.item(), rel=1e-6)


def test_weights_of_one_change_nothing():
    scores, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    labels[0, 0] = IGNORE
    plain = labelled_cross_entropy(scores, labels)
    weighted = labelled_cross_entropy(scores, labels, torch.ones(3))
    assert weighted.mean.item() == pytest.approx(plain.mean.item(), rel=1e-6)
