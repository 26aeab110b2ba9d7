"""Run one function over many tiles: in threads here, on local processes, or on a cluster.

Every tile is computed by one torch thread, so its bytes do not depend on how many run at once or
where; with as many at once as there are cores, one thread decodes while another computes.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

import torch

from geopipe.errors import ConfigError, GeopipeError, JobError
from geopipe.limits import useful_threads
from geopipe.nets.allocator import trim_malloc, tune_malloc
from geopipe.raster.opening import release

R = TypeVar("R")


class Indexed(Protocol):
    """A piece of work: a tile of a scene, or some chips; ``str`` names it in errors."""

    @property
    def index(self) -> int:
        """Its number, in the order of the work."""
        ...


T = TypeVar("T", bound=Indexed)

PREFETCH = 2
"""Tasks in flight per thread: one at work, one waiting; results never pile up in memory."""
GROUP = 8
"""Most tiles in a task of dask: a task costs its client and scheduler 4 ms, and neighbours share
decoded blocks."""


MOST_AT_ONCE = max(64, 4 * (os.cpu_count() or 1))
"""Processes or threads here; more than four for each processor only take memory."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tiles run: in this process, in `count` local ones, or on the cluster at `scheduler`."""

    count: int = 0
    scheduler: str | None = None
    threads: int | None = None
    """Tiles at once in this process or, together, in the local ones; None = torch's threads, which
    are the cores unless OMP_NUM_THREADS says otherwise, or fewer where a CPU quota is less."""
    memory_mb: int | None = None
    """What all local processes may take together; one that takes more is started anew."""
    client: Any = field(default=None, repr=False, compare=False)
    """An open ``distributed.Client`` to run on, instead of `count` or `scheduler`."""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"workers={self.count} is negative", "0 runs in this process")
        for name, number in (("workers", self.count), ("threads", self.threads or 0)):
            if number > MOST_AT_ONCE:
                raise ConfigError(
                    f"{name}={number} is more than {MOST_AT_ONCE}; this machine has "
                    f"{os.cpu_count()} processors",
                    "give at most as many as it has",
                )
        if self.count and self.scheduler:
            raise ConfigError("give `workers` or `scheduler`, not both")
        if self.client is not None and (self.count or self.scheduler):
            raise ConfigError("give a client, or `workers` or `scheduler`, not both")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads={self.threads}: at least one is needed")

    @property
    def distant(self) -> bool:
        """Whether a cluster that was there before computes the tiles."""
        return bool(self.scheduler) or self.client is not None

    @property
    def at_once(self) -> int:
        """Tiles computed at the same time on this machine."""
        if self.distant:
            return 0
        return max(self.count, self.threads or useful_threads(torch.get_num_threads()))


LOCAL = Workers()
"""In this process."""


def run_tiles(
    job: Callable[[T], R],
    tiles: Iterable[T],
    workers: Workers,
    on_ready: Callable[[], None] = lambda: None,
) -> Iterator[tuple[T, R]]:
    """Yield (tile, job(tile)) as they are done, in any order; `ready()` once the workers stand.

    Raises JobError naming the tile that failed; a GeopipeError of the job passes unchanged.
    """
    remaining = iter(tiles)
    first = next(remaining, None)
    if first is None:  # no processes for nothing
        return
    tiles = chain([first], remaining)
    if not workers.count and not workers.distant:
        on_ready()
        yield from _run_locally(job, tiles, workers.at_once)
        return
    with _client(workers) as client:
        on_ready()
        yield from _distributed(job, tiles, client, max(workers.at_once, _threads(client)))


def _run_locally(job: Callable[[T], R], tiles: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    tune_malloc()
    remaining, before = iter(tiles), torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=_begin_thread) as pool:
            running = {
                pool.submit(_with_tile_name, job, t): t for t in islice(remaining, threads + 1)
            }
            try:
                while running:
                    done = wait(running, return_when=FIRST_COMPLETED).done
                    # What is done is told before the first that failed ends the run.
                    in_order = [f for f in running if f in done]
                    for future in sorted(in_order, key=lambda f: f.exception() is not None):
                        yield running.pop(future), future.result()
                        for tile in islice(remaining, 1):
                            running[pool.submit(_with_tile_name, job, tile)] = tile
            finally:
                for future in running:
                    future.cancel()
    finally:
        torch.set_num_threads(before)
        release()  # the scene's file is nobody's any more
        trim_malloc()


def _begin_thread() -> None:
    torch.set_num_threads(1)
    if torch.cuda.is_available():  # copies of one tile run beside the nets of another
        torch.cuda.set_stream(torch.cuda.Stream())


def _with_tile_name(job: Callable[[T], R], tile: T) -> R:
    """job(tile), with what fails named by its tile."""
    try:
        return job(tile)
    except (GeopipeError, KeyboardInterrupt):
        raise
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise JobError(f"tile {tile}: out of memory", "use smaller tiles or less memory") from e
    except Exception as e:
        raise JobError(f"tile {tile}: {type(e).__name__}: {e}") from e


def _portable(job: Callable[[T], R], tiles: Sequence[T]) -> list[R | GeopipeError]:
    """What each tile gave, up to the first error, which leaves its cause behind.

    An error is returned and not raised: the causes of GDAL's cannot be pickled, and what was done
    before it counts.
    """
    torch.set_num_threads(1)
    results: list[R | GeopipeError] = []
    for tile in tiles:
        try:
            results.append(_with_tile_name(job, tile))
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


def _distributed(
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
            client = Client(workers.scheduler, timeout="5s", set_as_default=False)
        except (OSError, TimeoutError, ValueError, TypeError) as e:  # TypeError: no certificate
            raise JobError(
                f"no dask scheduler answers at {workers.scheduler}: {e}",
                "start one with: dask scheduler",
            ) from e
        with client:
            _warm_up(client)
            yield client
        return
    # Nannies start processes by spawn: GDAL handles and OpenMP threads never cross a fork.
    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.worker-saturation": PREFETCH,
        # Results are a few numbers. A worker near its limit has nothing to spill, and one that is
        # paused there, its memory being torch's, would wait forever: it works, or it is stopped.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 1.0,
        "logging": {"distributed": "critical"},  # what fails comes back as an error
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=max(1, workers.at_once // workers.count),
            processes=True,
            memory_limit="auto"
            if workers.memory_mb is None
            else f"{workers.memory_mb // workers.count}MB",
            dashboard_address="127.0.0.1:0",  # None takes port 8787 and warns when it is taken
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        _warm_up(client)
        yield client


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
        client.run(_begin_thread)  # type: ignore[attr-defined]
    except GeopipeError:
        raise
    except Exception as e:
        raise JobError(
            f"a worker died while it started, or lacks something: {e}",
            "out of memory? has it the same geopipe?",
        ) from e
