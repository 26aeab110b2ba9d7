"""The loss of every pixel-wise training."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from geopipe.classes import IGNORE


def labelled_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; 0 where a batch has none.

    `scores` (N, classes, h, w) of any float type, `labels` (N, h, w) uint8 with IGNORE.
    """
    total = cross_entropy(scores.float(), labels.long(), ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)
