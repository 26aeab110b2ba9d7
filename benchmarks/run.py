"""Measure geopipe against its limit and its peers: speed, memory, equal maps.

    python -m benchmarks.run [--sizes 4000 10000 20000] [--repeats 3] [--runners geopipe limit ...]

writes ``docs/results/bench/bench.json`` and ``.md``. All figures of one run come from one machine
at one time: the runners take turns, each in a process of its own, and only ratios within a round
are held against the targets. Scenes and maps stay in ``outputs/bench``.

torchgeo 0.8.1 is the last for Python 3.11. It wants many packages that its sampler does not; this
installs what it needs into an environment of its own, torch first, as a CPU build:

    python3.11 -m venv ENV
    ENV/bin/pip install torch==2.13.0
    ENV/bin/pip install --no-deps torchgeo==0.8.1 torchvision==0.28.0
    ENV/bin/pip install einops geopandas matplotlib numpy odc-geo pandas pillow pydantic pyproj \\
        rasterio requests safetensors shapely
    python -m benchmarks.run --torchgeo-python ENV/bin/python

(give the versions of ``requirements.lock`` for a fair comparison). Where it cannot be imported it
is left out and the page says why.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import rasterio

from benchmarks.agreement import equal_pixels
from benchmarks.figures import Rounds, summary, targets
from benchmarks.generated_scenes import ROOT, choose_model, deflate_ratio, make_scene
from benchmarks.machine import describe_machine, load, steal
from benchmarks.memory_monitor import RunError
from benchmarks.page import markdown
from benchmarks.runners import PART, RUNNERS, Run, Setting, geopipe_command, run, why_not
from geopipe.checkpoint import file_hash

SIZES = (4000, 10_000, 20_000)
SMOKE = {"sizes": [512], "repeats": 1, "runners": ["limit", "plain"]}
LIGHT = ("limit", "geopipe", "tuned", "tuned-threads")
"""Runners of scenes so large that the others would take an hour."""
HELP_RUNS = 5
PACKAGES = ("geopipe", "torch", "numpy", "rasterio", "dask", "rioxarray")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 1 where a runner that can run here failed."""
    args = parse(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    model, trained = choose_model(args.folder, args.model)
    setting = Setting(
        model, args.folder, args.torchgeo_python, args.part, args.precision, args.torchgeo_loaders
    )
    bench = Bench(setting, trained, args.repeats, args.runners, args.light_from)
    bench.leave_out_what_cannot_run()
    scenes = {size: make_scene(args.folder, size) for size in sorted(set(args.sizes))}
    bench.time_help()
    for size, scene in scenes.items():
        for number in range(args.repeats):
            bench.round(size, scene, number)
            write(args.out, {"command": command_line(args), **bench.figures(scenes)})
    print(args.out.with_suffix(".md").read_text(encoding="utf-8"))
    return 1 if bench.failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; --smoke stands for the smallest bench that says anything."""
    parser = argparse.ArgumentParser(description="measure geopipe and its peers")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/bench/bench.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="PX")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runners", nargs="+", choices=RUNNERS, default=list(RUNNERS))
    parser.add_argument("--model", type=Path, help="default: that of `make forez-map`, if made")
    parser.add_argument(
        "--light-from", type=int, metavar="PX", help=f"from here on only {', '.join(LIGHT)}"
    )
    parser.add_argument("--part", type=int, default=PART, help="px a side for the slow peer")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs/bench")
    parser.add_argument("--torchgeo-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--torchgeo-loaders", type=int, default=0, help="its reading processes")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--smoke", action="store_true", help=f"short for {SMOKE}")
    args = parser.parse_args(argv)
    if args.smoke:
        vars(args).update(SMOKE)
    return args


def command_line(args: argparse.Namespace) -> str:
    """The command as it can be repeated anywhere: without paths of this machine."""
    arguments = ["python -m benchmarks.run"]
    for name in ("sizes", "repeats", "runners", "light_from", "part", "precision"):
        value = vars(args)[name]
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", *map(str, flat(value))]
    return " ".join(arguments)


def flat(value: object) -> list[object]:
    """A value or a list of them as a list."""
    return list(value) if isinstance(value, list) else [value]


@dataclass
class Bench:
    """Runs, as they come in."""

    setting: Setting
    trained: bool
    repeats: int
    names: list[str]
    light_from: int | None = None
    rounds: dict[int, list[dict[str, Run]]] = field(default_factory=dict)
    equal: dict[tuple[int, str], float] = field(default_factory=dict)
    loads: list[dict[str, object]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    help_seconds: list[float] = field(default_factory=list)

    def leave_out_what_cannot_run(self) -> None:
        """With a word, so that nobody takes it for measured."""
        for name in self.names:
            if (reason := why_not(name, self.setting)) is not None:
                self.skipped[name] = reason
                say(f"{name} left out: {reason}")
        self.names = [name for name in self.names if name not in self.skipped]

    def time_help(self) -> None:
        """``geopipe --help``, the first time for warming up."""
        for _ in range(HELP_RUNS + 1):
            start = time.perf_counter()
            subprocess.run([geopipe_command(), "--help"], check=True, capture_output=True)
            self.help_seconds.append(time.perf_counter() - start)
        del self.help_seconds[0]

    def round(self, size: int, scene: Path, number: int) -> None:
        """Every runner once; every other round backwards, so that no one always goes first."""
        done: dict[str, Run] = {}
        light = self.light_from is not None and size >= self.light_from
        names = [n for n in self.names if n not in self.failed and (n in LIGHT or not light)]
        before, stolen = load(), steal()
        for name in names[:: -1 if number % 2 else 1]:
            try:
                done[name] = run(name, scene, size, self.setting)
            except RunError as e:
                self.failed[name] = str(e)
                say(f"{size} px: {name} failed: {e}")
                continue
            seconds = done[name].seconds
            say(f"{size} px, round {number + 1} of {self.repeats}: {name} {seconds:.2f} s")
        entry: dict[str, object] = {
            "size": size,
            "round": number + 1,
            "load_before": before,
            "load_after": load(),
            "stolen_seconds": round(steal() - stolen, 2),
        }
        self.loads.append(entry)
        self.rounds.setdefault(size, []).append(done)
        if not number:
            self._compare(size, done)

    def _compare(self, size: int, done: dict[str, Run]) -> None:
        paths = {name: path for name in done if (path := self.setting.map_path(name, size))}
        reference = paths.pop("geopipe", None)
        if reference:
            self.equal |= {(size, n): equal_pixels(path, reference) for n, path in paths.items()}

    def figures(self, scenes: dict[int, Path]) -> dict[str, object]:
        """Everything that is known so far, as plain values."""
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "versions": {p: version(p) for p in PACKAGES} | {"gdal": rasterio.__gdal_version__},
            "model": {"sha256": file_hash(self.setting.model), "trained": self.trained},
            "precision": self.setting.precision,
            "repeats": self.repeats,
            "rounds": self.loads,
            "help_seconds": [round(s, 3) for s in self.help_seconds],
            "targets": [t.to_dict() for t in targets(self.rounds, self.help_seconds)],
            "sizes": {
                size: {
                    "scene_mb": round(scenes[size].stat().st_size / 1e6, 1),
                    "deflate_ratio": round(deflate_ratio(scenes[size]), 2),
                    "runners": self._summaries(size, rounds),
                }
                for size, rounds in self.rounds.items()
            },
            "skipped": self.skipped | {n: f"failed: {error}" for n, error in self.failed.items()},
        }

    def _summaries(self, size: int, rounds: Rounds) -> dict[str, object]:
        return {
            name: summary(name, rounds, size, self.equal.get((size, name)))
            for name in self.names
            if any(name in r for r in rounds)
        }


def write(out: Path, figures: dict[str, object]) -> None:
    """After every round, so that a bench that is stopped keeps what it has measured."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text)
    out.write_text(text + "\n")  # lists of numbers on a line each
    page = markdown(json.loads(text))
    out.with_suffix(".md").write_text(page, encoding="utf-8")


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
