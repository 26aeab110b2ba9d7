"""Ways to adapt a fine-tuned network without labels.

A method takes a target and cells drawn from it, and gives class ids of the cells it is tested on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.checkpoint import Checkpoint
from geopipe.learn.patches import PatchPlan, patch_net
from geopipe.learn.sampler import dihedral
from geopipe.learn.transfer import SourceSamples, TargetSamples, TransferPlan, select
from geopipe.learn.transfer.rounds import TUNING
from geopipe.nets import PatchNet
from geopipe.nets.patches import BATCH
from reproduce.gid import data

STEPS = 50
"""Of a network that learns on the target."""
STATISTICS_PATCHES = 256
"""Patches of the target that batch norm takes its statistics of."""
_SURE = 0.8
_DECAY = 0.95
"""Of the teacher's moving average."""
_JITTER = 2 * PatchPlan.jitter
"""What is learnt on is changed more than in the first training, as the teacher's is not."""
_LAST_BLOCKS = 3
"""Of the backbone that `last_blocks` trains: two stages and the last convolution."""


@dataclass(frozen=True, eq=False)
class Images:
    """Patches of cells."""

    patches: Tensor
    """(n, sizes, 3, side, side) float16, 0..255"""
    ids: np.ndarray
    """(n,) class ids"""
    crops: np.ndarray
    """(n,) numbers of crops"""
    groups: np.ndarray
    """(n,) equal for crops that share pixels"""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A seed's fine-tuned network, the source it learnt from, and a target."""

    model: Checkpoint
    source: Images
    target: Images
    train: np.ndarray
    """(n,) bool: source cells that were learnt from"""
    look: np.ndarray
    """(m,) bool: target cells that methods may look at, without labels; others judge"""
    seed: int

    @property
    def net(self) -> PatchNet:
        """The network, a copy."""
        return deepcopy(patch_net(self.model))

    @cached_property
    def test(self) -> Tensor:
        """Patches of the target that methods are judged on."""
        return self.target.patches[torch.from_numpy(~self.look)]

    @cached_property
    def embedded_source(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and probabilities of the source, as `embedded` gives them."""
        return embedded(self, self.net, self.source.patches)

    def drawn(self, cells: np.ndarray) -> Tensor:
        """(n * sizes, 3, side, side) patches of these target cells."""
        return self.target.patches[torch.from_numpy(cells)].flatten(0, 1)

    def normalized(self, patches: Tensor) -> Tensor:
        """Patches (n, 3, side, side) as the network takes them."""
        valid = torch.ones((), dtype=torch.bool)
        return self.model.normalize(patches.float(), valid)


def predicted(t: Tuned, net: PatchNet, patches: Tensor) -> np.ndarray:
    """Class ids (m,) of patches (m, sizes, 3, side, side)."""
    return np.asarray(embedded(t, net, patches)[1].argmax(1))


def embedded(t: Tuned, net: PatchNet, patches: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Features (m, width) and probabilities (m, classes), means over the sizes."""
    parts = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for part in t.normalized(patches.flatten(0, 1)).split(BATCH):
            feature = net.backbone(part)
            parts.append((feature.float(), net.head(feature).float().softmax(1)))
    x, p = (torch.cat(k).view(*patches.shape[:2], -1).mean(1) for k in zip(*parts, strict=True))
    return x.numpy(), p.numpy()


def without(t: Tuned, cells: np.ndarray) -> np.ndarray:
    """The source model."""
    del cells
    return predicted(t, t.net, t.test)


def adapted_norm(t: Tuned, cells: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Adaptive batch norm (Li et al. 2018): the target's statistics, or part of the way there."""
    net, drawn = t.net, t.drawn(cells)
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(m.running_mean.clone(), m.running_var.clone()) for m in layers]  # type: ignore[union-attr]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    chosen = np.random.default_rng([t.seed, 3]).permutation(len(drawn))[:STATISTICS_PATCHES]
    with torch.no_grad():
        for part in t.normalized(drawn[torch.from_numpy(chosen)]).split(BATCH):
            net.backbone(part)
    for layer, (mean, var) in zip(layers, before, strict=True):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean = torch.lerp(mean, layer.running_mean, share)
        layer.running_var = torch.lerp(var, layer.running_var, share)
        layer.eval()
    return predicted(t, net, t.test)


def matched_histograms(t: Tuned, cells: np.ndarray) -> np.ndarray:
    """Target images with the source's histogram of each band."""
    source = _bands(t.source.patches[torch.from_numpy(t.train)].flatten(0, 1)).numpy()
    target = _bands(t.drawn(cells)).numpy()
    quantiles = np.linspace(0, 1, 257)
    moved = t.test.float().numpy()
    for band in range(3):
        values, positions = np.unique(np.quantile(target[band], quantiles), return_index=True)
        to = np.quantile(source[band], quantiles)[positions]
        moved[:, :, band] = np.interp(moved[:, :, band], values, to)
    return predicted(t, t.net, torch.from_numpy(moved))


def source_alone(t: Tuned, cells: np.ndarray) -> np.ndarray:
    """The model learns on, from the source as it is: what the others are compared with."""
    del cells

    def loss(net: PatchNet, rng: np.random.Generator) -> Tensor:
        images, ids = _source_batch(t, rng, BATCH)
        return F.cross_entropy(_scores(t, net, images, rng), ids)

    return predicted(t, _trained(t, loss), t.test)


def colours_in_training(t: Tuned, cells: np.ndarray) -> np.ndarray:
    """The model learns on, from source images with the colours of random target images."""
    drawn = t.drawn(cells).float()
    mean, std = drawn.mean((2, 3), keepdim=True), drawn.std((2, 3), keepdim=True) + 1

    def loss(net: PatchNet, rng: np.random.Generator) -> Tensor:
        images, ids = _source_batch(t, rng, BATCH)
        k = torch.from_numpy(rng.integers(len(drawn), size=len(images)))
        own = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True) + 1
        moved = (images - own[0]) / own[1] * std[k] + mean[k]
        mixed = torch.where(torch.from_numpy(rng.random(len(ids)) < 0.5)[:, None, None, None],
                            moved.clamp(0, 255), images)  # fmt: skip
        return F.cross_entropy(_scores(t, net, mixed, rng), ids)

    return predicted(t, _trained(t, loss), t.test)


def mean_teacher(t: Tuned, cells: np.ndarray) -> np.ndarray:
    """Pseudo-labels of a moving average of the model, for augmented images (Tarvainen and Valpola
    2017; Sohn et al. 2020)."""
    drawn, teacher = t.drawn(cells), t.net

    def follow(net: PatchNet) -> None:
        for own, new in zip(teacher.parameters(), net.parameters(), strict=True):
            own.data.lerp_(new.data, 1 - _DECAY)

    def loss(net: PatchNet, rng: np.random.Generator) -> Tensor:
        images, ids = _source_batch(t, rng, BATCH // 2)
        k = torch.from_numpy(rng.integers(len(drawn), size=BATCH // 2))
        with torch.no_grad():
            p = _logits(teacher, t.normalized(drawn[k])).softmax(1)
        both = _scores(t, net, torch.cat([images, drawn[k].float()]), rng)
        sure = (p.amax(1) >= _SURE).float()
        of_target = F.cross_entropy(both[len(ids) :], p.argmax(1), reduction="none")
        return F.cross_entropy(both[: len(ids)], ids) + (of_target * sure).mean()

    _trained(t, loss, after_step=follow)
    return predicted(t, teacher, t.test)


def last_blocks(t: Tuned, cells: np.ndarray) -> np.ndarray:
    """Tong's two stages choose pseudo-labels; the last blocks of the network learn from them."""
    selection, distinct = _selected(t, cells)
    kept = selection.selected
    if not len(kept):
        return without(t, cells)
    images = t.target.patches[torch.from_numpy(distinct[kept])]
    labels = torch.from_numpy(selection.labels[kept].astype(np.int64))

    def loss(net: PatchNet, rng: np.random.Generator) -> Tensor:
        source, ids = _source_batch(t, rng, BATCH // 2)
        k = rng.integers(len(images), size=BATCH // 2)
        size = rng.integers(images.shape[1], size=BATCH // 2)
        both = torch.cat([source, images[torch.from_numpy(k), torch.from_numpy(size)].float()])
        return F.cross_entropy(_scores(t, net, both, rng), torch.cat([ids, labels[k]]))

    return predicted(t, _trained(t, loss, last=_LAST_BLOCKS), t.test)


Method = Callable[[Tuned, np.ndarray], np.ndarray]
METHODS: Mapping[str, Method] = {
    "none": without,
    "adaptive batch norm": adapted_norm,
    "adaptive batch norm, a quarter": partial(adapted_norm, share=0.25),
    "adaptive batch norm, a tenth": partial(adapted_norm, share=0.1),
    "colours matched, histograms": matched_histograms,
}
TRAINED: Mapping[str, Method] = {
    "none": source_alone,
    "colours of the target in training": colours_in_training,
    "EMA teacher": mean_teacher,
    "last blocks, pseudo-labels and retrieval": last_blocks,
}


def _bands(patches: Tensor) -> Tensor:
    """(3, pixels) float32: every seventh pixel."""
    return patches.transpose(0, 1).flatten(1)[:, ::7].float()


def _source_batch(t: Tuned, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, side, side) of any size, classes in turn; ids (count,)."""
    ids = np.arange(count) % len(data.scheme())
    of_class = [np.flatnonzero(t.train & (t.source.ids == k)) for k in range(len(data.scheme()))]
    cells = torch.tensor([int(rng.choice(of_class[k])) for k in ids.tolist()])
    sizes = torch.from_numpy(rng.integers(t.source.patches.shape[1], size=count))
    return t.source.patches[cells, sizes].float(), torch.from_numpy(ids)


def _scores(t: Tuned, net: PatchNet, images: Tensor, rng: np.random.Generator) -> Tensor:
    """Scores (n, classes) of images, each with random light and turned."""
    light = torch.from_numpy(rng.normal(size=(2, len(images), 1, 1, 1)).astype(np.float32))
    normal = t.normalized(images) * (1 + _JITTER * light[0] / 2) + _JITTER * light[1]
    return _logits(net, torch.stack([dihedral(image, int(rng.integers(8))) for image in normal]))


def _logits(net: PatchNet, images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return net.logits(images).float()


def _trained(
    t: Tuned,
    loss: Callable[[PatchNet, np.random.Generator], Tensor],
    last: int = 0,
    after_step: Callable[[PatchNet], None] = lambda net: None,
) -> PatchNet:
    """The network after STEPS steps of AdamW; `last`: blocks of the backbone that learn, 0: all."""
    net = t.net.requires_grad_(last == 0)
    for part in [*net.backbone.parts("pooled")[-last:], net.head]:
        part.requires_grad_()
    groups = [
        {"params": net.head.parameters(), "lr": TUNING.lr},
        {"params": [p for p in net.backbone.parameters() if p.requires_grad],
         "lr": TUNING.backbone_lr},
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, weight_decay=TUNING.weight_decay)
    rng = np.random.default_rng([t.seed, 9])
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(net, rng).backward()
        optimizer.step()
        after_step(net)
    return net


def _selected(t: Tuned, cells: np.ndarray) -> tuple[Any, np.ndarray]:
    distinct = np.unique(cells)
    own, other = t.embedded_source, embedded(t, t.net, t.target.patches[torch.from_numpy(distinct)])
    source = SourceSamples(own[0], own[1], t.source.ids, ~t.train, images=t.source.crops)
    return select(source, TargetSamples(*other), TransferPlan(seed=t.seed)), distinct
