"""rioxarray and dask.array.map_overlap: what the xarray world would write."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import dask
import numpy as np
import rioxarray
import torch

from benchmarks.peers.job import BLOCK, Job, Outcome
from benchmarks.peers.windows import FACTOR, Patch, net_window, patches, to_net, to_scene
from benchmarks.tuning import CORE, plain_scores
from geopipe.checkpoint import Checkpoint
from geopipe.grid import Window

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Threads of dask; torch has one in each (the parent sets OMP_NUM_THREADS): the best of the ways to
share two cores."""


def dask_overlap(job: Job) -> Outcome:
    """Chunks of 1024 px with their halo through the nets, into a GeoTIFF."""
    torch.set_num_threads(1)
    model = job.load()
    depth = FACTOR * (model.net.halo + 4)
    chunks = {"band": -1, "y": CORE, "x": CORE}
    opened: Any = rioxarray.open_rasterio(job.scene, chunks=chunks)
    with dask.config.set(scheduler="threads", num_workers=THREADS), opened as scene:
        first = next(patches(scene.shape[1:]))
        size = first.net.expand(model.net.halo).shape
        plain_scores(model.net, torch.zeros(1, model.bands, *size))  # warm up
        start = time.perf_counter()
        classes = scene.data.map_overlap(
            lambda block, block_info=None: map_block(block, block_info, model, depth),
            depth={0: 0, 1: depth, 2: depth},
            boundary="none",
            drop_axis=0,
            dtype=np.uint8,
            meta=np.empty((0, 0), np.uint8),
        )
        result = scene.isel(band=0, drop=True).copy(data=classes)
        result.attrs, result.encoding = {}, {}
        result.rio.write_nodata(255, inplace=True)
        result.rio.to_raster(
            job.out,
            driver="GTiff",
            tiled=True,
            lock=threading.Lock(),
            compress="deflate",
            blockxsize=BLOCK,
            blockysize=BLOCK,
        )
        return Outcome(time.perf_counter() - start, classes.size, {"dask_threads": THREADS})


def map_block(block: np.ndarray, info: Any, model: Checkpoint, depth: int) -> np.ndarray:
    """Classes (h, w) of a chunk (bands, h, w) that carries `depth` px on its inner sides.

    On the scene's borders dask gives no halo, so that the nets are fed the mean there.
    """
    (_, row, col), (_, rows, cols) = info[0]["chunk-location"], info[0]["num-chunks"]
    top, left = (depth if i else 0 for i in (row, col))
    bottom, right = (depth if i < n - 1 else 0 for i, n in ((row, rows), (col, cols)))
    height, width = block.shape[1:]
    core = Window(top, left, height - top - bottom, width - left - right)
    patch = Patch(core, net_window(core, (height // FACTOR, width // FACTOR)))
    image = to_net(torch.from_numpy(block)[None], model)
    window, plane = patch.net.expand(model.net.halo), image.shape[-2:]
    sides = (-window.col, window.right - plane[1], -window.row, window.bottom - plane[0])
    scores = plain_scores(model.net, torch.nn.functional.pad(image, sides))
    classes = np.empty((height, width), np.uint8)  # dask trims the halo again
    classes[core.slices] = to_scene(scores, patch).argmax(1)[0].numpy()
    return classes
