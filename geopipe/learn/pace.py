"""How fast this machine trains: seconds per step, measured on random images."""

import statistics
import time
from functools import partial

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.classes import ClassScheme
from geopipe.learn.coarse import CoarsePlan, patch_loss
from geopipe.learn.finetune import FinetunePlan
from geopipe.learn.pool import Block, Pool, Sampling
from geopipe.learn.refine import RefinePlan, refinement_loss
from geopipe.learn.shards import sharded_gradient
from geopipe.nets import MapNet, RefineNet, build_net

MEASURED = 2
"""Steps that are timed, after one that is not: it sets up memory and kernels."""


def seconds_per_step(
    plan: CoarsePlan | RefinePlan | FinetunePlan, scheme: ClassScheme, bands: int, net: str = "cnn"
) -> float:
    """Seconds that a step of `plan` takes on the CPU, with the threads torch has now.

    `net`: the base network of a refinement or a fine-tuning.
    """
    refinement = None
    with torch.random.fork_rng(devices=[]):
        base = build_net(bands, len(scheme), plan.net if isinstance(plan, CoarsePlan) else net)
        if isinstance(plan, RefinePlan):
            base.requires_grad_(False)
            refinement = RefineNet(bands, len(scheme), iterations=plan.iterations)
    model = MapNet(base, refinement)
    model.train(isinstance(plan, CoarsePlan))
    checkpoint = Checkpoint(model, scheme, (0.0,) * bands, (1.0,) * bands, "uint8")
    pool = _noise(plan.patch, model, len(scheme))
    sampling = Sampling(pool, plan.patch, 0, plan.augment, plan.jitter)
    if isinstance(plan, RefinePlan):
        part = refinement_loss(checkpoint, sampling, plan, "cpu")
    else:
        part = patch_loss(checkpoint, sampling, "cpu", plan.precision)
    with sharded_gradient(part, refinement or model, plan.batch) as gradient:
        gradient(0)
        return statistics.median(_timed(partial(gradient, step)) for step in range(MEASURED))


def _timed(step: partial[float]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _noise(patch: int, net: MapNet, classes: int) -> Pool:
    """A block a little larger than a patch, of noise."""
    rng = np.random.default_rng(0)
    side = patch + net.stride
    read = -(-(side + 2 * net.halo) // net.stride) * net.stride
    image = rng.normal(size=(net.coarse.bands, read, read)).astype(np.float32)
    labels = rng.integers(classes, size=(side, side), dtype=np.uint8)
    positions = tuple(
        np.insert(np.argwhere(labels == k), 0, 0, axis=1).astype(np.int32) for k in range(classes)
    )
    block = Block(image, np.ones((read, read), bool), labels)
    return Pool((block,), net.halo, classes, 1.0, positions)
