"""Training speed of this machine: seconds per step, measured on random images."""

import statistics
import time
from functools import partial

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.classes import ClassScheme
from geopipe.learn.base_network import BaseNetworkPlan, patch_loss
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.learn.refinement import RefinementPlan, refinement_loss
from geopipe.learn.sampler import PatchPool, PatchSampler, PoolBlock
from geopipe.learn.shards import sharded_gradient
from geopipe.nets import RefinementRNN, SegmentationModel, build_base_network

TIMED_STEPS = 2
"""Steps that are timed, after one that is not: it sets up memory and kernels."""


def seconds_per_step(
    plan: BaseNetworkPlan | RefinementPlan | FineTuningPlan,
    scheme: ClassScheme,
    bands: int,
    net: str = "cnn",
) -> float:
    """Seconds that a step of `plan` takes on the CPU, with the threads torch has now.

    `net`: the base network of a refinement or a fine-tuning.
    """
    refinement = None
    with torch.random.fork_rng(devices=[]):
        base = build_base_network(
            bands, len(scheme), plan.net if isinstance(plan, BaseNetworkPlan) else net
        )
        if isinstance(plan, RefinementPlan):
            base.requires_grad_(False)
            refinement = RefinementRNN(bands, len(scheme), iterations=plan.iterations)
    model = SegmentationModel(base, refinement)
    model.train(isinstance(plan, BaseNetworkPlan))
    checkpoint = Checkpoint(model, scheme, (0.0,) * bands, (1.0,) * bands, "uint8")
    pool = _noise(plan.patch, model, len(scheme))
    warp = 0.0 if isinstance(plan, RefinementPlan) else plan.warp
    sampling = PatchSampler(pool, plan.patch, 0, plan.augment, plan.jitter, warp=warp)
    if isinstance(plan, RefinementPlan):
        part = refinement_loss(checkpoint, sampling, plan, "cpu")
    else:
        part = patch_loss(checkpoint, sampling, "cpu", plan.precision)
    with sharded_gradient(part, refinement or model, plan.batch) as gradient:
        gradient(0)
        return statistics.median(_timed(partial(gradient, step)) for step in range(TIMED_STEPS))


def _timed(step: partial[float]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _noise(patch: int, net: SegmentationModel, classes: int) -> PatchPool:
    """A block a little larger than a patch, of noise."""
    rng = np.random.default_rng(0)
    side = patch + net.stride
    read = -(-(side + 2 * net.halo) // net.stride) * net.stride
    image = rng.normal(size=(net.base.bands, read, read)).astype(np.float32)
    labels = rng.integers(classes, size=(side, side), dtype=np.uint8)
    positions = tuple(
        np.insert(np.argwhere(labels == k), 0, 0, axis=1).astype(np.int32) for k in range(classes)
    )
    block = PoolBlock(image, np.ones((read, read), bool), labels)
    return PatchPool((block,), net.halo, classes, 1.0, positions)
