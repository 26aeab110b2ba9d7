"""Read changed files of every format, and write what became of them.

    python -m benchmarks.fuzz --minutes 20                      # make fuzz ARGS="--minutes 20"
    python -m benchmarks.fuzz --rounds 1 --examples 12 --json   # as the test suite does

Exit code 1 where a reader failed otherwise than with an error of geopipe's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a fork takes no other threads along

from benchmarks.fuzz.campaign import LIMIT_S, Tally, endless, plain, run_campaign
from benchmarks.fuzz.corpus import make_corpus
from benchmarks.fuzz.readers import FORMATS
from benchmarks.machine import cpu_model

PAGE = Path("docs/results/fuzz.md")


def main() -> None:
    """Fuzz for some minutes, or for some rounds."""
    parser = argparse.ArgumentParser(description="read changed files of every format")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rounds", type=int, help="rounds instead of minutes; no page is written")
    parser.add_argument("--examples", type=int, default=100, help="files of a format in a round")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--json", action="store_true", help="print what was counted as JSON")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="geopipe-fuzz-", ignore_cleanup_errors=True) as folder:
        corpus, work = Path(folder) / "corpus", Path(folder) / "work"
        work.mkdir()
        pid = os.fork()  # what makes the files leaves no threads and no open files here
        if not pid:
            try:
                make_corpus(corpus)
                os._exit(0)
            except BaseException as e:
                print(f"{type(e).__name__}: {e}", file=sys.stderr)
                os._exit(1)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("the corpus could not be made")
        jobs = endless(args.seed, args.examples, args.formats)
        until = start + 60 * args.minutes
        if args.rounds:
            jobs, until = islice(jobs, args.rounds * len(args.formats)), math.inf
        tallies = run_campaign(corpus, work, jobs, until)
        failures = [line for tally in tallies.values() for line in tally.failures]
        kept = Path("outputs/fuzz")
        if failures and (work / "failures").is_dir():
            kept.mkdir(parents=True, exist_ok=True)
            for path in (work / "failures").iterdir():
                (kept / path.name).write_bytes(path.read_bytes())
    if args.json:
        print(json.dumps(plain(tallies)))
    else:
        print(table(tallies))
    for line in failures:
        print(line, file=sys.stderr)
    if not args.rounds:
        write_page(tallies, time.monotonic() - start)
    raise SystemExit(bool(failures))


def table(tallies: dict[str, Tally]) -> str:
    """A row for each format."""
    lines = [
        "| format | files | read | refused | slowest | seeds | failures |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    for name, t in tallies.items():
        seeds = f"{min(t.seeds)} to {max(t.seeds)}"
        lines.append(
            f"| {name} | {t.files} | {t.read} | {t.refused} | {t.slowest_s:.1f} s | {seeds} "
            f"| {len(t.failures)} |"
        )
    files, failures = (
        sum(n) for n in zip(*((t.files, len(t.failures)) for t in tallies.values()), strict=True)
    )
    return "\n".join([*lines, f"| **all** | {files} | | | | | {failures} |"])


def write_page(tallies: dict[str, Tally], seconds: float) -> None:
    """Renew the table of ``docs/results/fuzz.md``; what is told below it stays."""
    begin, end = "<!-- table -->", "<!-- end -->"
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    made = (
        f"Made by `python -m benchmarks.fuzz --minutes {seconds / 60:.0f}` on {cpu_model()}; "
        f"a reader has {LIMIT_S} s and 1 GB."
    )
    PAGE.write_text(f"{before}{begin}\n{table(tallies)}\n\n{made}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
