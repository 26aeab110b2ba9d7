"""Parts of a scene processed by several threads, with results that do not depend on how many."""

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import joblib
import torch
from rasterio.errors import NotGeoreferencedWarning
from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 8
"""More would take more memory than most machines have: each holds a sheet."""
_worker = threading.local()
"""In a thread of `in_order`: ``share``, the threads for what it splits further."""


def thread_count() -> int:
    """Threads for the caller: as many as OMP_NUM_THREADS, affinity and control groups allow.

    At most MOST_THREADS; in a thread of `in_order` its share of them.
    """
    share: int | None = getattr(_worker, "share", None)
    return share or max(1, min(torch.get_num_threads(), joblib.cpu_count(), MAX_THREADS))


def in_order(
    function: Callable[[T], R], items: Sequence[T], threads: int | None = None
) -> Iterator[R]:
    """Yield ``function(item)`` for each of `items`, in their order, several computed at a time.

    `threads` defaults to `thread_count()`; where there are fewer items, their functions may use
    `in_order` in turn. OpenMP and torch start no threads of their own below it: results do not
    depend on how many threads there are, and a busy core holds up one item, not all. Results that
    wait for an earlier one are fewer than the threads.
    """
    threads = threads or thread_count()
    if threads == 1 and hasattr(_worker, "share"):
        yield from map(function, items)
        return
    at_once, before = max(1, min(threads, len(items))), torch.get_num_threads()
    pool = ThreadPoolExecutor(at_once, initializer=_begin_thread, initargs=(threads // at_once,))
    remaining = iter(items)
    with warnings.catch_warnings():
        # rasterio silences it each time it burns shapes; threads undo what others silence.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            # With one thread nothing runs while the caller works on what was yielded.
            running = deque(pool.submit(function, i) for i in islice(remaining, 2 * at_once - 1))
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(function, i) for i in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


def _begin_thread(share: int) -> None:
    _worker.share = share
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")  # of this thread; scikit-learn has its own OpenMP
