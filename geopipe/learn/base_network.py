"""Train the base network on noisy labels (Maggiori et al. 2017, section III)."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import load_backbone
from geopipe.classes import IGNORE, ClassScheme
from geopipe.learn.interpolation import interpolated
from geopipe.learn.label_areas import learnt_areas
from geopipe.learn.loop import RESUME, TrainingHistory, fit
from geopipe.learn.loss import (
    SummedLoss,
    core_cross_entropy,
    generalised_cross_entropy,
    labelled_cross_entropy,
)
from geopipe.learn.memory import require_memory
from geopipe.learn.precision import TrainingPrecision, training_autocast
from geopipe.learn.sampler import PatchPool, PatchSampler, dihedral, fitting_patch
from geopipe.learn.schedule import Schedule, constant, one_cycle
from geopipe.learn.shards import sharded_gradient
from geopipe.learn.start import StartModel
from geopipe.nets import SegmentationModel, build_base_network
from geopipe.nets.classes import with_core_scores
from geopipe.nets.liteunet import BACKBONE, LiteUNet
from geopipe.networks import BaseNetworkName
from geopipe.raster.credit import joined_credits

_CROSS_ENTROPY_SHARE = 0.25
"""Share of the steps that minimise the cross-entropy before a robust loss."""

MIN_STEPS = 200
"""With fewer a CNN is not trained, however few the labels are."""

_UNET: dict[str, Any] = {"steps": 600, "batch": 16, "optimizer": "adamw", "lr": 1e-3}
_VALUES: dict[Schedule, dict[str, dict[str, Any]]] = {
    "short": {
        "cnn": {
            "steps": 600,
            "batch": 4,
            # It sees 30 px beyond a patch: of 64 px, a patch would be a quarter of what is read.
            "patch": 256,
            "optimizer": "adamw",
            "lr": 2e-3,
            "cycle": True,
            "class_weighting": 1 / 3,
            "passes": 40,
        },
        "unet": _UNET,
        "lite-unet": {
            "steps": 400,
            "batch": 2,
            "patch": 256,
            "optimizer": "adamw",
            "lr": 1e-3,
            "cycle": True,
            "warp": 0.25,
        },
    },
    "paper": {
        "cnn": {},
        "unet": _UNET,
        # Its context is 64 px on each side: larger patches waste less of it.
        "lite-unet": {"steps": 200, "batch": 4, "patch": 256, "optimizer": "adamw", "lr": 5e-4},
    },
}
"""Of `BaseNetworkPlan`, where they are not as in the paper."""
_STARTED: dict[str, Any] = {"steps": 300, "interpolation": 0.75}
"""The same for a LiteUNet that goes on from a trained model, on the short schedule."""


@dataclass(frozen=True)
class BaseNetworkPlan:
    """How a network learns from noisy labels; by default as in the paper.

    `BaseNetworkPlan.of` has the values that suit network and schedule.
    """

    steps: int = 1200
    batch: int = 64
    patch: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    """Of SGD; AdamW's first moment decays as fast."""
    weight_decay: float = 2e-4
    augment: bool = True
    jitter: float = 0.2
    warp: float = 0.0
    """Patches are turned by any angle and scaled by up to exp(warp), see `Warp`; 0: not."""
    cycle: bool = False
    """The learning rate rises and falls (`one_cycle`); else it stays."""
    class_weighting: float = 0.0
    """Exponent p: a class of share s in the labels weighs s^-p in the loss, the most frequent 1.
    Large patches hold the classes nearly as the scene does, of which the background fills most."""
    passes: float = 0.0
    """How often a labelled pixel is learnt from at most, as long as enough steps remain: a network
    learns the errors of few labels by heart. 0: no bound."""
    interpolation: float = 1.0
    """How far the weights go from the start towards those of the last step (`interpolated`)."""
    robust: float = 0.0
    """q of the generalised cross-entropy; 0: the cross-entropy, as in the first quarter."""
    seed: int = 0
    precision: TrainingPrecision = "auto"
    net: BaseNetworkName = "cnn"

    @classmethod
    def of(
        cls,
        net: BaseNetworkName = "cnn",
        schedule: Schedule = "short",
        *,
        started: bool = False,
        **overrides: Any,
    ) -> Self:
        """The plan of `net` on `schedule`, with what is `overrides` instead of its own values.

        `started`: a model is trained on, which on the short schedule takes fewer steps.
        """
        if "steps" in overrides:
            overrides = {"passes": 0.0, **overrides}
        fewer = _STARTED if started and (net, schedule) == ("lite-unet", "short") else {}
        return cls(net=net, **{**_VALUES[schedule][net], **fewer, **overrides})

    def fitted(self, *shapes: tuple[int, int]) -> Self:
        """The plan for scenes of `shapes` net pixels: patches that fit each, and more of them."""
        smallest = min(shapes, key=min)
        patch, batch = fitting_patch(smallest, self.patch, self.batch)
        return replace(self, patch=patch, batch=batch).bounded(sum(map(math.prod, shapes)))

    def bounded(self, labelled: int) -> Self:
        """The plan for that many labelled pixels: no more steps than `passes` allows."""
        if not (self.passes and self.steps):
            return self
        steps = round(self.passes * labelled / (self.batch * self.patch**2))
        return replace(self, steps=min(self.steps, max(steps, MIN_STEPS)))

    def class_weights(self, shares: np.ndarray) -> Tensor | None:
        """(classes,) float32 for classes of these `shares` of the labels; None: all alike."""
        if not self.class_weighting:
            return None
        weights = (shares / shares.max()) ** -self.class_weighting
        return torch.from_numpy(weights.astype(np.float32))


def train_base_network(
    pool: PatchPool,
    scheme: ClassScheme,
    plan: BaseNetworkPlan,
    *,
    dtype: str,
    gsd: float,
    out: Path,
    key: str,
    device: str = "cpu",
    start: StartModel | None = None,
    check: Callable[[Checkpoint], float] | None = None,
    check_every: int = 100,
) -> tuple[Checkpoint, TrainingHistory]:
    """Fit the plan's net to the pool, made for its halo and stride, and save it as `out`.

    `key`: digest of data and parameters, decides whether an interrupted training goes on.
    `start`: a model whose weights are trained on; with 0 steps they stay as they are.
    `check`: a score of the model at hand, recorded while training (it does not steer it).
    """
    plan = plan.bounded(int(pool.counts.sum()))
    checkpoint = _untrained(pool, scheme, plan, dtype, gsd, start)
    net = checkpoint.net
    base = net.base
    require_memory(base, plan.batch, plan.patch + 2 * net.training_halo, device)
    before = deepcopy(net)
    net.to(device).requires_grad_().train()
    sampling = PatchSampler(pool, plan.patch, plan.seed, plan.augment, plan.jitter, warp=plan.warp)
    part = patch_loss(checkpoint, sampling, device, plan.precision, _robust_loss(plan, pool))
    with sharded_gradient(part, net, plan.batch) as gradient:
        record = fit(
            net,
            gradient,
            _optimizer(net, plan),
            plan.steps,
            label="training the base network",
            resume=out.with_name(out.name + RESUME),
            key=key,
            rate=one_cycle if plan.cycle else constant,
            check=(lambda: _normalized(checkpoint, check)) if check else None,
            check_every=check_every,
        )
    if plan.interpolation < 1:
        net = interpolated(before.to(device), net, plan.interpolation)
    checkpoint = checkpoint.with_net(
        net.eval().requires_grad_(False),
        {
            "base": {**asdict(plan), "labelled_pixels": pool.counts.tolist()},
            **learnt_areas(pool, checkpoint),
            "credit": joined_credits(
                [start.model.provenance.get("credit", "") if start else "", pool.credit]
            ),
        },
    )
    checkpoint.save(out)
    return checkpoint, record


def _untrained(
    pool: PatchPool,
    scheme: ClassScheme,
    plan: BaseNetworkPlan,
    dtype: str,
    gsd: float,
    start: StartModel | None,
) -> Checkpoint:
    """The model before its first step."""
    if start:
        base = start.base_network(scheme, plan.seed)
        if _learns_cores(pool, plan) and not base.cores:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(plan.seed)
                base = with_core_scores(base)
        net = SegmentationModel(base)
        mean, std = start.statistics(dtype) or pool.statistics()
        return Checkpoint(net, scheme, mean, std, dtype, gsd, start.provenance(scheme))
    mean, std = pool.statistics()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        sizes = {"cores": True} if _learns_cores(pool, plan) else {}
        base = build_base_network(len(mean), len(scheme), plan.net, **sizes)
    if isinstance(base, LiteUNet):
        base.start_from(load_backbone(BACKBONE, last_layer="c5"))
    return Checkpoint(SegmentationModel(base), scheme, mean, std, dtype, gsd)


def _learns_cores(pool: PatchPool, plan: BaseNetworkPlan) -> bool:
    """Whether the network scores cores, too: where there are labels to learn it from."""
    return plan.net == "lite-unet" and plan.steps > 0 and pool.has_cores


Loss = Callable[[Tensor, Tensor, int], SummedLoss]
"""Of scores, class ids and the step."""


def patch_loss(
    model: Checkpoint,
    sampling: PatchSampler,
    device: str,
    precision: TrainingPrecision,
    loss: Loss = lambda scores, ids, _: labelled_cross_entropy(scores, ids),
) -> Callable[[int, range], SummedLoss]:
    """``part(step, numbers)`` for `sharded_gradient`: the loss of patches by their numbers."""
    blocks = [
        (
            model.normalize(torch.from_numpy(b.image), torch.from_numpy(b.valid)),
            b.labels,
            np.full_like(b.labels, IGNORE) if b.cores is None else b.cores,
        )
        for b in sampling.pool.blocks
    ]

    def part(step: int, numbers: range) -> SummedLoss:
        image, labels, of_cores = _batch(sampling, blocks, numbers, model.net.training_halo)
        with training_autocast(device, precision):
            scores, cores = model.net.training_scores(image.to(device))
        result = loss(scores, labels.to(device), step)
        if cores is None:
            return result
        return result.plus(core_cross_entropy(cores, of_cores.to(device)))

    return part


def _robust_loss(plan: BaseNetworkPlan, pool: PatchPool) -> Loss:
    """The plan's loss.

    A random net is sure and wrong, where the generalised cross-entropy is flat: on its own it left
    every pixel in the background (q = 0.7 and 0.3). The cross-entropy takes the first steps.
    """
    weights = plan.class_weights(pool.shares)

    def loss(scores: Tensor, ids: Tensor, step: int) -> SummedLoss:
        of_class = None if weights is None else weights.to(scores.device)
        if plan.robust and step >= _CROSS_ENTROPY_SHARE * plan.steps:
            return generalised_cross_entropy(scores, ids, plan.robust, of_class)
        return labelled_cross_entropy(scores, ids, of_class)

    return loss


def _optimizer(net: SegmentationModel, plan: BaseNetworkPlan) -> torch.optim.Optimizer:
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(
            net.parameters(), plan.lr, (plan.momentum, 0.999), weight_decay=plan.weight_decay
        )
    return torch.optim.SGD(
        net.parameters(), plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
    )


def _normalized(model: Checkpoint, check: Callable[[Checkpoint], float]) -> float:
    """The check of a net in training, which meanwhile works, and stays, as if it were mapping."""
    model.net.eval()
    try:
        return check(model)
    finally:
        model.net.train()


def _batch(
    sampling: PatchSampler,
    blocks: list[tuple[Tensor, np.ndarray, np.ndarray]],
    numbers: range,
    halo: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (n, bands, patch + 2 halo, ...), labels and cores (n, patch, patch) uint8.

    `halo`: at most that of the pool.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    cores: list[Tensor] = []
    size, context = sampling.patch, sampling.patch + 2 * halo
    unread = sampling.pool.halo - halo
    for number in numbers:
        index, row, col, symmetry = sampling.sample(number)
        image, *of_pixels = blocks[index]
        warp = sampling.warped(number)
        if warp:
            patch = warp.image(image, row + unread, col + unread, context)
            inner = [warp.labels(ids, row, col, size) for ids in of_pixels]
        else:
            first = row + unread, col + unread
            patch = image[:, first[0] : first[0] + context, first[1] : first[1] + context]
            inside = slice(row, row + size), slice(col, col + size)
            inner = [torch.from_numpy(ids[inside]) for ids in of_pixels]
        images.append(sampling.radiometric_jitter(dihedral(patch, symmetry), number))
        for ids, of_kind in zip(inner, (labels, cores), strict=True):
            of_kind.append(dihedral(ids, symmetry))
    return torch.stack(images), torch.stack(labels), torch.stack(cores)
