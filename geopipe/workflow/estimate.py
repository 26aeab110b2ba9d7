"""Estimate how long a workflow takes on this machine, before it is run."""

import time
from dataclasses import dataclass, fields

import numpy as np
import torch

from geopipe.allocator import tune_malloc
from geopipe.classes import ClassScheme
from geopipe.learn.base_network import BaseNetworkPlan
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.learn.pace import seconds_per_step
from geopipe.learn.refinement import RefinementPlan
from geopipe.limits import useful_threads
from geopipe.mapping.kernels import fastest_kernels
from geopipe.nets import RefinementRNN, SegmentationModel, build_base_network
from geopipe.networks import BaseNetworkName
from geopipe.progress import duration

_STEPS_PER_KM2 = 20
"""Steps of the CNN's short schedule that take as long as aligning the labels of a km2."""
_FIXED_S = 12.0
"""Seconds for start-up, overviews and reports."""
_TILE = 512
"""Side of the tile that is mapped to measure."""


@dataclass(frozen=True)
class Work:
    """What a workflow has to do."""

    base: BaseNetworkPlan
    refinement: RefinementPlan | FineTuningPlan | None
    """What the accurate tile is for."""
    mapped_mpx: float
    """Net pixels to map, in millions, evaluation included."""
    aligned_km2: float = 0.0
    """Ground whose labels are still to be aligned."""

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.base.steps + (self.refinement.steps if self.refinement else 0)


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of each part."""

    labels: float
    base_network: float
    sharpening: float
    mapping: float
    rest: float = _FIXED_S

    @property
    def total(self) -> float:
        """Seconds of the whole."""
        return float(sum(getattr(self, f.name) for f in fields(self)))

    def sentence(self) -> str:
        """In words, with what would shorten it."""
        parts = {
            "labels": self.labels,
            "base network": self.base_network,
            "sharpening": self.sharpening,
            "mapping and reports": self.mapping + self.rest,
        }
        breakdown = ", ".join(f"{name} {duration(s)}" for name, s in parts.items() if s)
        base = self.base_network >= self.sharpening
        longest, table = ("base network", "base") if base else ("refinement", "refinement")
        return (
            f"this takes about {duration(self.total)} on this machine "
            f"({useful_threads(torch.get_num_threads())} threads): {breakdown}; fewer steps of the "
            f"{longest} shorten it ({table}.steps in a workflow)"
        )


def estimate(work: Work, scheme: ClassScheme, bands: int = 3) -> TimeEstimate:
    """Measure a few steps of each training and a tile, about five seconds, and add them up."""
    net = work.base.net
    base = seconds_per_step(work.base, scheme, bands)
    labels = 0.0
    if work.aligned_km2:
        short = BaseNetworkPlan.of()
        step = base if work.base == short else seconds_per_step(short, scheme, bands)
        labels = _STEPS_PER_KM2 * work.aligned_km2 * step
    sharpening, refinement = 0.0, None
    if work.refinement:
        sharpening = work.refinement.steps * seconds_per_step(work.refinement, scheme, bands, net)
    with torch.random.fork_rng(devices=[]):
        if isinstance(work.refinement, RefinementPlan):
            refinement = RefinementRNN(bands, len(scheme), iterations=work.refinement.iterations)
        mapping = 0.0
        if work.mapped_mpx:
            mapping = work.mapped_mpx * _seconds_per_mpx(net, refinement, len(scheme), bands)
    return TimeEstimate(labels, base * work.base.steps, sharpening, mapping)


def _seconds_per_mpx(
    net: BaseNetworkName, refinement: RefinementRNN | None, classes: int, bands: int
) -> float:
    """Seconds per million net pixels: a tile a thread, as many at once as there are threads."""
    model = SegmentationModel(build_base_network(bands, classes, net), refinement).eval()
    model.kernels = fastest_kernels()
    side = _TILE + 2 * model.halo
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, bands, side, side))).float()
    tune_malloc()
    threads = torch.get_num_threads()
    at_once = useful_threads(threads)
    try:
        torch.set_num_threads(1)
        with torch.inference_mode():
            model(image)
            start = time.perf_counter()
            model(image)
            seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    return seconds / (_TILE**2 / 1e6) / at_once
