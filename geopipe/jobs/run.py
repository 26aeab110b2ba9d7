"""Run one function over many tiles: here, on local processes, or on a cluster."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch

from geopipe.errors import ConfigError, GeopipeError, JobError
from geopipe.grid import Tile

R = TypeVar("R")

AHEAD = 2
"""Tiles in flight per worker: one at work, one waiting; results never pile up in memory."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tiles run: `count` local processes (0 = in this one), or the cluster at `scheduler`.

    Every tile is computed with one torch thread per core of its process's share, and a tile's
    values do not depend on it.
    """

    count: int = 0
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"workers={self.count} is negative", "0 runs in this process")
        if self.count and self.scheduler:
            raise ConfigError("give --workers or --scheduler, not both")


HERE = Workers()
"""In this process."""


def run_tiles(
    job: Callable[[Tile], R], tiles: Iterable[Tile], workers: Workers
) -> Iterator[tuple[Tile, R]]:
    """Yield (tile, job(tile)) as they are done, in any order.

    Raises JobError naming the tile that failed; a GeopipeError of the job passes unchanged.
    """
    if not workers.count and not workers.scheduler:
        for tile in tiles:
            yield tile, _named(job, tile)
        return
    with _client(workers) as client:
        yield from _distributed(job, tiles, client, max(workers.count, _size(client)))


def _named(job: Callable[[Tile], R], tile: Tile) -> R:
    """job(tile), with what fails named by its tile."""
    try:
        return job(tile)
    except (GeopipeError, KeyboardInterrupt):
        raise
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise JobError(f"tile {tile.index}: out of memory", "use a smaller --core") from e
    except Exception as e:
        at = f"rows {tile.core.row}-{tile.core.bottom}, columns {tile.core.col}-{tile.core.right}"
        raise JobError(f"tile {tile.index} ({at}): {type(e).__name__}: {e}") from e


def _portable(job: Callable[[Tile], R], tile: Tile) -> R:
    """As `_named`; its errors leave their causes behind, since GDAL's cannot be pickled."""
    try:
        return _named(job, tile)
    except GeopipeError as e:
        error = type(e)(e.message, e.hint)
    raise error  # out here it has no context either


def _distributed(
    job: Callable[[Tile], R], tiles: Iterable[Tile], client: object, size: int
) -> Iterator[tuple[Tile, R]]:
    from distributed import Client, as_completed
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    assert isinstance(client, Client)
    waiting = iter(tiles)
    running = {}

    def submit(tile: Tile) -> object:
        future = client.submit(_portable, job, tile, pure=False)
        running[future.key] = tile
        return future

    queue = as_completed([submit(t) for t in islice(waiting, AHEAD * size)], loop=client.loop)
    for future in queue:
        tile = running.pop(future.key)
        try:
            result = future.result()
        except KilledWorker as e:
            raise JobError(
                f"tile {tile.index}: its worker died {e.allowed_failures + 1} times",
                "out of memory? use a smaller --core or fewer workers",
            ) from e
        except FutureCancelledError as e:
            raise JobError(f"tile {tile.index}: the scheduler is gone ({e.reason})") from e
        future.release()
        yield tile, result
        for following in islice(waiting, 1):
            queue.add(submit(following))


def _size(client: object) -> int:
    workers = client.scheduler_info(n_workers=-1)["workers"]  # type: ignore[attr-defined]
    if not workers:
        raise JobError("the scheduler has no workers", "start some: dask worker tcp://...")
    return len(workers)


@contextmanager
def _client(workers: Workers) -> Iterator[object]:
    import dask
    from distributed import Client, LocalCluster

    if workers.scheduler:
        try:
            client = Client(workers.scheduler, timeout="5s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as e:
            raise JobError(
                f"no dask scheduler answers at {workers.scheduler}: {e}",
                "start one with: dask scheduler",
            ) from e
        with client:
            yield client
        return
    # Nannies start processes by spawn: GDAL handles and OpenMP threads never cross a fork.
    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.worker-saturation": AHEAD,
        "logging": {"distributed": "critical"},  # what fails comes back as an error
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # None takes port 8787 and warns when it is taken
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        threads = max(1, torch.get_num_threads() // workers.count)
        try:
            client.run(torch.set_num_threads, threads)
        except OSError as e:
            raise JobError(f"a worker died while it started: {e}", "out of memory?") from e
        yield client
