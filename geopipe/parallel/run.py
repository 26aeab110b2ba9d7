"""Run one function over many tiles: in threads here, on local processes, or on a cluster.

Every tile is computed by one torch thread, so its bytes do not depend on how many run at once or
where; with as many at once as there are cores, one thread decodes while another computes.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from geopipe.parallel.cluster import run_on_cluster
from geopipe.parallel.threads import run_in_threads
from geopipe.parallel.tiles import R, T
from geopipe.parallel.workers import Workers


def run_tiles(
    job: Callable[[T], R],
    tiles: Iterable[T],
    workers: Workers,
    on_ready: Callable[[], None] = lambda: None,
) -> Iterator[tuple[T, R]]:
    """Yield (tile, job(tile)) as they are done, in any order; `on_ready()` once the workers stand.

    Raises JobError naming the tile that failed; a GeopipeError of the job passes unchanged.
    """
    remaining = iter(tiles)
    first = next(remaining, None)
    if first is None:  # no processes for nothing
        return
    run = run_on_cluster if workers.count or workers.distant else run_in_threads
    yield from run(job, chain([first], remaining), workers, on_ready)
