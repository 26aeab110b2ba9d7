"""Seconds of each part of `make forez-map`, idle and beside a busy process, predicted and taken.

    python -m benchmarks.stages

writes ``docs/results/bench/stages.json`` and ``.md``. Kinds of machine and states alternate within
a round. A training takes `STEPS` of its steps, and the time of its loop is scaled to all of them;
everything else runs whole. What `geopipe doctor` predicts is asked for before each run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.machine import cpu_model, describe_machine, load, steal
from benchmarks.training import background_load

WORKFLOW = Path("workflows/forez.toml")
STEPS = 100
PARTS = {
    "labels": "labels-",
    "CNN": "base",
    "refinement": "refinement",
    "map": "map-",
    "evaluation": "evaluation",
}
"""What the names of a part's steps in the workflow start with."""
LIMITED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment in which torch and oneDNN use no more than AVX2, and so float32."""
STATES = ("idle", "busy")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="seconds of each part of make forez-map")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results/bench/stages"))
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        args.one.write_text(json.dumps(run_once()))
        return
    runs: list[dict[str, Any]] = []
    for number in range(args.rounds):
        for kind, environment in kinds().items():
            for state in STATES:
                before = {"load": load(), "stolen": steal()}
                with background_load(state == "busy"):
                    prediction = predicted(environment)
                    parts = measure(environment)
                stolen = round(steal() - before["stolen"], 2)
                runs.append(
                    {"round": number + 1, "kind": kind, "state": state, "predicted": prediction}
                    | {"parts": parts, "load_before": before["load"], "stolen_s": stolen}
                )
                print(json.dumps(runs[-1]), flush=True)
    report = {
        "command": f"python -m benchmarks.stages --rounds {args.rounds}",
        "machine": describe_machine(),
        "steps": STEPS,
        "runs": runs,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(markdown(report), encoding="utf-8")


def kinds() -> dict[str, dict[str, str]]:
    """Environment by kind of machine: this one and, if it has more, this one limited to AVX2."""
    vectors = cpu_model().split()[1:]
    own = " ".join(v for v in vectors if v.startswith(("avx", "amx")))
    return {own: {}, "limited to AVX2, float32": LIMITED} if "avx512f" in own else {own: {}}


def predicted(environment: Mapping[str, str]) -> str:
    """What `geopipe doctor` says that the whole takes."""
    command = [str(Path(sys.executable).with_name("geopipe")), "doctor", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    findings = json.loads(done.stdout)["findings"]
    return str(next(f["value"] for f in findings if f["name"] == "make forez-map"))


def measure(environment: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each part in a process of its own, with its start and end as `rest`."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "seconds.json"
        start = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.stages", "--one", str(target)]
        subprocess.run(command, check=True, env={**os.environ, **environment})
        wall = time.perf_counter() - start
        seconds: dict[str, Any] = json.loads(target.read_text())
    return parts_of(seconds["steps"], seconds["loops"], wall)


def parts_of(
    steps: Mapping[str, float], loops: Mapping[str, tuple[float, int]], wall: float
) -> dict[str, float]:
    """Seconds by part: `loops` holds seconds and full steps of what took STEPS of them.

    `rest` is what of the `wall` time no step took: start-up and report.
    """
    scaled = dict(steps)
    for name, (seconds, full) in loops.items():
        scaled[name] += seconds * (full / STEPS - 1)
    parts = {
        part: sum(s for step, s in scaled.items() if step.startswith(prefix))
        for part, prefix in PARTS.items()
    }
    parts["rest"] = wall - sum(steps.values())
    return {part: round(seconds, 2) for part, seconds in parts.items()}


def run_once() -> dict[str, Any]:
    """Run the workflow with few steps: seconds of its steps, and of the loops of its trainings."""
    from geopipe.learn import BaseNetworkPlan, RefinementPlan
    from geopipe.learn.loop import fit
    from geopipe.workflow import run
    from geopipe.workflow.schema import load_workflow
    from geopipe.workflow.workflow_steps import WorkflowRun

    loops: dict[str, tuple[float, int]] = {}
    steps: dict[str, float] = {}
    folder = Path(tempfile.mkdtemp())
    changes = {
        "out": str(folder / "forez"),
        "base.steps": str(STEPS),
        "refinement.steps": str(STEPS),
    }
    full = {"base": BaseNetworkPlan.of().steps, "refinement": RefinementPlan.of().steps}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **options)
            loops[name] = (time.perf_counter() - start, full[name])
            return result

        return measured

    class Timed(WorkflowRun):
        def run(self, chain: Any) -> None:
            super().run(chain)
            steps.update(self.timings)

    try:
        with (
            patch("geopipe.learn.base_network.fit", timed("base", fit)),
            patch("geopipe.learn.refinement.fit", timed("refinement", fit)),
            patch.object(run, "WorkflowRun", Timed),
        ):
            run.run_workflow(load_workflow(WORKFLOW, changes))
    finally:
        shutil.rmtree(folder)
    return {"steps": steps, "loops": loops}


def markdown(report: Mapping[str, Any]) -> str:
    """Medians by part, kind and state, and the ratio of the states within a round."""
    machine, runs = report["machine"], report["runs"]
    parts = [*PARTS, "rest"]
    lines = [
        "# Parts of make forez-map",
        "",
        f"`{report['command']}`; {machine['cores']} cores ({machine['cpu']}).",
        "",
        f"Seconds, medians of alternating rounds. A training took {report['steps']} steps, and the "
        "time of its loop is scaled to all of them; the rest ran whole. Rest: start-up and "
        "report. Busy: another process keeps a core at work. In brackets the "
        "lowest and the highest round. Predicted: what `geopipe doctor` said right before.",
        "",
        f"| | {' | '.join(parts)} | whole | predicted |",
        "|---|" + "---:|" * (len(parts) + 2),
    ]
    for kind in dict.fromkeys(run["kind"] for run in runs):
        rounds = {
            state: [r for r in runs if (r["kind"], r["state"]) == (kind, state)] for state in STATES
        }
        for state, chosen in rounds.items():
            cells = [f"{statistics.median(r['parts'][part] for r in chosen):.0f}" for part in parts]
            wholes = [sum(r["parts"].values()) for r in chosen]
            whole = f"{statistics.median(wholes):.0f} ({min(wholes):.0f}-{max(wholes):.0f})"
            shown = "; ".join(dict.fromkeys(r["predicted"].split(",")[0] for r in chosen))
            lines.append(f"| {kind}, {state} | {' | '.join(cells)} | {whole} | {shown} |")
        pairs = list(zip(rounds["idle"], rounds["busy"], strict=True))
        ratios = [
            statistics.median(b["parts"][p] / max(i["parts"][p], 0.01) for i, b in pairs)
            for p in parts
        ]
        whole_ratio = statistics.median(
            sum(b["parts"].values()) / sum(i["parts"].values()) for i, b in pairs
        )
        cells = [f"{ratio:.2f}" for ratio in [*ratios, whole_ratio]]
        lines.append(f"| {kind}, busy / idle | {' | '.join(cells)} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
