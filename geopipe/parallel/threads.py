"""Tiles in threads of this process: one decodes while another computes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice

import torch

from geopipe.allocator import trim_malloc, tune_malloc
from geopipe.parallel.tiles import R, T, begin_thread, with_tile_name
from geopipe.parallel.workers import Workers
from geopipe.raster.opening import release


def run_in_threads(
    job: Callable[[T], R], tiles: Iterable[T], workers: Workers, on_ready: Callable[[], None]
) -> Iterator[tuple[T, R]]:
    """`run_tiles` in this process, `workers.at_once` tiles at a time."""
    on_ready()
    tune_malloc()
    remaining, before, threads = iter(tiles), torch.get_num_threads(), workers.at_once
    try:
        with ThreadPoolExecutor(threads, initializer=begin_thread) as pool:
            running = {
                pool.submit(with_tile_name, job, t): t for t in islice(remaining, threads + 1)
            }
            try:
                while running:
                    done = wait(running, return_when=FIRST_COMPLETED).done
                    # What is done is told before the first that failed ends the run.
                    in_order = [f for f in running if f in done]
                    for future in sorted(in_order, key=lambda f: f.exception() is not None):
                        yield running.pop(future), future.result()
                        for tile in islice(remaining, 1):
                            running[pool.submit(with_tile_name, job, tile)] = tile
            finally:
                for future in running:
                    future.cancel()
    finally:
        torch.set_num_threads(before)
        release()  # the scene's file is nobody's any more
        trim_malloc()
