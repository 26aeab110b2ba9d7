"""Fine-tune scene classifiers: one CNN, two fused ones, or DDRL-AM in its two steps."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import weights_hash
from geopipe.errors import ConfigError
from geopipe.learn.chips.center_loss import center_loss, init_centers, update_centers
from geopipe.learn.chips.decoded import DecodedChips
from geopipe.learn.chips.plan import ChipTrainingPlan
from geopipe.learn.chips.predict import cams, chip_net
from geopipe.learn.loop import RESUME, backward, fit
from geopipe.learn.memory import require_memory
from geopipe.learn.precision import training_autocast
from geopipe.learn.sampler import dihedral
from geopipe.nets import SegmentationModel
from geopipe.nets.chips import AttentionNet, ChipNet, VectorNet, attention_map


@dataclass(frozen=True, eq=False)
class Samples:
    """Chips with their classes."""

    decoded: DecodedChips
    ids: np.ndarray
    """(n,) uint8, of all decoded."""
    rows: np.ndarray
    """Which of them these are."""

    def key(self) -> str:
        """sha256 over pixels and classes."""
        digest = hashlib.sha256(f"{self.decoded.side}".encode())
        for i in self.rows.tolist():
            digest.update(f"{self.decoded.digests[i]} {self.ids[i]}\n".encode())
        return digest.hexdigest()


def train_network(
    model: Checkpoint,
    samples: Samples,
    plan: ChipTrainingPlan,
    *,
    folder: Path,
    device: str = "cpu",
) -> Checkpoint:
    """A copy of `model` trained on the samples, on the processor.

    It is kept in `folder`, named after all that decides it: asked for again it is loaded, and a
    training that was killed goes on. Equal start, samples, plan and device give equal weights.
    """
    net = chip_net(model)
    attentive = isinstance(net.backbone, AttentionNet)
    if not attentive and plan.attention != "predicted":
        raise ConfigError(
            f"{net.model_spec} has no attention map to take of the true class",
            "that is for ddrl-am",
        )
    start = weights_hash(net)
    parts = [start, net.architecture, asdict(plan), samples.key(), device.partition(":")[0]]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    file = folder / f"trained-{key[:32]}.safetensors"
    provenance = {"training": {**asdict(plan), "chips": len(samples.rows)}}
    if file.is_file():  # perhaps of a model with other names of classes, or another GSD
        return model.with_net(Checkpoint.load(file).net, provenance)
    require_memory(net, plan.batch, net.side, device)
    net = deepcopy(net)
    features = None
    if isinstance(net.backbone, AttentionNet):
        features = _compute_attention(net, model, samples, plan, folder, device)
    _fit(net.to(device), _BatchSampler(model, net, samples, plan, features), file, key, device)
    net.eval().requires_grad_(False).to("cpu")
    done = model.with_net(SegmentationModel(net), provenance)
    done.save(file)
    return done


def _compute_attention(
    net: ChipNet,
    model: Checkpoint,
    samples: Samples,
    plan: ChipTrainingPlan,
    folder: Path,
    device: str,
) -> np.ndarray:
    """Step 1: its net is put into `net`; returns its maps of the samples (n, h, w)."""
    inner = net.backbone
    assert isinstance(inner, AttentionNet)
    first = attention_backbone(net)
    step1 = train_network(
        model.with_net(SegmentationModel(first), {}),
        samples,
        plan.plain(),
        folder=folder,
        device=device,
    )
    backbone = chip_net(step1).backbone
    assert isinstance(backbone, VectorNet)
    inner.attention_backbone.net.load_state_dict(backbone.pretrained[0].net.state_dict())
    inner.looker_head.load_state_dict(backbone.head.state_dict())
    class_ids = samples.ids if plan.attention == "true" else None
    return cams(
        model.with_net(SegmentationModel(net), {}), samples.decoded, samples.rows, class_ids, device
    )


def attention_backbone(net: ChipNet) -> ChipNet:
    """Step 1 of a DDRL-AM net before its training, as ``finetune:NET`` alone would be."""
    inner = net.backbone
    assert isinstance(inner, AttentionNet)
    architecture = {
        **net.architecture,
        "model": f"finetune:{inner.rgb.part.backbone}",
        "flat": False,
    }
    del architecture["net"]
    first = ChipNet(net.bands, net.classes, **architecture)
    assert isinstance(first.backbone, VectorNet)
    first.backbone.pretrained[0].net.load_state_dict(inner.rgb.net.state_dict())
    zero(first.backbone.head)
    return first.eval()


def zero(head: nn.Linear) -> None:
    """Every class as likely at first."""
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)


class _TrainingModule(nn.Module):
    """What is learnt: the net, and the centers of its features."""

    centers: Tensor

    def __init__(self, net: ChipNet) -> None:
        super().__init__()
        self.net = net
        device = next(net.parameters()).device
        self.register_buffer(
            "centers", torch.full((net.classes, net.backbone.width), math.nan, device=device)
        )


def _fit(net: ChipNet, draw: "_BatchSampler", file: Path, key: str, device: str) -> None:
    plan, steps = draw.plan, draw.steps
    net.parameter_groups()
    training_module = _TrainingModule(net)
    groups = net.rates(plan.pretrained_lr, plan.lr)
    if not plan.pretrained_lr:
        for branch in net.backbone.pretrained:
            branch.requires_grad_(False)
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-8, amsgrad=True)

    def loss(step: int) -> Tensor:
        image, grey, ids = draw.batch(step, device)
        with _seeded(device, plan.seed, step), training_autocast(device, plan.precision):
            inner = net.backbone
            features = (
                inner.features(image)
                if isinstance(inner, VectorNet)
                else inner.modulated(image, grey)
            )
            scores = inner.head(features)
        value = F.cross_entropy(scores.float(), ids)
        if plan.center:
            features_f32 = features.float()
            training_module.centers.copy_(
                init_centers(training_module.centers, features_f32.detach(), ids)
            )
            value = value + plan.center * center_loss(features_f32, ids, training_module.centers)
            training_module.centers.copy_(
                update_centers(training_module.centers, features_f32.detach(), ids, plan.center_lr)
            )
        return value

    label = f"training {net.model_spec}"
    resume = file.with_name(file.name + RESUME)
    gradient = backward(loss)
    fit(
        training_module,
        gradient,
        optimizer,
        steps,
        label=label,
        resume=resume,
        key=key,
        rate=plan.rate,
    )


@contextmanager
def _seeded(device: str, seed: int, step: int) -> Iterator[None]:
    """Dropout that depends on the step alone, so that a resumed training goes on as it would."""
    devices = [torch.device(device)] if device != "cpu" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed * 1_000_003 + step)
        yield


@dataclass(frozen=True, eq=False)
class _BatchSampler:
    """Batch `step` depends on (seed, step) alone."""

    model: Checkpoint
    net: ChipNet
    samples: Samples
    plan: ChipTrainingPlan
    cams: np.ndarray | None
    """(n, h, w) of the samples, for DDRL-AM."""

    @property
    def size(self) -> int:
        """Chips of a batch."""
        return min(self.plan.batch, len(self.samples.rows))

    @property
    def each(self) -> int:
        """Batches of an epoch; what is left over changes from epoch to epoch."""
        return len(self.samples.rows) // self.size

    @property
    def steps(self) -> int:
        """Batches of the training."""
        return self.plan.epochs * self.each

    def batch(self, step: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Images (n, 3, side, side), attention maps (n, 1, side, side) or nothing, classes (n,)."""
        epoch, position = divmod(step, self.each)
        order = np.random.default_rng([self.plan.seed, 0, epoch]).permutation(
            len(self.samples.rows)
        )
        batch_rows = order[position * self.size : (position + 1) * self.size]
        rows = self.samples.rows[batch_rows]
        image = self.samples.decoded.batch(rows).to(device)
        normalized = self.model.normalize(
            image.float(), torch.ones((), dtype=torch.bool, device=device)
        )
        if self.cams is not None:
            grey = attention_map(torch.from_numpy(self.cams[batch_rows]).to(device), self.net.side)
            normalized = torch.cat([normalized, grey], 1)
        if self.plan.augment:
            kinds = np.random.default_rng([self.plan.seed, 1, step]).integers(
                8, size=len(batch_rows)
            )
            normalized = _rotated(normalized, torch.from_numpy(kinds).to(device))
        ids = torch.from_numpy(self.samples.ids[rows].astype(np.int64)).to(device)
        return normalized[:, :3], normalized[:, 3:], ids


def _rotated(images: Tensor, kinds: Tensor) -> Tensor:
    """Each image by its own symmetry of the square: turned by quarters, flipped, both."""
    out = torch.empty_like(images)
    for kind in range(8):
        mask = kinds == kind
        out[mask] = dihedral(images[mask], kind)
    return out
