"""Progress with time left on stderr: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]
"""``advance(n=1, note="")``: n more units are done."""

_QUIET_S = 1.0
_LINE_S = 10.0


@contextmanager
def progress(label: str, total: int, before: int = 0) -> Iterator[Advance]:
    """Show how far `label` is; steps shorter than a second stay silent outside a terminal.

    `before`: units that an earlier run did, which say nothing of the pace of this one.
    """
    if sys.stderr.isatty():
        with _bar(label, total, before) as advance:
            yield advance
    else:
        yield _lines(label, total, before)


@contextmanager
def _bar(label: str, total: int, before: int) -> Iterator[Advance]:
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
        task = bars.add_task(label, total=total, completed=before, note="")

        def advance(n: int = 1, note: str = "") -> None:
            if note:
                bars.update(task, note=note)
            bars.update(task, advance=n)

        yield advance


def _lines(label: str, total: int, before: int) -> Advance:
    start = time.monotonic()
    done, last, note_ = before, start, ""

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, last, note_
        done, note_ = done + n, note or note_
        now = time.monotonic()
        if now - start < _QUIET_S or (now - last < _LINE_S and done < total):
            return
        last = now
        left = (now - start) / max(done - before, 1) * (total - done)
        sys.stderr.write(f"{label}: {done}/{total} {note_}, {left:.0f} s left\n".replace(" ,", ","))
        sys.stderr.flush()

    return advance
