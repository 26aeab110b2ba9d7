"""Progress with time left on stderr: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]
"""``advance(n=1, note="")``: n more units are done."""

_QUIET_S = 1.0
_LINE_S = 10.0
_FIRST_S = 0.05


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Show how far `label` is; steps shorter than a second stay silent outside a terminal."""
    if sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        yield _lines(label, total)


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        task = bars.add_task(label, total=total, note="")

        def advance(n: int = 1, note: str = "") -> None:
            if note:
                bars.update(task, note=note)
            bars.update(task, advance=n)

        yield advance


def _lines(label: str, total: int) -> Advance:
    start = time.monotonic()
    done, before, last, note_ = 0, 0, start, ""

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, last, note_, before
        done, note_ = done + n, note or note_
        now = time.monotonic()
        if done == n and now - start < _FIRST_S:
            before = n  # done by an earlier run: no measure of this one's pace
        if now - start < _QUIET_S or (now - last < _LINE_S and done < total):
            return
        last = now
        left = (now - start) / max(done - before, 1) * (total - done)
        sys.stderr.write(f"{label}: {done}/{total} {note_}, {left:.0f} s left\n".replace(" ,", ","))
        sys.stderr.flush()

    return advance
