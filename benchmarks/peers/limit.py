"""The limit: the nets alone, tuned, on tensors that are there. No loop can be faster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import rasterio
import torch
from torch import Tensor

from benchmarks.peers.job import Job, Outcome
from benchmarks.peers.windows import patches
from benchmarks.tuning import Precision, tune_malloc, tuned_scores
from geopipe.nets import SegmentationModel

Shape = tuple[int, int]


def limit(job: Job) -> Outcome:
    """As many forward passes as the scene has windows, of the same shapes; nothing is written.

    The cores are shared in the faster of two ways, found by a probe: a window on each, or all on
    one window.
    """
    malloc_tuned, cores = tune_malloc(), torch.get_num_threads()
    model = job.load()
    with rasterio.open(job.scene) as src:
        windows = list(patches(src.shape, job.part))
    shapes = [patch.net.expand(model.net.halo).shape for patch in windows]
    images = {shape: torch.randn(1, model.bands, *shape) for shape in set(shapes)}
    nets = Passes(model.net, images, job.precision, cores)
    probe = shapes[: 2 * cores]
    at_once = min((cores, 1), key=lambda n: nets.seconds(probe, n)) if cores > 1 else 1
    seconds = nets.seconds(shapes, at_once)
    pixels = sum(patch.core.height * patch.core.width for patch in windows)
    return Outcome(seconds, pixels, {"allocator": malloc_tuned, "windows_at_once": at_once})


@dataclass(frozen=True, slots=True)
class Passes:
    """Forward passes over images that are there, one of each shape."""

    net: SegmentationModel
    images: dict[Shape, Tensor]
    precision: Precision
    cores: int

    def seconds(self, shapes: Sequence[Shape], at_once: int) -> float:
        """What a pass over each of `shapes` takes, `at_once` at a time, after one to warm up."""
        share = (max(1, self.cores // at_once),)
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=share) as pool:
            list(pool.map(self._forward, [shapes[0]] * at_once))
            start = time.perf_counter()
            list(pool.map(self._forward, shapes))
            return time.perf_counter() - start

    def _forward(self, shape: Shape) -> None:
        """Scores are dropped: together they would fill the memory."""
        tuned_scores(self.net, self.images[shape], self.precision)
