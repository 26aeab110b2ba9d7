"""What libraries write to stderr past Python's logging: counted, and told as one warning each."""

import io
import logging
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from geopipe.errors import GeopipeError

log = logging.getLogger(__name__)

_MAX_KINDS = 5
_STDERR = 2


@contextmanager
def foreign_lines() -> Iterator[None]:
    """Collect lines of C libraries (libtiff, PROJ) and Python warnings, and log them in the end.

    Equal ones are told once, with their number. Python's own ``sys.stderr`` stays what it is: only
    what is written to the file descriptor by others is read. Where an error of geopipe's ends the
    command, it tells the cause, and the lines are dropped. Not thread-safe: for a whole command.
    """
    counts: Counter[str] = Counter()
    failed = False
    try:
        with _collected_warnings(counts), _collected_descriptor(counts):
            yield
    except GeopipeError:
        failed = True
        raise
    finally:
        if failed:
            counts.clear()
        for text, number in counts.most_common(_MAX_KINDS):
            log.warning("%s%s", text, f" ({number} times)" if number > 1 else "")
        if len(counts) > _MAX_KINDS:
            log.warning("%d other warnings of libraries: -vv shows all", len(counts) - _MAX_KINDS)


@contextmanager
def _collected_warnings(counts: Counter[str]) -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        counts[" ".join(f"{category.__name__}: {message}".split())] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)  # else equal ones are told once
        warnings.showwarning = show
        yield


@contextmanager
def _collected_descriptor(counts: Counter[str]) -> Iterator[None]:
    try:
        real = os.dup(_STDERR)
        reading, writing = os.pipe()
    except OSError:  # no stderr, or too many open files
        yield
        return
    python_stderr = sys.stderr
    if _is_real(python_stderr):
        sys.stderr = open(  # noqa: SIM115 (the log keeps it)
            real,
            "w",
            buffering=1,
            encoding=python_stderr.encoding,
            errors="backslashreplace",
            closefd=False,
        )
    os.dup2(writing, _STDERR)
    os.close(writing)
    reader = threading.Thread(target=_read, args=(reading, counts), daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, _STDERR)
        sys.stderr = python_stderr
        reader.join(timeout=1)  # a worker process may still hold the pipe


def _is_real(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == _STDERR
    except (OSError, ValueError, io.UnsupportedOperation):
        return False


def _read(descriptor: int, counts: Counter[str]) -> None:
    with open(descriptor, "rb") as lines:
        for line in lines:
            if text := " ".join(line.decode(errors="replace").split()):
                counts[text] += 1
