"""Train the coarse classifier on noisy labels (Maggiori et al. 2017, section III)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.classes import ClassScheme
from geopipe.learn.fit import Fitted, fit
from geopipe.learn.loss import labelled_cross_entropy
from geopipe.learn.pool import Pool, Sampling, symmetric
from geopipe.learn.precision import Precision, training_autocast
from geopipe.nets import CoarseNet, MapNet


@dataclass(frozen=True)
class CoarsePlan:
    """The paper's values; `steps` is what a CPU can afford."""

    steps: int = 1200
    batch: int = 64
    patch: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 2e-4
    augment: bool = True
    jitter: float = 0.2
    seed: int = 0
    precision: Precision = "auto"


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
    """Fit a CoarseNet to the pool and save it as `out`.

    `key`: digest of data and parameters, decides whether an interrupted training goes on.
    `check`: a score of the model at hand, recorded while training (it does not steer it).
    """
    mean, std = pool.statistics()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        net = MapNet(CoarseNet(len(mean), len(scheme)))
    net.to(device).train()
    checkpoint = Checkpoint(net, scheme, mean, std, dtype, gsd)
    sampling = Sampling(pool, plan.patch, plan.seed, plan.augment, plan.jitter)
    blocks = [
        (checkpoint.normalise(torch.from_numpy(b.image), torch.from_numpy(b.valid)), b.labels)
        for b in pool.blocks
    ]

    def loss(step: int) -> Tensor:
        image, labels = _batch(sampling, blocks, step * plan.batch, plan.batch)
        with training_autocast(device, plan.precision):
            scores = net(image.to(device))
        return labelled_cross_entropy(scores, labels.to(device))

    optimizer = torch.optim.SGD(
        net.parameters(), plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
    )
    record = fit(
        net,
        loss,
        optimizer,
        plan.steps,
        label="training the coarse net",
        resume=out.with_suffix(".resume"),
        key=key,
        check=(lambda: check(checkpoint)) if check else None,
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
