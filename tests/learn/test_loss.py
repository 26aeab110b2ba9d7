import numpy as np
import pytest
import torch

from geopipe.classes import IGNORE
from geopipe.learn.loss import labelled_cross_entropy


def test_the_mean_over_labelled_pixels():
    scores = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 5, 6), dtype=torch.uint8)
    labels[0, 1:3] = IGNORE
    log_p = scores.numpy() - np.log(np.exp(scores.numpy()).sum(1, keepdims=True))
    known = labels.numpy() != IGNORE
    n, r, c = np.nonzero(known)
    oracle = -log_p[n, labels.numpy()[known], r, c].mean()
    assert labelled_cross_entropy(scores, labels).item() == pytest.approx(oracle, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_without_a_label_costs_and_teaches_nothing(dtype):
    scores = torch.randn(2, 3, 4, 4).to(dtype).requires_grad_()
    loss = labelled_cross_entropy(scores, torch.full((2, 4, 4), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_unknown_pixels_have_no_gradient():
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[0, 2] = IGNORE
    labelled_cross_entropy(scores, labels).backward()
    moved = scores.grad.abs().sum(1)[0] > 0
    assert moved.equal(labels[0] != IGNORE)
