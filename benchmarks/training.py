"""Seconds of a training step: both schedules, by shards and by torch's own threads, idle and busy.

    python -m benchmarks.training

writes ``docs/results/bench/training.json`` and ``.md``. The rounds alternate, so what the machine
does meanwhile hits every row; beside a busy process, another one computes all the time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.machine import describe_machine, load
from geopipe.classes import load_scheme
from geopipe.learn import BaseNetworkPlan, RefinementPlan
from geopipe.learn.pace import seconds_per_step

SCHEME = "buildings-roads"


@dataclass(frozen=True)
class Row:
    """A way to train."""

    part: str
    schedule: str
    plan: BaseNetworkPlan | RefinementPlan
    shards: int | None
    """None: as the package has it; 1: the whole batch, with torch's threads in each operation."""

    @property
    def name(self) -> str:
        """As the table has it."""
        way = "whole batches" if self.shards else "shards"
        return f"{self.part}, {self.schedule}, {way}"


def rows() -> list[Row]:
    """All ways."""
    plans: list[tuple[str, str, BaseNetworkPlan | RefinementPlan]] = [
        ("CNN", "paper", BaseNetworkPlan.of("cnn", "paper")),
        ("CNN", "short", BaseNetworkPlan.of("cnn", "short")),
        ("refinement", "paper", RefinementPlan.of("paper")),
        ("refinement", "short", RefinementPlan.of("short")),
    ]
    return [Row(*plan, shards) for plan in plans for shards in (1, None)]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="seconds of a training step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results/bench/training"))
    args = parser.parse_args()
    seconds = measure(rows(), args.rounds)
    report = {
        "command": f"python -m benchmarks.training --rounds {args.rounds}",
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "load_before": load(),
        "seconds_per_step": {
            row.name: {"steps": row.plan.steps, **seconds[row.name]} for row in rows()
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(markdown(report), encoding="utf-8")


def measure(ways: list[Row], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of a step by row and by what else runs, one a round."""
    scheme = load_scheme(SCHEME)
    seconds: dict[str, dict[str, list[float]]] = {
        row.name: {"idle": [], "busy": []} for row in ways
    }
    for _ in range(rounds):
        for state in ("idle", "busy"):
            for row in ways:
                with background_load(state == "busy"), shards(row.shards):
                    took = seconds_per_step(row.plan, scheme, 3)
                seconds[row.name][state].append(took)
    return seconds


@contextmanager
def shards(count: int | None) -> Iterator[None]:
    """At most `count` shards."""
    if count is None:
        yield
    else:
        with patch("geopipe.learn.shards.SHARDS", count):
            yield


@contextmanager
def background_load(enabled: bool) -> Iterator[None]:
    """A process that keeps one core busy."""
    if not enabled:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _spin() -> None:
    while True:
        sum(range(10**6))


def markdown(report: dict[str, object]) -> str:
    """The table: medians, and what the steps of the schedule make of them."""
    seconds = report["seconds_per_step"]
    assert isinstance(seconds, dict)
    machine = report["machine"]
    assert isinstance(machine, dict)
    lines = [
        "# Training",
        "",
        f"`{report['command']}`; {machine['cores']} cores ({machine['cpu']}), "
        f"torch {torch.__version__}, load before {report['load_before']}.",
        "",
        "Seconds of a step, medians of alternating rounds; busy: another process keeps a core at "
        "work. Minutes: the steps of the schedule.",
        "",
        "| | steps | idle, s | minutes | busy, s | minutes | busy / idle |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in seconds.items():
        idle, busy = (statistics.median(row[state]) for state in ("idle", "busy"))
        lines.append(
            f"| {name} | {row['steps']} | {idle:.2f} | {idle * row['steps'] / 60:.1f} | {busy:.2f} "
            f"| {busy * row['steps'] / 60:.1f} | {busy / idle:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
