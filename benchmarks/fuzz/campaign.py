"""Changed files are read in child processes, which may neither hang nor take memory."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import psutil
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.fuzz.mutations import apply, plans
from benchmarks.fuzz.readers import FORMATS, Format
from geopipe.errors import GeopipeError

LIMIT_S = 10
"""Of a processor, so that a busy machine is no hang."""
_WAIT_S = 90
"""By the clock: a reader that waits for somebody."""
LIMIT_BYTES = 1 << 30
_ALLOCATION = ("allocate memory", "bad_alloc", "unable to allocate")


@dataclass
class Tally:
    """What became of the files of a format."""

    files: int = 0
    read: int = 0
    refused: int = 0
    seeds: list[int] = field(default_factory=list)
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)


def run_job(name: str, seed: int, examples: int, corpus: Path, work: Path) -> Tally:
    """Read `examples` changed files of a format in a process of its own.

    A process that dies is told with the file that it was reading, and the rest of the job is left
    out.
    """
    shutil.rmtree(work, ignore_errors=True)
    canary = work / "canary"
    canary.mkdir(parents=True)
    (canary / "mine.txt").write_text("mine")
    shutil.copytree(corpus, work / "in")
    result = work / "result.json"
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.chdir(canary)
            _child(FORMATS[name], seed, examples, work, result)
            code = 0
        except BaseException:  # the parent sees the code
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    tally = Tally(**json.loads(result.read_text())) if result.exists() else Tally()
    tally.seeds = [seed]
    if status:
        kind = {
            signal.SIGPROF: f"more than {LIMIT_S} s",
            signal.SIGALRM: f"a wait of {_WAIT_S} s",
            signal.SIGSEGV: "a crash",
        }
        reason = kind.get(os.WTERMSIG(status), f"status {status}")  # type: ignore[call-overload]
        tally.failures.append(f"{name}, seed {seed}: {reason}: {_kept(work, FORMATS[name])}")
    if [p.name for p in canary.iterdir()] != ["mine.txt"] or (
        (canary / "mine.txt").read_text() != "mine"
    ):
        tally.failures.append(f"{name}, seed {seed}: a file outside of the output changed")
    return tally


def _kept(work: Path, format_: Format) -> str:
    """Where the file that a reader failed at is kept."""
    path = work / "in" / format_.file
    data = path.read_bytes() if path.is_file() else b""
    failures = work.parent / "failures"
    failures.mkdir(exist_ok=True)
    kept = failures / f"{hashlib.sha256(data).hexdigest()[:8]}-{path.name}"
    kept.write_bytes(data)
    return str(kept)


def _child(format_: Format, seed: int, examples: int, work: Path, result: Path) -> None:
    warnings.simplefilter("ignore")
    path = work / "in" / format_.file
    original = path.read_bytes()
    process = psutil.Process()
    resource.setrlimit(
        resource.RLIMIT_AS, (process.memory_info().vms + LIMIT_BYTES, resource.RLIM_INFINITY)
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    beside = _listing(work / "in", path)
    tally = Tally()

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(format_.kind))
    def read_one(plan: list[tuple[int, int]]) -> None:
        data = apply(original, format_.kind, plan)
        path.write_bytes(data)
        tally.files += 1
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # nobody handles it: the process ends
        signal.setitimer(signal.ITIMER_REAL, _WAIT_S)
        problem = ""
        try:
            format_.read(path)
            tally.read += 1
        except GeopipeError as e:
            tally.refused += 1
            if any(word in str(e).casefold() for word in _ALLOCATION):
                problem = f"memory: {e}"
            elif "\n" in e.message or not e.message:
                problem = f"no one line: {e.message!r}"
        except BaseException as e:
            frames = [f for f in traceback.extract_tb(e.__traceback__) if "geopipe" in f.filename]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            problem = f"{type(e).__name__}: {str(e)[:200]} ({where})"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        tally.slowest_s = max(tally.slowest_s, time.process_time() - start)
        changed = {Path(n).name for n, *_ in set(_listing(work / "in", path)) ^ set(beside)}
        if not format_.writes and not problem and (changed or path.read_bytes() != data):
            problem = f"a file changed: {', '.join(sorted(changed)) or path.name}"
        if problem and len(tally.failures) < 20:
            tally.failures.append(f"seed {seed}: {problem}: {_kept(work, format_)}")
        result.write_text(json.dumps(tally.__dict__))

    read_one()
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LIMIT_BYTES >> 10:
        tally.failures.append(f"seed {seed}: more than 1 GB of memory")
    result.write_text(json.dumps(tally.__dict__))


def _listing(folder: Path, apart: Path) -> list[tuple[str, int, int]]:
    """Every file below `folder` but one."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p != apart)
    return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]


def run_campaign(
    corpus: Path, work: Path, jobs: Iterator[tuple[str, int, int]], until: float
) -> dict[str, Tally]:
    """Run jobs (format, seed, examples) one after the other until the time `until`."""
    tallies: dict[str, Tally] = {}
    for name, seed, examples in jobs:
        if time.monotonic() > until:
            break
        new = run_job(name, seed, examples, corpus, work / "job")
        total = tallies.setdefault(name, Tally())
        total.files += new.files
        total.read += new.read
        total.refused += new.refused
        total.seeds += new.seeds
        total.slowest_s = max(total.slowest_s, new.slowest_s)
        total.failures += new.failures
    return tallies


def endless(first_seed: int, examples: int, names: list[str]) -> Iterator[tuple[str, int, int]]:
    """Every format in turn, with a new seed each round."""
    seed = first_seed
    while True:
        yield from ((name, seed, examples) for name in names)
        seed += 1


def plain(tallies: dict[str, Tally]) -> dict[str, Any]:
    """For JSON."""
    return {name: tally.__dict__ for name, tally in tallies.items()}
