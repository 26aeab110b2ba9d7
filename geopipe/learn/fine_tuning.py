"""Fine-tune a base network on a small, accurately labelled tile."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from geopipe.checkpoint import Checkpoint
from geopipe.errors import ConfigError
from geopipe.learn.base_network import patch_loss
from geopipe.learn.label_areas import learnt_areas
from geopipe.learn.loop import RESUME, TrainingHistory, fit
from geopipe.learn.memory import require_memory
from geopipe.learn.precision import TrainingPrecision
from geopipe.learn.sampler import PatchPool, PatchSampler, fitting_patch
from geopipe.learn.schedule import Schedule, constant, one_cycle
from geopipe.learn.shards import sharded_gradient
from geopipe.networks import BaseNetworkName
from geopipe.raster.credit import joined_credits

_LITE: dict[Schedule, dict[str, Any]] = {
    "short": {"steps": 400, "batch": 2, "patch": 256, "lr": 1e-3, "cycle": True, "warp": 0.25},
    "paper": {"steps": 150, "batch": 8, "patch": 128},
}
"""Of `FineTuningPlan`, for a LiteUNet."""
_STARTED: dict[str, Any] = {"steps": 300}
"""The same for one whose training went on from a model, on the short schedule."""


@dataclass(frozen=True)
class FineTuningPlan:
    """AdamW, all weights; by default at a low constant rate, with patches as for a refinement."""

    steps: int = 300
    batch: int = 16
    patch: int = 64
    lr: float = 3e-4
    cycle: bool = False
    """The learning rate rises and falls (`one_cycle`); else it stays."""
    augment: bool = True
    warp: float = 0.0
    """Patches are turned by any angle and scaled by up to exp(warp), see `Warp`; 0: not."""
    jitter: float = 0.1
    balanced: bool = False
    seed: int = 0
    precision: TrainingPrecision = "auto"

    @classmethod
    def of(
        cls,
        net: BaseNetworkName = "cnn",
        schedule: Schedule = "short",
        *,
        started: bool = False,
        **overrides: Any,
    ) -> Self:
        """The plan for `net` on `schedule`, with what is `overrides` instead of its own values.

        `started`: the base network was trained from a model.
        """
        lite = _LITE[schedule] if net == "lite-unet" else {}
        fewer = _STARTED if started and (net, schedule) == ("lite-unet", "short") else {}
        return cls(**{**lite, **fewer, **overrides})

    def fitted(self, shape: tuple[int, int]) -> Self:
        """The plan for a tile of `shape` net pixels: patches that fit it, and more of them."""
        patch, batch = fitting_patch(shape, self.patch, self.batch)
        return replace(self, patch=patch, batch=batch)


def fine_tune(
    model: Checkpoint,
    pool: PatchPool,
    plan: FineTuningPlan,
    *,
    out: Path,
    key: str,
    device: str = "cpu",
    check: Callable[[Checkpoint], float] | None = None,
    check_every: int = 100,
) -> tuple[Checkpoint, TrainingHistory]:
    """Train all weights of a copy of the model's base network on the pool and save it as `out`.

    Normalisation stays the model's, and so do the means and variances that batch norm stored, of a
    scene much larger than the tile: the net learns as it will map. Raises ConfigError for a model
    with a refinement, which was trained on the scores of the net as it is.
    """
    if model.net.postprocessor:
        raise ConfigError(
            "the model has a refinement, whose scores fine-tuning would change under it",
            "fine-tune the base model",
        )
    require_memory(model.net.base, plan.batch, plan.patch + 2 * model.net.training_halo, device)
    net = deepcopy(model.net).to(device).requires_grad_().eval()
    fine_tuned = model.with_net(
        net,
        {
            "finetuning": {**asdict(plan), "labelled_pixels": pool.counts.tolist()},
            **learnt_areas(pool, model),
            "credit": joined_credits([model.provenance.get("credit", ""), pool.credit]),
        },
    )
    sampling = PatchSampler(
        pool, plan.patch, plan.seed, plan.augment, plan.jitter, plan.balanced, plan.warp
    )
    part = patch_loss(fine_tuned, sampling, device, plan.precision)
    with sharded_gradient(part, net, plan.batch) as gradient:
        record = fit(
            net,
            gradient,
            torch.optim.AdamW(net.parameters(), plan.lr, weight_decay=0),
            plan.steps,
            label="fine-tuning",
            resume=out.with_name(out.name + RESUME),
            key=key,
            rate=one_cycle if plan.cycle else constant,
            check=(lambda: check(fine_tuned)) if check else None,
            check_every=check_every,
        )
    net.requires_grad_(False)
    fine_tuned.save(out)
    return fine_tuned, record
