"""Fine-tune a backbone on patches of all sizes (Tong et al. 2020, section III)."""

import logging
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.stac_item import write_model_item
from geopipe.errors import ConfigError
from geopipe.learn.loop import RESUME, TrainingHistory, backward, fit
from geopipe.learn.memory import require_memory
from geopipe.learn.patches.grid import PatchGrid
from geopipe.learn.patches.head import fit_head
from geopipe.learn.patches.rasters import read_patch
from geopipe.learn.precision import TrainingPrecision, training_autocast
from geopipe.learn.sampler import dihedral
from geopipe.nets import PatchNet, SegmentationModel
from geopipe.nets.patches import resized

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchPlan:
    """How a patch classifier learns: AdamW, a lower rate for what was learnt on ImageNet."""

    steps: int = 300
    batch: int = 32
    lr: float = 1e-3
    """Of the new last layer."""
    backbone_lr: float = 2e-4
    """Of the pretrained part; 0 freezes it, and the last layer is fitted by logistic regression on
    the standardised features of as many patches as would be trained on."""
    weight_decay: float = 1e-4
    jitter: float = 0.2
    """Deviation of a random change of light, in deviations of the image."""
    seed: int = 0
    precision: TrainingPrecision = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or min(self.lr, self.backbone_lr) < 0:
            raise ConfigError(
                f"steps={self.steps}, batch={self.batch}, lr={self.lr:g}, "
                f"backbone_lr={self.backbone_lr:g}: at least one step and patch, no negative rate"
            )


def train_patches(
    model: Checkpoint,
    patches: PatchGrid,
    plan: PatchPlan,
    *,
    out: Path,
    key: str,
    device: str = "cpu",
    provenance: dict[str, Any],
) -> tuple[Checkpoint, TrainingHistory]:
    """Train a copy of the model's PatchNet on the cells' patches and save it as `out`.

    With `plan.backbone_lr` 0 only its last layer is fitted, once all features are known. Every
    patch is of a random size; classes take turns. Batch norm keeps its ImageNet statistics: a
    patch's scores must not depend on the others of its batch. `key`: digest of data and parameters,
    decides whether an interrupted training goes on; `provenance`: what the Checkpoint says of its
    making. Raises LabelError for cells of one class only.
    """
    net = patch_net(model)
    require_memory(net, plan.batch, net.side, device)
    if missing := patches.absent_classes(model.scheme):
        log.warning("no cell is of class %s: the model cannot tell it", ", ".join(missing))
    net = deepcopy(net).to(device).requires_grad_().eval()
    trained = model.with_net(SegmentationModel(net, model.net.postprocessor), provenance)
    draw = _BatchSampler(trained, net, patches, plan)
    if plan.backbone_lr:
        record = _fine_tuned(
            net, draw, plan, device, resume=out.with_name(out.name + RESUME), key=key
        )
    else:
        record = _fitted(net, draw, plan, device)
    net.requires_grad_(False)
    trained = trained.with_net(
        trained.net, {"patches": {**asdict(plan), "cells": _counts(patches, model)}}
    )
    trained.save(out)
    write_model_item(out)
    return trained, record


def _fitted(net: PatchNet, draw: "_BatchSampler", plan: PatchPlan, device: str) -> TrainingHistory:
    """The last layer, on features of the frozen backbone."""

    def batch(number: int) -> tuple[Tensor, Tensor]:
        images, ids = draw.batch(number * plan.batch)
        with torch.inference_mode(), training_autocast(device, plan.precision):
            return net.backbone(images.to(device)), ids

    loss, _ = fit_head(net.head, batch, plan.steps)
    return TrainingHistory([plan.steps], [loss])


def _fine_tuned(
    net: PatchNet,
    draw: "_BatchSampler",
    plan: PatchPlan,
    device: str,
    *,
    resume: Path,
    key: str,
) -> TrainingHistory:
    groups = [
        {"params": net.head.parameters(), "lr": plan.lr},
        {"params": net.backbone.parameters(), "lr": plan.backbone_lr},
    ]

    def loss(step: int) -> Tensor:
        images, ids = draw.batch(step * plan.batch)
        with training_autocast(device, plan.precision):
            scores = net.logits(images.to(device))
        return F.cross_entropy(scores.float(), ids.to(device))

    return fit(
        net,
        backward(loss),
        torch.optim.AdamW(groups, weight_decay=plan.weight_decay),
        plan.steps,
        label="training on patches",
        resume=resume,
        key=key,
    )


def is_frozen(model: Checkpoint) -> bool:
    """Whether the training of a patch model left its backbone as it was."""
    made = model.provenance.get("patches")
    return isinstance(made, dict) and made.get("backbone_lr") == 0


def patch_net(model: Checkpoint) -> PatchNet:
    """The model's net of patches; ConfigError when it has another."""
    net = model.net.base
    if not isinstance(net, PatchNet):
        raise ConfigError(
            "the model is no classifier of patches", "give one that geopipe patches train made"
        )
    return net


@dataclass(frozen=True)
class _BatchSampler:
    """Patch `number` depends on (seed, number) alone, so a resumed training draws the same."""

    model: Checkpoint
    net: PatchNet
    patches: PatchGrid
    plan: PatchPlan

    def batch(self, first: int) -> tuple[Tensor, Tensor]:
        """Images (batch, 3, side, side) and class ids (batch,) int64."""
        samples = [self._patch(number) for number in range(first, first + self.plan.batch)]
        return torch.stack([image for image, _ in samples]), torch.tensor([k for _, k in samples])

    def _patch(self, number: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng([self.plan.seed, number])
        classes = sorted(self.patches.by_class)
        class_id = classes[number % len(classes)]
        class_indices = self.patches.by_class[class_id]
        index = int(class_indices[rng.integers(len(class_indices))])
        size = int(rng.choice(self.net.sizes))
        raster = self.patches.rasters[self.patches.positions[index, 0]]
        image = self.model.normalize(*read_patch(raster, self.patches.window(index, size)))
        image = resized(image[None], self.net.side)[0]
        offset, gain = rng.normal(size=2)
        image = image * (1 + self.plan.jitter * gain / 2) + self.plan.jitter * offset
        return dihedral(image, int(rng.integers(8))), class_id


def _counts(patches: PatchGrid, model: Checkpoint) -> dict[str, int]:
    return {model.scheme.names[k]: len(v) for k, v in patches.by_class.items()}
