"""Loops over rasterio windows: the plain one, the same one tuned, and the code most users write."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice

import rasterio
import torch
from torch import Tensor

from benchmarks.peers.as_written import AsWritten, disagreement
from benchmarks.peers.job import Job, Outcome
from benchmarks.peers.windows import patches, read_image, to_scene
from benchmarks.tuning import CACHE_MB, best_class, plain_scores, tune_malloc, tuned_scores
from geopipe.checkpoint import Checkpoint

Forward = Callable[[Tensor], Tensor]
"""Normalised image (1, bands, h + 2 halo, w + 2 halo) to scores (1, classes, h, w)."""
Choose = Callable[[Tensor], Tensor]
"""Scores (1, classes, h, w) to class ids (h, w)."""


def plain(job: Job) -> Outcome:
    """What a good engineer writes who knows rasterio and torch: windows, halo, float32, argmax."""
    model = job.load()
    with torch.no_grad():
        return loop(job, model, lambda image: plain_scores(model.net, image), argmax)


def tuned(job: Job) -> Outcome:
    """The same loop with all that makes geopipe fast."""
    malloc_tuned = tune_malloc()
    model = job.load()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB << 20), torch.inference_mode():
        done = loop(
            job,
            model,
            lambda image: tuned_scores(model.net, image, job.precision),
            lambda scores: best_class(scores[0]),
        )
    return Outcome(done.seconds, done.pixels, {"allocator": malloc_tuned})


def as_written(job: Job) -> Outcome:
    """The plain loop with the refinement as the paper's equations say, not folded."""
    model = job.load()
    net = AsWritten(model.net)
    difference = disagreement(net, model.net, len(model.mean))
    with torch.no_grad():
        done = loop(job, model, net, argmax)
    return Outcome(done.seconds, done.pixels, {"largest_score_difference": difference})


def argmax(scores: Tensor) -> Tensor:
    """The obvious way to the best class; slow over the strided axis."""
    return scores.argmax(1)[0]


def loop(job: Job, model: Checkpoint, forward: Forward, choose: Choose) -> Outcome:
    """Window by window: read, average, nets, interpolate, best class, write."""
    with ExitStack() as stack:
        src = stack.enter_context(rasterio.open(job.scene))
        for patch in islice(patches(src.shape, job.part), 1):
            image = read_image(src, model, patch, job.device)
            choose(to_scene(forward(image), patch))  # warm up
        pixels = 0
        start = time.perf_counter()
        with rasterio.open(job.out, "w", **job.profile(src)) as out:
            for patch in patches(src.shape, job.part):
                scores = forward(read_image(src, model, patch, job.device))
                classes = choose(to_scene(scores, patch))
                out.write(classes.to(torch.uint8).cpu().numpy(), 1, window=patch.rio())
                pixels += classes.numel()
        return Outcome(time.perf_counter() - start, pixels)
