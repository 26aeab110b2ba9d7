"""The tuned loop with a window on each core: the most a user can write without dask."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice

import numpy as np
import rasterio
import torch

from benchmarks.peers.job import Job, Outcome
from benchmarks.peers.windows import Patch, patches, read_image, to_scene
from benchmarks.tuning import CACHE_MB, best_class, tune_malloc, tuned_scores


def tuned_threads(job: Job) -> Outcome:
    """Threads read, compute and choose; this one writes. Torch has one thread in each."""
    malloc_tuned, cores = tune_malloc(), torch.get_num_threads()
    model = job.load()
    local = threading.local()
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_MB << 20))
        src = stack.enter_context(rasterio.open(job.scene))

        def begin() -> None:
            torch.set_num_threads(1)
            local.src = rasterio.open(job.scene)  # a GDAL dataset serves one thread only

        def classes(patch: Patch) -> np.ndarray:
            with torch.inference_mode():
                image = read_image(local.src, model, patch)
                scores = to_scene(tuned_scores(model.net, image, job.precision), patch)
                return np.asarray(best_class(scores[0]).numpy())

        pool = stack.enter_context(ThreadPoolExecutor(cores, initializer=begin))
        list(pool.map(classes, [*islice(patches(src.shape, job.part), 1)] * cores))  # warm up
        pixels, start = 0, time.perf_counter()
        with rasterio.open(job.out, "w", **job.profile(src)) as out:
            remaining = patches(src.shape, job.part)
            running = deque((p, pool.submit(classes, p)) for p in islice(remaining, 2 * cores))
            while running:
                patch, future = running.popleft()
                ids = future.result()
                running.extend((p, pool.submit(classes, p)) for p in islice(remaining, 1))
                out.write(ids, 1, window=patch.rio())
                pixels += ids.size
        return Outcome(time.perf_counter() - start, pixels, {"allocator": malloc_tuned})
