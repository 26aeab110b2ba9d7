"""Weights between those that a training starts from and those it ends with.

Few labels, or wrong ones, teach their own accidents, too. Weights on the straight line between both
networks keep more of what the first one knew (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models", CVPR). How far along it those of a fine-tuned network should lie is told by
pixels of the accurate tile that were held out; few buildings there limit it.
"""

import logging
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from scipy import ndimage

from geopipe.checkpoint import Checkpoint
from geopipe.labels.cores import BUILDING
from geopipe.learn.calibration import Fold, scored
from geopipe.learn.sampler import PatchPool
from geopipe.metrics import Metrics
from geopipe.nets import SegmentationModel

log = logging.getLogger(__name__)

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the way from the base network to the fine-tuned one, which are tried."""
BUILDINGS_HALFWAY = 12
"""So many buildings on the accurate tile let the weights go half of the way."""


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


def count_buildings(pool: PatchPool, names: Sequence[str]) -> int | None:
    """Connected areas of the class building; None where no class has this name."""
    if BUILDING not in names:
        return None
    class_id = list(names).index(BUILDING)
    areas = [ndimage.label(b.labels == class_id, np.ones((3, 3)))[1] for b in pool.blocks]
    return int(sum(areas))


def trusted_share(buildings: int | None) -> float:
    """The largest share that so many buildings bear; 1 where none are looked for.

    The halves of a small tile cannot tell it: they show the same few kinds of roofs.
    """
    return 1.0 if buildings is None else buildings / (buildings + BUILDINGS_HALFWAY)


def regularized(
    base: Checkpoint, fine_tuned: Checkpoint, folds: Sequence[Fold], tile: PatchPool
) -> tuple[Checkpoint, list[Fold]]:
    """Model and folds as far from `base` as suits the held-out halves and the buildings bear.

    `folds`: fine-tuned from `base` like `fine_tuned`, each on a half of its `tile`; without any,
    the number of buildings alone decides.
    """
    buildings = count_buildings(tile, base.scheme.names)
    limit = trusted_share(buildings)
    share = min(share_of_all(best_share(base, folds)), limit) if folds else limit
    log.info("interpolated: %.0f %% of the way to the fine-tuned weights", 100 * share)
    if limit < 0.5:
        log.warning(
            "few buildings on accurate ground (%d): the model goes only %.0f %% of the way to what "
            "they teach, as it would forget other roofs; draw more buildings",
            buildings,
            100 * share,
        )

    def between(model: Checkpoint, share: float) -> Checkpoint:
        counted = {} if buildings is None else {"buildings": buildings}
        entry = {**model.provenance.get("finetuning", {}), **counted}
        entry["interpolation"] = round(share, 4)
        return model.with_net(interpolated(base.net, model.net, share), {"finetuning": entry})

    of_halves = share_of_half(share)
    return between(fine_tuned, share), [(between(m, of_halves), half) for m, half in folds]


def best_share(base: Checkpoint, folds: Sequence[Fold]) -> float:
    """The share of `SHARES` at which networks of the halves have the highest mean IoU."""
    names = base.scheme.names

    def mean_iou(share: float) -> float:
        metrics = Metrics.empty(names)
        for model, half in folds:
            between = model.with_net(interpolated(base.net, model.net, share), {})
            for scores, ids in scored(between, half):
                metrics += Metrics.of(names, ids, scores.argmax(1).astype(np.uint8))
        return metrics.mean_iou

    return max(SHARES, key=mean_iou)


def share_of_all(share: float) -> float:
    """The share for a network of the whole tile, where `share` was best for those of its halves.

    Weights that hold a signal s and, of n pixels, an accident of variance v / n are best shrunk by
    s / (s + v / n); twice the pixels halve the second term.
    """
    return 2 * share / (1 + share)


def share_of_half(share: float) -> float:
    """The share for networks of the halves, where that of the whole tile goes `share`."""
    return share / (2 - share)
