"""Run a program and watch the memory of it and all its children."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

EVERY = 0.05
"""Seconds between two looks at the RSS."""
TREE_EVERY = 10
"""Looks between two searches for new children, which cost a millisecond; PSS is read then too."""
CURVE = 60
"""Most points of a memory curve."""


class RunError(RuntimeError):
    """A program that was to be measured failed; its last words are the message."""


@dataclass(frozen=True, slots=True)
class MonitoredRun:
    """What a program printed and took."""

    stdout: str
    wall: float
    """Seconds from its start to its end, interpreter and imports included."""
    peak_rss_mb: float
    """Largest sum of the resident memory of its processes; pages they share count in each."""
    peak_pss_mb: float | None
    """The same with shared pages divided among their users; None where the kernel does not say."""
    curve: tuple[tuple[float, float], ...]
    """(seconds, MB): RSS over time, the highest of each stretch."""


def run_monitored(command: Sequence[str], env: Mapping[str, str]) -> MonitoredRun:
    """Run `command` to its end; raises RunError when it fails."""
    rss: list[tuple[float, float]] = []
    pss: list[float] = []
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        with psutil.Popen(command, env=dict(env), stdout=out, stderr=err) as process:
            try:
                _sample(process, start, rss, pss)
            except BaseException:
                end(process)
                raise
        wall = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if process.returncode:
            error_lines = [line for line in err.read().splitlines() if line.strip()] or ["no word"]
            raise RunError(f"exit code {process.returncode}: {error_lines[-1].strip()[:300]}")
        peak = max((mb for _, mb in rss), default=0.0)
        return MonitoredRun(out.read(), wall, peak, max(pss, default=None), thinned(rss))


def _sample(
    process: psutil.Popen, start: float, rss: list[tuple[float, float]], pss: list[float]
) -> None:
    """Append to `rss` and `pss` until `process` ends."""
    tree: list[psutil.Process] = [process]
    for sample_number in count():
        if sample_number % TREE_EVERY == 0:
            with suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
            if shared := [mb for p in tree if (mb := _pss_mb(p.pid)) is not None]:
                pss.append(sum(shared))
        rss.append((time.perf_counter() - start, sum(map(_rss_mb, tree))))
        try:
            process.wait(timeout=EVERY)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            continue
        return


def _rss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / 1e6)
    except psutil.Error:  # it has ended
        return 0.0


def _pss_mb(pid: int) -> float | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def end(process: psutil.Popen) -> None:
    """Leave nothing running of a program and all its children."""
    with suppress(psutil.Error):
        for p in [*process.children(recursive=True), process]:
            with suppress(psutil.Error):
                p.kill()


def thinned(samples: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most CURVE points: of each stretch of `samples` the highest."""
    step = -(-len(samples) // CURVE) or 1
    parts = (samples[i : i + step] for i in range(0, len(samples), step))
    highest = (max(part, key=lambda sample: sample[1]) for part in parts)
    return tuple((round(t, 2), round(mb, 1)) for t, mb in highest)
