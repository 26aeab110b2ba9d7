"""The losses of every pixel-wise training."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from geopipe.classes import IGNORE


class SummedLoss(NamedTuple):
    """A loss over some of a batch's patches; the batch's is the sum of totals by that of weights.

    A mean of means would count a patch with few labelled pixels as much as a full one.
    """

    total: Tensor
    """Scalar float32."""
    weight: Tensor
    """Scalar: the labelled pixels, or the sum of their class weights."""

    def plus(self, other: "SummedLoss") -> "SummedLoss":
        """Both together."""
        return SummedLoss(self.total + other.total, self.weight + other.weight)

    @property
    def mean(self) -> Tensor:
        """The loss per labelled pixel; 0 where there is none."""
        return self.total / self.weight.clamp(min=1e-9)


def labelled_cross_entropy(
    scores: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> SummedLoss:
    """Cross-entropy over labelled pixels.

    `scores` (N, classes, h, w) of any float type, `labels` (N, h, w) uint8 with IGNORE,
    `class_weights` (classes,) float32.
    """
    total = cross_entropy(
        scores.float(), labels.long(), class_weights, ignore_index=IGNORE, reduction="sum"
    )
    labelled = labels[labels != IGNORE]
    if class_weights is None:
        return SummedLoss(total, total.new_tensor(len(labelled)))
    return SummedLoss(total, class_weights[labelled.long()].sum())


def core_cross_entropy(scores: Tensor, cores: Tensor) -> SummedLoss:
    """Binary cross-entropy of cores of buildings, where they are known.

    `scores` (N, 1, h, w) log-odds of any float type, `cores` (N, h, w) uint8: 1, 0 or IGNORE. It
    is to be added to the loss of the classes and has no weight of its own: both are divided by
    the labelled pixels.
    """
    loss = binary_cross_entropy_with_logits(
        scores[:, 0].float(), (cores == 1).float(), reduction="none"
    )
    total = (loss * (cores != IGNORE)).sum()
    return SummedLoss(total, total.new_tensor(0.0))


def generalised_cross_entropy(
    scores: Tensor, labels: Tensor, q: float, class_weights: Tensor | None = None
) -> SummedLoss:
    """(1 - p^q) / q over labelled pixels, p the probability of the label.

    Zhang and Sabuncu 2018 (NeurIPS, arXiv 1805.07836), eq. 6: towards q = 0 the cross-entropy, at
    q = 1 the mean absolute error, which a wrong label pulls at less. Arguments as above.
    """
    chance = -cross_entropy(scores.float(), labels.long(), ignore_index=IGNORE, reduction="none")
    labelled = labels != IGNORE
    # expm1: near p = 1 the difference from 1 would be rounded away.
    loss = (-torch.expm1(q * chance) / q)[labelled]
    if class_weights is None:
        return SummedLoss(loss.sum(), loss.new_tensor(len(loss)))
    weights = class_weights[labels[labelled].long()]
    return SummedLoss((loss * weights).sum(), weights.sum())
