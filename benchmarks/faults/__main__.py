"""Run commands while the machine fails them, and see what they say and leave.

    python -m benchmarks.faults [--faults 1000] [--seed 0] [--jobs 2] [--out docs/results]

Every n-th open, read, write, fsync, rename or mkdir of a command fails with EIO, ENOSPC, EACCES or
EINTR, n over the whole run (shim.c, loaded by LD_PRELOAD). Then come signals at random moments,
two runs in one folder, a full disk, a limit of file size, a folder that may not be written, a clock
that jumps, and a dask worker that is frozen for a minute. A run must end with success and the bytes
of an undisturbed one, or with exit code 1 and one line, and leave nothing half-written; the same
command must then give the right bytes. Writes ``faults.md``.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.faults import shim
from benchmarks.faults.child import Fault, clear, run, snapshot
from benchmarks.faults.events import EVENTS, Setting, remove
from benchmarks.faults.outcome import Outcome, judge, rerun
from benchmarks.faults.page import markdown
from benchmarks.faults.plan import plan_faults
from benchmarks.faults.world import CASES, ROOT, Case, make_inputs

SHORT = ("labels",)
"""What the short form runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Inject and write; 1 where a run did what it must not."""
    args = parse(argv)
    if "GEOPIPE_FAULTS" not in os.environ:
        root = Path(tempfile.mkdtemp(prefix="geopipe-faults-")).resolve()
        root.chmod(0o755)
        os.environ["GEOPIPE_FAULTS"] = str(root)
        shim.load(root)  # starts this program again
    root = Path(os.environ["GEOPIPE_FAULTS"])
    start = time.monotonic()
    try:
        _warm(_SHORT_MODULES if args.short else _MODULES)
        _in_child(lambda: make_inputs(root / "w" / "in", small=args.short))
        drivers = [_in_child(partial(_drive, root, args, i), wait=False) for i in range(args.jobs)]
        failed = [os.waitpid(pid, 0)[1] for pid in drivers]
        lines = [x for i in range(args.jobs) for x in _result(root, i).read_text().splitlines()]
    finally:
        remove(root)
    outcomes = [json.loads(line) for line in lines]
    figures: dict[str, Any] = {
        "command": "python -m benchmarks.faults " + " ".join(argv or sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start),
        "versions": {n: version(n) for n in ("geopipe", "torch", "rasterio", "pyogrio")},
        "outcomes": outcomes,
    }
    if args.out:
        (args.out / "faults.md").write_text(markdown(figures))
    fired = sum(o["fired"] for o in outcomes)
    wrong = [o for o in outcomes if o["problems"]]
    print(f"{len(outcomes)} runs, {fired} faults, {len(wrong)} wrong, {figures['seconds']} s")
    return bool(wrong or any(failed))


def _result(root: Path, job: int) -> Path:
    return root / f"job-{job}.jsonl"


def _drive(root: Path, args: argparse.Namespace, job: int) -> None:
    """All commands, each with the faults of this job; a line of JSON for each outcome."""
    cases = [c for c in CASES if not args.only or c.name in args.only]
    if args.short:
        cases = [c for c in cases if c.name in SHORT]
    end = time.monotonic() + 60 * args.minutes
    with _result(root, job).open("w", buffering=1) as file:

        def tell(outcomes: Iterator[Outcome]) -> None:
            for outcome in outcomes:
                file.write(json.dumps(outcome.to_dict()) + "\n")
                if outcome.problems or args.verbose:
                    message = outcome.message or outcome.ended
                    words = (outcome.case, outcome.event, outcome.path, message, *outcome.problems)
                    print(*words, sep=": ", flush=True)

        settings = []
        for case in cases:
            setting, faults = _prepare(case, root, args, job)
            settings.append(setting)
            tell(_inject(setting, faults, end))
        for setting in () if args.short else settings:
            for event in EVENTS[job :: args.jobs]:
                if time.monotonic() < end + 60 * args.minutes / 2:
                    tell(event(setting))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="system calls that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="names of commands")
    parser.add_argument(
        "--short", action="store_true", help="`labels` alone, without the other events"
    )
    parser.add_argument("--out", type=Path, help="folder for faults.md")
    parser.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        help="end the faults after so long, and the other events after half as long again",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that run commands")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(argv)


def _prepare(
    case: Case, root: Path, args: argparse.Namespace, job: int
) -> tuple[Setting, list[Fault]]:
    """Run `case` undisturbed; what it makes, and this job's share of its faults."""
    world, log = root / "w", root / "log" / f"{job}"
    out = world / f"out-{job}" / "x"
    words = case.command(world / "in", out)
    clear(out, case.old)
    calm = run(words, log, prefix=str(world))
    if calm.code:
        raise RuntimeError(f"{case.name}: {calm.err}")
    reference = snapshot(out)
    clear(out, case.old)
    everywhere = run(words, log)
    if snapshot(out) != reference:
        raise RuntimeError(f"{case.name}: other bytes without a fault")
    if job:  # the first job keeps what a process does only once, the others are quicker
        clear(out, case.old)
        _run_here(words)
        clear(out, case.old)
        calm = run(words, log, prefix=str(world))
        clear(out, case.old)
        everywhere = run(words, log)
    rng = random.Random(f"{args.seed} {job} {case.name}")
    share = case.share / sum(c.share for c in CASES)
    number = args.faults / len(SHORT) if args.short else args.faults * share
    number = math.ceil(number / args.jobs)
    elsewhere = None if args.short else everywhere.counts
    faults = list(plan_faults(number, calm.counts, elsewhere, str(world), rng))
    setting = Setting(case, words, out, log, reference, everywhere.seconds, rng)
    return setting, faults


def _run_here(words: list[str]) -> None:
    """Run a command in this process, so that its children find PROJ, GDAL and modules ready."""
    from geopipe.cli.main import main as command

    with suppress(SystemExit), open(os.devnull, "w") as null, redirect_stdout(null):  # noqa: PTH123
        command.main(words, prog_name="geopipe")
    gc.collect()
    gc.freeze()


def _inject(at: Setting, faults: Sequence[Fault], end: float) -> Iterator[Outcome]:
    """Run a command with each of `faults`, and once more after those that it did not survive."""
    for fault in faults:
        if time.monotonic() > end:
            return
        before = clear(at.out, at.case.old)
        done = run(at.words, at.log, fault)
        name, old = at.case.name, at.case.old
        outcome = judge(name, str(fault), done, at.reference, at.out, old=old)
        if done.code and snapshot(at.out) != before:  # else the next run begins as the first did
            rerun(outcome, run(at.words, at.log), at.reference, at.out)
        yield outcome


def _in_child(work: Callable[[], None], *, wait: bool = True) -> int:
    """Do `work` in a child: GDAL and torch must not have run in a process that forks."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    if wait and os.waitpid(pid, 0)[1]:
        raise SystemExit("the inputs could not be made")
    return pid


def _warm(modules: Sequence[str]) -> None:
    """Import what the commands import: a child then starts at once."""
    os.chdir(ROOT)
    import importlib

    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child that looked for garbage would copy all pages


_SHORT_MODULES = (
    *("geopipe.cli.main", "geopipe.workflow.sources", "geopipe.labels.write"),
    *("geopipe.evaluation.assess", "pyogrio", "rasterio"),
)
_MODULES = (
    *("geopipe.cli.main", "geopipe.api", "geopipe.workflow.run", "geopipe.workflow.bundle"),
    *("geopipe.workflow.many", "geopipe.workflow.classify_chips", "geopipe.workflow.train"),
    *("geopipe.learn.chips.model", "geopipe.learn.patches.model", "geopipe.retrieve.build"),
    *("geopipe.evaluation.assess", "geopipe.vectors.features", "geopipe.labels.write"),
    *("geopipe.report.map_report", "geopipe.report.contact_sheet", "geopipe.register.align"),
    *("pyogrio", "rasterio", "sklearn.cluster", "skimage.measure", "matplotlib", "faiss"),
    "modulefinder",  # of the standard library, which a user without rights may not read here
)

if __name__ == "__main__":
    sys.exit(main())
