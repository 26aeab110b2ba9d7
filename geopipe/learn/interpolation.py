"""Weights between those that a training starts from and those it ends with.

Few labels, or wrong ones, teach their own accidents, too. Weights on the straight line between both
networks keep more of what the first one knew (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models", CVPR). How far along it those of a fine-tuned network should lie is told by
pixels of the accurate tile that were held out.
"""

import logging
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.learn.calibration import Fold, scored
from geopipe.metrics import Metrics
from geopipe.nets import SegmentationModel

log = logging.getLogger(__name__)

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the way from the base network to the fine-tuned one, which are tried."""


def interpolated(
    start: SegmentationModel, end: SegmentationModel, share: float
) -> SegmentationModel:
    """A copy of `end` whose weights lie `share` of the way from those of `start` to its own.

    Raises KeyError or RuntimeError when the networks are not of one architecture.
    """
    net, starts = deepcopy(end), start.state_dict()
    net.load_state_dict(
        {
            name: torch.lerp(starts[name].to(weight), weight, share)
            if weight.is_floating_point()
            else weight
            for name, weight in end.state_dict().items()
        }
    )
    return net


def _regularized(base: Checkpoint, model: Checkpoint, share: float) -> Checkpoint:
    entry = {**model.provenance.get("finetuning", {}), "interpolation": round(share, 4)}
    net = interpolated(base.net, model.net, share)
    return model.with_net(net, {"finetuning": entry})


def regularized(
    base: Checkpoint, fine_tuned: Checkpoint, folds: Sequence[Fold]
) -> tuple[Checkpoint, list[Fold]]:
    """Model and folds as far from `base` as suits the held-out halves best.

    `folds`: fine-tuned from `base` like `fine_tuned`, each on a half of its tile.
    """
    of_halves = best_share(base, folds)
    share = share_of_all(of_halves)
    log.info("interpolated: %.0f %% of the way to the fine-tuned weights", 100 * share)
    between = [(_regularized(base, model, of_halves), half) for model, half in folds]
    return _regularized(base, fine_tuned, share), between


def best_share(base: Checkpoint, folds: Sequence[Fold]) -> float:
    """The share of `SHARES` at which networks of the halves have the highest mean IoU."""
    names = base.scheme.names

    def mean_iou(share: float) -> float:
        metrics = Metrics.empty(names)
        for model, half in folds:
            for scores, ids in scored(_regularized(base, model, share), half):
                metrics += Metrics.of(names, ids, scores.argmax(1).astype(np.uint8))
        return metrics.mean_iou

    return max(SHARES, key=mean_iou)


def share_of_all(share: float) -> float:
    """The share for a network of the whole tile, where `share` was best for those of its halves.

    Weights that hold a signal s and, of n pixels, an accident of variance v / n are best shrunk by
    s / (s + v / n); twice the pixels halve the second term.
    """
    return 2 * share / (1 + share)
