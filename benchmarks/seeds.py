"""Run a workflow with several seeds and write what it reached, with its spread.

    python -m benchmarks.seeds workflows/forez.toml docs/results/forez --seeds 0 1 2

writes ``docs/results/forez.json`` and ``.md``. Each seed has its own output folder and is resumed
there like any workflow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import torch

import geopipe
from benchmarks.machine import cpu_model
from geopipe.evaluation.iterations import IterationMetrics
from geopipe.metrics import Metrics
from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import load_workflow

PAPER = {
    "buildings-roads": "Maggiori et al. 2017, Fig. 7a, real Pléiades scenes: CNN 48.32, "
    "CNN+RNN 72.90 % mean IoU; overall accuracy 96.72 and 98.24 %."
}


def main() -> None:
    """Run all seeds and write the two files."""
    parser = argparse.ArgumentParser(description="a workflow's figures over several seeds")
    parser.add_argument("workflow", type=Path)
    parser.add_argument("out", type=Path, help="path of the results without suffix")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, as of geopipe run",
    )
    args = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in args.set)
    runs = {seed: run_seed(args.workflow, seed, settings) for seed in args.seeds}
    scheme = load_workflow(args.workflow).classes
    tables: dict[str, object] = {
        "command": "python -m benchmarks.seeds "
        + " ".join(
            [str(args.workflow), str(args.out), "--seeds", *map(str, args.seeds)]
            + [f"--set {pair}" for pair in args.set]
        ),
        "machine": f"{os.cpu_count()} processors ({cpu_model()}), {platform.machine()}",
        "software": f"geopipe {geopipe.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "paper": PAPER.get(scheme, ""),
        "seeds": {
            seed: {"iterations": [m.to_dict() for m in run.steps]} for seed, run in runs.items()
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(tables, indent=1) + "\n")
    text = markdown(args.workflow.name, tables, [run.steps for run in runs.values()])
    args.out.with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def run_seed(path: Path, seed: int, settings: dict[str, str]) -> IterationMetrics:
    """The evaluation of one seed."""
    out = load_workflow(path, settings).out
    folder = out.with_name(f"{out.name}-seed{seed}")
    run_workflow(load_workflow(path, {**settings, "seed": str(seed), "out": str(folder)}))
    return IterationMetrics.load(folder / "evaluation")


def markdown(name: str, tables: dict[str, object], runs: list[tuple[Metrics, ...]]) -> str:
    """Mean and standard deviation over the seeds, percent."""
    names = runs[0][0].names
    lines = [
        f"# {name}, {len(runs)} seeds",
        "",
        f"`{tables['command']}`; {tables['machine']}; {tables['software']}",
        "",
        "Test scene; mean ± standard deviation over the seeds, percent.",
        "",
        "| iterations | mean IoU | overall accuracy | "
        + " | ".join(f"IoU {n}" for n in names)
        + " |",
        "|---|" + "---:|" * (len(names) + 2),
    ]
    for t, steps in enumerate(zip(*runs, strict=True)):
        row = [
            mean_std_text([m.mean_iou for m in steps]),
            mean_std_text([m.overall_accuracy for m in steps]),
        ]
        row += [mean_std_text([m.iou[k] for m in steps]) for k in range(len(names))]
        lines.append(f"| {t}{' (CNN)' if not t else ''} | " + " | ".join(row) + " |")
    gains = [run[-1].mean_iou - run[0].mean_iou for run in runs]
    each = ", ".join(f"{100 * g:+.1f}" for g in gains)
    lines += ["", f"Gain of the refinement in mean IoU, points, each seed: {each}."]
    if tables["paper"]:
        lines += ["", f"The paper: {tables['paper']}"]
    return "\n".join(lines) + "\n"


def mean_std_text(values: list[float]) -> str:
    """Mean and, of several values, their standard deviation."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
