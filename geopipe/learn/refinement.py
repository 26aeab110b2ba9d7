"""Train the refinement on a small, accurately labelled tile (Maggiori et al. 2017, section III)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.learn.label_areas import learnt_areas
from geopipe.learn.loop import RESUME, TrainingHistory, fit
from geopipe.learn.loss import SummedLoss, labelled_cross_entropy
from geopipe.learn.memory import require_memory
from geopipe.learn.precision import TrainingPrecision, training_autocast, trains_in_bfloat16
from geopipe.learn.sampler import PatchPool, PatchSampler, PoolBlock, dihedral, fitting_patch
from geopipe.learn.schedule import Schedule, constant, one_cycle
from geopipe.learn.shards import sharded_gradient
from geopipe.nets import RefinementRNN, SegmentationModel
from geopipe.nets.segmentation import center
from geopipe.raster.credit import joined_credits

_SHORT: dict[str, Any] = {
    "steps": 500,
    "batch": 4,
    "patch": 128,
    "optimizer": "adam",
    "lr": 0.01,
    "cycle": True,
}


@dataclass(frozen=True)
class RefinementPlan:
    """How a refinement learns; by default as in the paper, its 50,000 steps cut for a CPU."""

    steps: int = 1500
    batch: int = 16
    patch: int = 64
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    lr: float = 0.01
    cycle: bool = False
    """The learning rate rises and falls (`one_cycle`); else it stays."""
    iterations: int = 5
    class_agnostic: bool = False
    recurrent: bool = True
    augment: bool = True
    jitter: float = 0.1
    balanced: bool = False
    seed: int = 0
    precision: TrainingPrecision = "auto"

    @classmethod
    def of(cls, schedule: Schedule = "short", **overrides: Any) -> Self:
        """The plan of `schedule`, with what is `overrides` instead of its own values."""
        return cls(**{**(_SHORT if schedule == "short" else {}), **overrides})

    def fitted(self, shape: tuple[int, int]) -> Self:
        """The plan for a tile of `shape` net pixels: patches that fit it, and more of them."""
        patch, batch = fitting_patch(shape, self.patch, self.batch)
        return replace(self, patch=patch, batch=batch)


def train_refinement(
    base: Checkpoint,
    pool: PatchPool,
    plan: RefinementPlan,
    *,
    out: Path,
    key: str,
    device: str = "cpu",
    check: Callable[[Checkpoint], float] | None = None,
    check_every: int = 100,
) -> tuple[Checkpoint, TrainingHistory]:
    """Fit a RefinementRNN to the pool, the base network frozen, and save both as `out`."""
    classes = len(base.scheme)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        refine = RefinementRNN(
            base.bands,
            classes,
            iterations=plan.iterations,
            class_agnostic=plan.class_agnostic,
            recurrent=plan.recurrent,
        )
    require_memory(base.net.base, plan.batch, plan.patch + 2 * base.net.halo, device)
    refine.to(device).train()
    net = SegmentationModel(base.net.base.to(device), refine)
    refined = base.with_net(
        net,
        {
            "refinement": {**asdict(plan), "labelled_pixels": pool.counts.tolist()},
            **learnt_areas(pool, base),
            "credit": joined_credits([base.provenance.get("credit", ""), pool.credit]),
        },
    )
    sampling = PatchSampler(pool, plan.patch, plan.seed, plan.augment, plan.jitter, plan.balanced)
    part = refinement_loss(refined, sampling, plan, device)
    with sharded_gradient(part, refine, plan.batch) as gradient:
        record = fit(
            refine,
            gradient,
            _optimizer(refine, plan),
            plan.steps,
            label="training the refinement",
            resume=out.with_name(out.name + RESUME),
            key=key,
            rate=one_cycle if plan.cycle else constant,
            check=(lambda: check(refined)) if check else None,
            check_every=check_every,
        )
    net.eval().requires_grad_(False)
    refined.save(out)
    return refined, record


def _optimizer(net: RefinementRNN, plan: RefinementPlan) -> torch.optim.Optimizer:
    if plan.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), plan.lr)
    return torch.optim.Adagrad(net.parameters(), plan.lr)


def _prepare(model: Checkpoint, block: PoolBlock, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Image and base scores with the refinement's context around the core, and the labels.

    Blocks start on the base network's stride, so its scores here are those the map will have.
    """
    image = model.normalize(torch.from_numpy(block.image), torch.from_numpy(block.valid))
    image = image.to(device)
    assert model.net.postprocessor is not None
    with torch.no_grad():
        scores = model.net.base(image[None])[0]
    margin = 2 * (model.net.halo - model.net.postprocessor.receptive_radius)
    size = torch.Size(n - margin for n in image.shape[-2:])
    return center(image, size), center(scores, size), torch.from_numpy(block.labels).to(device)


def refinement_loss(
    model: Checkpoint, sampling: PatchSampler, plan: RefinementPlan, device: str
) -> Callable[[int, range], SummedLoss]:
    """``part(step, numbers)`` for `sharded_gradient`: the loss of patches by their numbers.

    The base network is frozen, so its scores are computed once.
    """
    refine = model.net.postprocessor
    assert isinstance(refine, RefinementRNN)
    blocks = [_prepare(model, b, device) for b in sampling.pool.blocks]
    context = plan.patch + 2 * refine.receptive_radius
    precision, layout = _arithmetic(device, plan.precision)

    def part(_: int, numbers: range) -> SummedLoss:
        image: list[Tensor] = []
        scores: list[Tensor] = []
        labels: list[Tensor] = []
        for number in numbers:
            index, row, col, symmetry = sampling.sample(number)
            sizes = (context, context, plan.patch)
            pixels, u, ids = (
                dihedral(x[..., row : row + n, col : col + n], symmetry)
                for x, n in zip(blocks[index], sizes, strict=True)
            )
            image.append(sampling.radiometric_jitter(pixels, number))
            scores.append(u)
            labels.append(ids)
        with training_autocast(device, precision):
            out_scores = refine(
                *(torch.stack(x).contiguous(memory_format=layout) for x in (scores, image))
            )
        return labelled_cross_entropy(out_scores, torch.stack(labels))

    return part


def _arithmetic(
    device: str, precision: TrainingPrecision
) -> tuple[TrainingPrecision, torch.memory_format]:
    """Precision and memory layout in which the grouped convolutions train fastest.

    On a CPU that is float32 with channels apart, even where the processor has bfloat16: a step
    takes 0.25 s, in bfloat16 0.33 s, in float32 with channels last 0.46 s (Xeon with AMX, 2 cores).
    """
    if device == "cpu" and precision == "auto":
        precision = "float32"
    if device == "cpu" and not trains_in_bfloat16(device, precision):
        return precision, torch.contiguous_format
    return precision, torch.channels_last
