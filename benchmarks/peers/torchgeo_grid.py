"""torchgeo's RasterDataset, GridGeoSampler and DataLoader: what its documentation shows."""

from __future__ import annotations

import importlib
import time
from typing import Any

import rasterio
import torch
from rasterio.windows import Window as RioWindow
from torch.utils.data import DataLoader

from benchmarks.peers.job import Job, Outcome
from benchmarks.peers.loops import argmax
from benchmarks.peers.windows import FACTOR, MARGIN, Patch, to_net, to_scene
from benchmarks.tuning import CORE, plain_scores
from geopipe.grid import Window


def import_torchgeo() -> tuple[Any, Any, str]:
    """Its datasets, its samplers and its version; ImportError where it is not installed.

    PyPI's torchvision is linked to CUDA: beside a CPU build of torch its compiled operators do not
    load, and it stops at describing them. With their signatures declared first the rest of it
    imports; none of them is called here.
    """
    importlib.import_module("rasterio")  # a missing one is told first
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    if not torch.cuda.is_available():
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", signature)
    datasets, samplers = map(importlib.import_module, ("torchgeo.datasets", "torchgeo.samplers"))
    return datasets, samplers, str(importlib.import_module("torchgeo").__version__)


def torchgeo_grid(job: Job) -> Outcome:
    """Chips of 1024 px and their halo, in the sampler's order: from the lower left corner on."""
    datasets, samplers, version = import_torchgeo()
    model = job.load()
    pad = FACTOR * (model.net.halo + MARGIN)
    dataset = datasets.RasterDataset(paths=str(job.scene))
    with rasterio.open(job.scene) as src:
        profile, shape, res = job.profile(src), src.shape, src.res[0]
        left, top = src.bounds.left, src.bounds.top
    # The sampler takes chips inside the dataset only: without this the rim would stay unmapped.
    dataset.index = dataset.index.set_geometry(
        dataset.index.geometry.buffer(pad * res, join_style="mitre")
    )
    sampler = samplers.GridGeoSampler(dataset, size=CORE + 2 * pad, stride=CORE)
    loader = DataLoader(
        dataset,
        batch_size=1,
        sampler=sampler,
        num_workers=job.loaders,
        collate_fn=datasets.stack_samples,
    )
    side = CORE // FACTOR
    patch = Patch(
        Window(FACTOR * MARGIN, FACTOR * MARGIN, CORE, CORE),
        Window(0, 0, side + 2 * MARGIN, side + 2 * MARGIN),
    )
    with torch.no_grad():
        first = (1, model.bands, *patch.net.expand(model.net.halo).shape)
        plain_scores(model.net, torch.zeros(first, device=job.device))
        start = time.perf_counter()
        with rasterio.open(job.out, "w", **profile) as out:
            for batch in loader:
                image = to_net(batch["image"].to(job.device), model)
                classes = argmax(to_scene(plain_scores(model.net, image), patch))
                x, y, _ = batch["bounds"][0]
                row, col = round((top - y.stop) / res) + pad, round((x.start - left) / res) + pad
                core = Window(row, col, CORE, CORE)
                inside = core.clip(shape)
                window = RioWindow(inside.col, inside.row, inside.width, inside.height)
                ids = classes[inside.within(core)].to(torch.uint8).cpu().numpy()
                out.write(ids, 1, window=window)
        seconds = time.perf_counter() - start
    return Outcome(seconds, shape[0] * shape[1], {"torchgeo": version, "loaders": job.loaders})
