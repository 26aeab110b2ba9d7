"""Train the refinement on a small, accurately labelled tile (Maggiori et al. 2017, section III)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.learn.fit import RESUME, Fitted, fit
from geopipe.learn.loss import labelled_cross_entropy
from geopipe.learn.pool import Block, Pool, Sampling, symmetric
from geopipe.learn.precision import Precision, training_autocast
from geopipe.nets import MapNet, RefineNet
from geopipe.nets.mapnet import center


@dataclass(frozen=True)
class RefinePlan:
    """The paper's values (its 50,000 steps cut to what a CPU can afford)."""

    steps: int = 1500
    batch: int = 16
    patch: int = 64
    lr: float = 0.01
    iterations: int = 5
    class_agnostic: bool = False
    recurrent: bool = True
    augment: bool = True
    jitter: float = 0.1
    balanced: bool = False
    seed: int = 0
    precision: Precision = "auto"


def train_refinement(
    coarse: Checkpoint,
    pool: Pool,
    plan: RefinePlan,
    *,
    out: Path,
    key: str,
    device: str = "cpu",
    check: Callable[[Checkpoint], float] | None = None,
    check_every: int = 100,
) -> tuple[Checkpoint, Fitted]:
    """Fit a RefineNet to the pool, the coarse net frozen, and save both as `out`."""
    classes = len(coarse.scheme)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        refine = RefineNet(
            coarse.bands,
            classes,
            iterations=plan.iterations,
            class_agnostic=plan.class_agnostic,
            recurrent=plan.recurrent,
        )
    refine.to(device).train()
    net = MapNet(coarse.net.coarse.to(device), refine)
    named = dict.fromkeys([coarse.provenance.get("credit", ""), pool.credit])
    refined = coarse.with_net(
        net,
        {
            "refinement": {**asdict(plan), "labelled_pixels": pool.counts.tolist()},
            "credit": "; ".join(c for c in named if c),
        },
    )
    sampling = Sampling(pool, plan.patch, plan.seed, plan.augment, plan.jitter, plan.balanced)
    blocks = [_prepare(refined, b, device) for b in pool.blocks]
    context = plan.patch + 2 * refine.reach

    def loss(step: int) -> Tensor:
        image: list[Tensor] = []
        scores: list[Tensor] = []
        labels: list[Tensor] = []
        for number in range(step * plan.batch, (step + 1) * plan.batch):
            index, row, col, symmetry = sampling.draw(number)
            sizes = (context, context, plan.patch)
            pixels, u, ids = (
                symmetric(x[..., row : row + n, col : col + n], symmetry)
                for x, n in zip(blocks[index], sizes, strict=True)
            )
            image.append(sampling.relit(pixels, number))
            scores.append(u)
            labels.append(ids)
        with training_autocast(device, plan.precision):
            out_scores = refine(_packed(scores), _packed(image))
        return labelled_cross_entropy(out_scores, torch.stack(labels))

    record = fit(
        refine,
        loss,
        torch.optim.Adagrad(refine.parameters(), plan.lr),
        plan.steps,
        label="training the refinement",
        resume=out.with_name(out.name + RESUME),
        key=key,
        check=(lambda: check(refined)) if check else None,
        check_every=check_every,
    )
    net.eval().requires_grad_(False)
    refined.save(out)
    return refined, record


def _prepare(model: Checkpoint, block: Block, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Image and coarse scores with the refinement's context around the core, and the labels.

    Blocks start on the coarse net's stride, so its scores here are those the map will have.
    """
    image = model.normalise(torch.from_numpy(block.image), torch.from_numpy(block.valid))
    image = image.to(device)
    assert model.net.refine is not None
    with torch.no_grad():
        scores = model.net.coarse(image[None])[0]
    around = 2 * (model.net.halo - model.net.refine.reach)
    size = torch.Size(n - around for n in image.shape[-2:])
    return center(image, size), center(scores, size), torch.from_numpy(block.labels).to(device)


def _packed(x: list[Tensor]) -> Tensor:
    """Batch in channels-last order, which the grouped convolutions train fastest in."""
    return torch.stack(x).contiguous(memory_format=torch.channels_last)
