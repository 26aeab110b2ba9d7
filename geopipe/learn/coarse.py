"""Train the coarse classifier on noisy labels (Maggiori et al. 2017, section III)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import load_backbone
from geopipe.classes import ClassScheme
from geopipe.learn.fit import RESUME, Fitted, fit
from geopipe.learn.loss import generalised_cross_entropy, labelled_cross_entropy
from geopipe.learn.pool import Pool, Sampling, symmetric
from geopipe.learn.precision import Precision, training_autocast
from geopipe.nets import MapNet, NetName, build_net
from geopipe.nets.liteunet import BACKBONE, LiteUNet

_PLAIN = 0.25
"""Share of the steps that minimise the cross-entropy before a robust loss."""

_VALUES: dict[str, dict[str, Any]] = {
    "unet": {"steps": 600, "batch": 16, "lr": 1e-3},
    # Its context is 112 px on each side: larger patches waste less of it.
    "lite-unet": {"steps": 200, "batch": 4, "patch": 256, "lr": 5e-4},
}
"""Of `CoarsePlan`, for nets other than the CNN."""


@dataclass(frozen=True)
class CoarsePlan:
    """The paper's values; `steps` is what a CPU can afford.

    The CNN is trained by SGD, a U-Net by AdamW: `CoarsePlan.of` has the values that suit the net.
    A LiteUNet starts from weights of ImageNet.
    """

    steps: int = 1200
    batch: int = 64
    patch: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    """Of SGD; AdamW's first moment decays as fast."""
    weight_decay: float = 2e-4
    augment: bool = True
    jitter: float = 0.2
    robust: float = 0.0
    """q of the generalised cross-entropy; 0: the cross-entropy, as in the first quarter."""
    seed: int = 0
    precision: Precision = "auto"
    net: NetName = "cnn"

    @classmethod
    def of(cls, net: NetName = "cnn", **chosen: Any) -> Self:
        """The plan of `net`, with what is `chosen` instead of its own values."""
        return cls(net=net, **{**_VALUES.get(net, {}), **chosen})


def train_coarse(
    pool: Pool,
    scheme: ClassScheme,
    plan: CoarsePlan,
    *,
    dtype: str,
    gsd: float,
    out: Path,
    key: str,
    device: str = "cpu",
    check: Callable[[Checkpoint], float] | None = None,
    check_every: int = 100,
) -> tuple[Checkpoint, Fitted]:
    """Fit the plan's net to the pool, made for its halo and stride, and save it as `out`.

    `key`: digest of data and parameters, decides whether an interrupted training goes on.
    `check`: a score of the model at hand, recorded while training (it does not steer it).
    """
    mean, std = pool.statistics()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        score_net = build_net(len(mean), len(scheme), plan.net)
    if isinstance(score_net, LiteUNet):
        score_net.start_from(load_backbone(BACKBONE, upto="c5"))
    net = MapNet(score_net)
    net.to(device).train()
    checkpoint = Checkpoint(net, scheme, mean, std, dtype, gsd)
    sampling = Sampling(pool, plan.patch, plan.seed, plan.augment, plan.jitter)
    record = fit(
        net,
        _robust_loss(checkpoint, sampling, plan, device),
        _optimizer(net, plan),
        plan.steps,
        label="training the coarse net",
        resume=out.with_name(out.name + RESUME),
        key=key,
        check=(lambda: _looked_at(checkpoint, check)) if check else None,
        check_every=check_every,
    )
    checkpoint = checkpoint.with_net(
        net.eval().requires_grad_(False),
        {
            "coarse": {**asdict(plan), "labelled_pixels": pool.counts.tolist()},
            "credit": pool.credit,
        },
    )
    checkpoint.save(out)
    return checkpoint, record


def patch_loss(
    model: Checkpoint,
    sampling: Sampling,
    batch: int,
    device: str,
    precision: Precision,
    of: Callable[[Tensor, Tensor, int], Tensor] | None = None,
) -> Callable[[int], Tensor]:
    """``loss(step)`` of the model's net on that step's `batch` patches.

    `of`: the loss of scores, class ids and the step; by default the cross-entropy.
    """
    blocks = [
        (model.normalise(torch.from_numpy(b.image), torch.from_numpy(b.valid)), b.labels)
        for b in sampling.pool.blocks
    ]

    def loss(step: int) -> Tensor:
        image, labels = _batch(sampling, blocks, step * batch, batch)
        with training_autocast(device, precision):
            scores = model.net(image.to(device))
        if of is None:
            return labelled_cross_entropy(scores, labels.to(device))
        return of(scores, labels.to(device), step)

    return loss


def _robust_loss(
    model: Checkpoint, sampling: Sampling, plan: CoarsePlan, device: str
) -> Callable[[int], Tensor]:
    """The plan's loss.

    A random net is sure and wrong, where the generalised cross-entropy is flat: on its own it left
    every pixel in the background (q = 0.7 and 0.3). The cross-entropy takes the first steps.
    """

    def of(scores: Tensor, ids: Tensor, step: int) -> Tensor:
        if plan.robust and step >= _PLAIN * plan.steps:
            return generalised_cross_entropy(scores, ids, plan.robust)
        return labelled_cross_entropy(scores, ids)

    return patch_loss(model, sampling, plan.batch, device, plan.precision, of)


def _optimizer(net: MapNet, plan: CoarsePlan) -> torch.optim.Optimizer:
    if plan.net != "cnn":
        return torch.optim.AdamW(
            net.parameters(), plan.lr, (plan.momentum, 0.999), weight_decay=plan.weight_decay
        )
    return torch.optim.SGD(
        net.parameters(), plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
    )


def _looked_at(model: Checkpoint, check: Callable[[Checkpoint], float]) -> float:
    """The check of a net in training, which meanwhile works, and stays, as if it were mapping."""
    model.net.eval()
    try:
        return check(model)
    finally:
        model.net.train()


def _batch(
    sampling: Sampling, blocks: list[tuple[Tensor, np.ndarray]], first: int, count: int
) -> tuple[Tensor, Tensor]:
    """Images (count, bands, patch + 2 halo, ...) and labels (count, patch, patch) uint8."""
    images, labels = [], []
    size, context = sampling.patch, sampling.patch + 2 * sampling.pool.halo
    for number in range(first, first + count):
        index, row, col, symmetry = sampling.draw(number)
        image, ids = blocks[index]
        patch = image[:, row : row + context, col : col + context]
        images.append(sampling.relit(symmetric(patch, symmetry), number))
        core = torch.from_numpy(ids[row : row + size, col : col + size])
        labels.append(symmetric(core, symmetry))
    return torch.stack(images), torch.stack(labels)
