"""Tiles as tasks of dask, on local processes or on a cluster."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch

from geopipe.errors import ConfigError, GeopipeError, JobError
from geopipe.parallel.tiles import R, T, begin_thread, with_tile_name
from geopipe.parallel.workers import Workers

PREFETCH = 2
"""Tasks in flight per thread: one at work, one waiting; results never pile up in memory."""
_ANSWER_S = 5
"""Seconds that a scheduler has to answer."""
_START = "forkserver" if sys.platform == "linux" else "spawn"
"""How local processes begin. The fork server imports torch once, for all of them and for the next
cluster. It opens no raster and runs no thread of OpenMP, so none crosses the fork; PROJ opens its
database again behind one."""
GROUP = 8
"""Most tiles in a task of dask: a task costs its client and scheduler 4 ms, and neighbours share
decoded blocks."""


def run_on_cluster(
    job: Callable[[T], R], tiles: Iterable[T], workers: Workers, on_ready: Callable[[], None]
) -> Iterator[tuple[T, R]]:
    """`run_tiles` on the cluster or client of `workers`, or on local processes started for it."""
    with _client(workers) as client:
        on_ready()
        yield from _results(job, tiles, client, max(workers.at_once, _threads(client)))


def _portable(job: Callable[[T], R], tiles: Sequence[T]) -> list[R | GeopipeError]:
    """What each tile gave, up to the first error, which leaves its cause behind.

    An error is returned and not raised: the causes of GDAL's cannot be pickled, and what was done
    before it counts.
    """
    torch.set_num_threads(1)
    results: list[R | GeopipeError] = []
    for tile in tiles:
        try:
            results.append(with_tile_name(job, tile))
        except GeopipeError as e:
            results.append(type(e)(e.message, e.hint))
            break
    return results


def _groups(tiles: Iterable[T], size: int) -> Iterator[list[T]]:
    """Neighbouring tiles in groups of GROUP, fewer towards the end, so that all end together."""
    remaining = iter(tiles)
    prefetched = deque(islice(remaining, PREFETCH * size * GROUP))
    while prefetched:
        group = [prefetched.popleft() for _ in range(max(1, len(prefetched) // (PREFETCH * size)))]
        prefetched.extend(islice(remaining, len(group)))
        yield group


def _results(
    job: Callable[[T], R], tiles: Iterable[T], client: object, size: int
) -> Iterator[tuple[T, R]]:
    from distributed import Client, as_completed
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    assert isinstance(client, Client)
    groups = _groups(tiles, size)
    running = {}

    def submit(group: list[T]) -> object:
        future = client.submit(_portable, job, group, pure=False)
        running[future.key] = group
        return future

    queue = as_completed([submit(g) for g in islice(groups, PREFETCH * size)], loop=client.loop)
    for future in queue:
        group = running.pop(future.key)
        tile_text = f"tile {group[0]}" + f" or one up to {group[-1].index}" * (len(group) > 1)
        try:
            results = future.result()
        except KilledWorker as e:
            raise JobError(
                f"{tile_text}: its worker died {e.allowed_failures + 1} times",
                "out of memory? use smaller tiles or fewer workers",
            ) from e
        except (FutureCancelledError, CommClosedError) as e:
            raise JobError(
                f"{tile_text}: the scheduler is gone ({e})", "the same command goes on elsewhere"
            ) from e
        except Exception as e:  # it did not even begin: a package that the worker lacks
            raise JobError(
                f"{tile_text}: {type(e).__name__}: {e}", "has the worker the same geopipe?"
            ) from e
        future.release()
        for tile, result in zip(group, results, strict=False):  # an error ends them early
            if isinstance(result, GeopipeError):
                raise result
            yield tile, result
        for next_group in islice(groups, 1):
            queue.add(submit(next_group))


def _threads(client: object) -> int:
    workers = client.scheduler_info(n_workers=-1)["workers"]  # type: ignore[attr-defined]
    if not workers:
        raise JobError("the scheduler has no workers", "start some: dask worker tcp://...")
    return sum(w["nthreads"] for w in workers.values())


@contextmanager
def _client(workers: Workers) -> Iterator[object]:
    import dask
    from distributed import Client, LocalCluster

    if workers.client is not None:
        _require_open(workers.client)
        _warm_up(workers.client)
        yield workers.client
        return
    if workers.scheduler:
        try:
            client = Client(workers.scheduler, timeout=_ANSWER_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError, TypeError) as e:  # TypeError: no certificate
            raise JobError(
                f"no dask scheduler answers at {workers.scheduler}: {e}",
                "start one with: dask scheduler",
            ) from e
        with client:
            _warm_up(client)
            yield client
        return
    settings = {
        "distributed.worker.multiprocessing-method": _START,
        "distributed.scheduler.worker-saturation": PREFETCH,
        # Results are a few numbers. A worker near its limit has nothing to spill, and one that is
        # paused there, its memory being torch's, would wait forever: it works, or it is stopped.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 1.0,
        "logging": {"distributed": "critical"},  # what fails comes back as an error
    }
    with dask.config.set(settings):
        _preload()
        with (
            LocalCluster(
                n_workers=workers.count,
                threads_per_worker=max(1, workers.at_once // workers.count),
                processes=True,
                memory_limit="auto"
                if workers.memory_mb is None
                else f"{workers.memory_mb // workers.count}MB",
                dashboard_address="127.0.0.1:0",  # None takes port 8787 and warns when it is taken
                silence_logs="CRITICAL",
                env=dict(os.environ),  # the fork server has that of its own start
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            _warm_up(client)
            yield client


def _preload() -> None:
    """Have the fork server import what this process has imported of geopipe."""
    from distributed.utils import get_mp_context

    context = get_mp_context()  # sets what dask itself would have it import
    if context.get_start_method() == "forkserver":
        own = sorted(name for name in list(sys.modules) if name.startswith("geopipe."))
        context.set_forkserver_preload(["distributed", *own])


def _require_open(client: object) -> None:
    from distributed import Client

    if not isinstance(client, Client) or client.asynchronous:
        raise ConfigError(
            f"client={client!r} is no dask client that can be waited for",
            "give distributed.Client(...), not an asynchronous one",
        )
    if client.status != "running":
        raise JobError(f"the dask client is {client.status}", "connect a new one")


def _warm_up(client: object) -> None:
    """Have every worker that is there load torch and geopipe before its first tile."""
    try:
        client.run(begin_thread)  # type: ignore[attr-defined]
    except GeopipeError:
        raise
    except Exception as e:
        raise JobError(
            f"a worker died while it started, or lacks something: {e}",
            "out of memory? has it the same geopipe?",
        ) from e
