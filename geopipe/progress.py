"""Progress with time left on stderr: a bar in a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]
"""``advance(n=1, note="")``: n more units are done."""

_QUIET_S = 1.0
_LINE_S = 10.0
_RECENT_S = 60.0
"""What was done this long ago counts a third of what is done now when the time left is told."""


def announce(text: str) -> None:
    """A line on stderr that everybody is to see, with and without -v."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


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


class _Pace:
    """How fast units are done of late."""

    def __init__(self, total: int, before: int) -> None:
        self.total, self.done = total, before
        self.start = self._last = time.monotonic()
        self._units = self._seconds = 0.0

    def advance(self, n: int) -> None:
        """n more units are done."""
        if not n:
            return
        now = time.monotonic()
        fading = math.exp(-(now - self._last) / _RECENT_S)
        self._units = self._units * fading + n
        self._seconds = self._seconds * fading + now - self._last
        self._last, self.done = now, self.done + n

    def left(self) -> str:
        """The time left in words; nothing before the first unit is done."""
        if self.done >= self.total:
            return f"done in {duration(time.monotonic() - self.start)}"
        if not self._units:
            return ""
        return f"about {duration(self._seconds / self._units * (self.total - self.done))} left"


def duration(seconds: float) -> str:
    """In words, as exact as an estimate is."""
    if seconds < 100:
        step = 1 if seconds < 10 else 5
        return f"{max(1, round(seconds / step) * step)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def _bar(label: str, total: int, before: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    ) as bars:
        pace = _Pace(total, before)
        task = bars.add_task(label, total=total, completed=before, note="", left="")

        def advance(n: int = 1, note: str = "") -> None:
            pace.advance(n)
            if note:
                bars.update(task, note=note)
            bars.update(task, advance=n, left=pace.left())

        yield advance


def _lines(label: str, total: int, before: int) -> Advance:
    pace = _Pace(total, before)
    last, note_ = pace.start, ""

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal last, note_
        pace.advance(n)
        note_ = note or note_
        now = time.monotonic()
        if now - pace.start < _QUIET_S or (now - last < _LINE_S and pace.done < total):
            return
        last = now
        text = f"{label}: {pace.done}/{total}{note_ and ' ' + note_}"
        sys.stderr.write(", ".join(filter(None, (text, pace.left()))) + "\n")
        sys.stderr.flush()

    return advance
