"""Other things that happen to a run than one system call that fails."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.faults.child import Run, clear, run
from benchmarks.faults.outcome import Outcome, judge, rerun
from benchmarks.faults.shim import Shim
from benchmarks.faults.world import Case

_SIGNALS = {signal.SIGTERM: -15, signal.SIGINT: 130, signal.SIGKILL: -9}
_STOPS = 1
"""Of each signal."""
_LIMITS_KIB = (1, 8, 24)
_DISKS_KIB = (16, 48, 128)
_NOBODY = 65534
_JUMPS_S = (3600, -86400 * 400)
_FROZEN_S = 60.0


@dataclass(frozen=True)
class Setting:
    """A command, and what an undisturbed run of it made."""

    case: Case
    words: list[str]
    out: Path
    log: Path
    reference: Mapping[str, str]
    seconds: float
    rng: random.Random

    def outcome_of(self, event: str, done: Run, *, happened: bool = True) -> Outcome:
        """The outcome of a run, and of the one after it if it failed."""
        codes = tuple(_SIGNALS.values())
        outcome = judge(
            self.case.name, event, done, self.reference, self.out, signals=codes, old=self.case.old
        )
        outcome.fired = happened
        if done.code:
            rerun(outcome, run(self.words, self.log), self.reference, self.out)
        return outcome


def stopped(at: Setting) -> Iterator[Outcome]:
    """SIGTERM, SIGINT and SIGKILL at random moments."""
    for number in _SIGNALS:
        for _ in range(_STOPS):
            clear(at.out, at.case.old)
            after = at.rng.uniform(0, at.seconds)

            def stop(pid: int, number: int = number, after: float = after) -> None:
                time.sleep(after)
                os.kill(pid, number)

            name = signal.Signals(number).name
            done = run(at.words, at.log, watch=stop)
            yield at.outcome_of(f"{name} after {after:.2f} s", done)


def twice(at: Setting) -> Iterator[Outcome]:
    """Two runs at once in one folder: at least one makes it."""
    clear(at.out, at.case.old)
    other = at.log.with_name("other")
    second: list[Run] = []

    def start_second(_: int) -> None:
        second.append(run(at.words, other))

    first = run(at.words, at.log, watch=start_second)
    outcomes = [at.outcome_of("two at once", done) for done in (second[0], first)]
    if all(o.ended != "success" for o in outcomes):
        outcomes[0].problems.append("neither run made it")
    yield from outcomes


def limited(at: Setting) -> Iterator[Outcome]:
    """No file may be larger than some KiB (`ulimit -f`)."""
    for kib in _LIMITS_KIB:
        clear(at.out, at.case.old)

        def limit(kib: int = kib) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, kib << 10))

        done = run(at.words, at.log, prepare=limit)
        yield at.outcome_of(f"ulimit -f, {kib} KiB", done, happened=bool(done.code))


def full_disk(at: Setting) -> Iterator[Outcome]:
    """The folder of the run is a disk of some KiB; the second run has room."""
    for kib in _DISKS_KIB:
        clear(at.out)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(at.out)]
        if subprocess.run(mount, capture_output=True).returncode:
            return
        try:
            done = run(at.words, at.log)
            event = f"full disk, {kib} KiB"
            codes = tuple(_SIGNALS.values())
            outcome = judge(at.case.name, event, done, at.reference, at.out, signals=codes)
            outcome.fired = bool(done.code)
            if done.code:
                subprocess.run([*mount[:4], "remount,size=64m", *mount[5:]], check=True)
                rerun(outcome, run(at.words, at.log), at.reference, at.out)
        finally:
            subprocess.run(["umount", str(at.out)], check=True)
        yield outcome


def read_only(at: Setting) -> Iterator[Outcome]:
    """The folder of the run may not be written (by a user who is not root)."""
    clear(at.out, at.case.old)
    at.out.chmod(0o555)

    def become_nobody() -> None:
        if not os.getuid():
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)

    done = run(at.words, at.log, prepare=become_nobody)
    at.out.chmod(0o755)
    outcome = at.outcome_of("read-only folder", done)
    if not done.code:
        outcome.problems.append("wrote where it may not")
    yield outcome


def jumping_clock(at: Setting) -> Iterator[Outcome]:
    """The clock jumps back and forth whenever it is asked."""
    for jump in _JUMPS_S:
        clear(at.out, at.case.old)
        done = run(at.words, at.log, prepare=partial(Shim().clock, jump))
        yield at.outcome_of(f"clock jumps {jump} s", done)


def frozen_worker(at: Setting) -> Iterator[Outcome]:
    """A dask worker that is stopped for a minute while it maps."""
    if at.case.name != "map":
        return
    clear(at.out, at.case.old)
    words = [*at.words, "--workers", "2"]
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    command = [sys.executable, "-c", "from geopipe.cli.main import main; main()", *words]
    start = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        worker = _worker(process)
        if worker:
            worker.suspend()
            time.sleep(_FROZEN_S)
            worker.resume()
        out, err = process.communicate(timeout=300)
    done = Run(process.returncode, out, err, "", {}, time.monotonic() - start)
    yield at.outcome_of(f"frozen worker, {_FROZEN_S:.0f} s", done, happened=worker is not None)


def _worker(process: subprocess.Popen[str]) -> psutil.Process | None:
    """A worker process that has begun to compute."""
    while process.poll() is None:
        for server in psutil.Process(process.pid).children():
            try:
                for child in server.children():
                    if child.cpu_times().user > 1:
                        return child
            except psutil.Error:
                continue
        time.sleep(0.05)
    return None


EVENTS: tuple[Callable[[Setting], Iterator[Outcome]], ...] = (
    stopped,
    twice,
    limited,
    full_disk,
    read_only,
    jumping_clock,
    frozen_worker,
)


def remove(folder: Path) -> None:
    """The folder of all runs, which no mount is left in."""
    if not any(os.path.ismount(p) for p in folder.rglob("out")):
        shutil.rmtree(folder, ignore_errors=True)
