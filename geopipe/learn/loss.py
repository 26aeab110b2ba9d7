"""The losses of every pixel-wise training."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from geopipe.classes import IGNORE


def labelled_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; 0 where a batch has none.

    `scores` (N, classes, h, w) of any float type, `labels` (N, h, w) uint8 with IGNORE.
    """
    total = cross_entropy(scores.float(), labels.long(), ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def generalised_cross_entropy(scores: Tensor, labels: Tensor, q: float) -> Tensor:
    """Mean of (1 - p^q) / q over labelled pixels, p the probability of the label.

    Zhang and Sabuncu 2018 (NeurIPS, arXiv 1805.07836), eq. 6: towards q = 0 the cross-entropy, at
    q = 1 the mean absolute error, which a wrong label pulls at less. Arguments as above.
    """
    chance = -cross_entropy(scores.float(), labels.long(), ignore_index=IGNORE, reduction="none")
    labelled = labels != IGNORE
    # expm1: near p = 1 the difference from 1 would be rounded away.
    loss = -torch.expm1(q * chance) / q
    return (loss * labelled).sum() / labelled.sum().clamp(min=1)
