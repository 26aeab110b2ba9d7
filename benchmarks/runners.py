"""What is measured: geopipe as its users run it, and the peers, each a command of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.generated_scenes import ROOT
from benchmarks.memory_monitor import MonitoredRun, RunError, run_monitored

GEOPIPE = ("geopipe", "geopipe-1-worker", "geopipe-2-workers")
RUNNERS = (
    "limit",
    *GEOPIPE[:1],
    "tuned",
    "tuned-threads",
    "plain",
    "torchgeo",
    "dask",
    "as-written",
    *GEOPIPE[1:],
)
"""All, those that are compared most closely side by side."""
WORKERS = {"geopipe-1-worker": 1, "geopipe-2-workers": 2}
"""Processes of one thread each, whose speeds are compared with one another."""
OPTIONAL = ("torchgeo", "dask")
"""Those that import more than geopipe does."""
PART = 2048
"""The slow peer maps this many pixels a side; its seconds are scaled up to the scene."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of one bench share."""

    model: Path
    folder: Path
    """Where class maps go."""
    torchgeo_python: Path = field(default_factory=lambda: Path(sys.executable))
    part: int = PART
    precision: str = "float32"
    """Of geopipe, its limit and the tuned loop."""
    loaders: int = 0
    """Processes that read for torchgeo."""

    def map_path(self, runner: str, size: int) -> Path | None:
        """The class map of a runner, None for the limit, which makes none."""
        if runner == "limit":
            return None
        name = self.folder / f"{runner}-{size}"
        return name / "classes.tif" if runner in GEOPIPE else name.with_suffix(".tif")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one runner over one scene."""

    seconds: float
    """Of the loop, model loaded and warmed up; scaled to the scene where only a part was mapped."""
    wall: float
    """Of the whole process."""
    pixels: int
    """What was mapped in fact."""
    watched: MonitoredRun
    notes: dict[str, object]
    """Threads, versions and notes as the runner printed them."""


def run(name: str, scene: Path, size: int, setting: Setting) -> Run:
    """Run `name` in a process of its own; raises RunError when it fails.

    What an earlier run left goes first: geopipe would go on with its tiles.
    """
    if name in GEOPIPE:
        for left in (f"{name}-{size}", f"{name}-{size}.part"):
            shutil.rmtree(setting.folder / left, ignore_errors=True)
    done = run_monitored(command(name, scene, size, setting), environment(name))
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
        if name in GEOPIPE:  # files and areas are of no interest here
            report = {
                "seconds": report["mapping_seconds"],
                "map_and_bundle_seconds": report["seconds"],
            }
        seconds, pixels = report.pop("seconds"), int(report.pop("pixels", size * size))
    except (IndexError, KeyError, json.JSONDecodeError) as e:
        raise RunError(f"{name} did not print its figures ({type(e).__name__}: {e})") from e
    return Run(seconds * size * size / pixels, done.wall, pixels, done, report)


def command(name: str, scene: Path, size: int, setting: Setting) -> list[str]:
    """The command line of `name` over `scene`."""
    out = setting.map_path(name, size) or setting.folder / "none"
    if name in GEOPIPE:
        line = [geopipe_command(), "map", str(scene), str(setting.model), "-o"]
        line.append(str(out.parent))
        if name in WORKERS:
            line += ["--workers", str(WORKERS[name]), "--threads", str(WORKERS[name])]
        return [*line, "--precision", setting.precision, "--json"]
    python = setting.torchgeo_python if name == "torchgeo" else Path(sys.executable)
    line = [str(python), "-m", "benchmarks.peers", name, "--scene", str(scene)]
    line += ["--model", str(setting.model), "--out", str(out)]
    own = {
        "as-written": ["--part", str(setting.part)],
        "torchgeo": ["--loaders", str(setting.loaders)],
        "limit": ["--precision", setting.precision],
        "tuned": ["--precision", setting.precision],
        "tuned-threads": ["--precision", setting.precision],
    }
    return line + own.get(name, [])


def environment(name: str) -> dict[str, str]:
    """Ours, with nothing in it that would tune a peer or hold one back."""
    env = {k: v for k, v in os.environ.items() if k not in ("GDAL_CACHEMAX", "MALLOC_ARENA_MAX")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    if name == "dask":  # its threads get a torch of one thread each this way only
        env["OMP_NUM_THREADS"] = "1"
    return env


def why_not(name: str, setting: Setting) -> str | None:
    """Why a runner cannot run here, None when it can."""
    if name in GEOPIPE:
        return None if Path(geopipe_command()).is_file() else "geopipe is not installed"
    if name not in OPTIONAL:
        return None
    python = setting.torchgeo_python if name == "torchgeo" else Path(sys.executable)
    if shutil.which(python) is None:
        return f"no interpreter {python.name}"
    line = [str(python), "-m", "benchmarks.peers", name, "--check"]
    done = subprocess.run(line, env=environment(name), capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def geopipe_command() -> str:
    """The installed command beside this Python."""
    return str(Path(sys.executable).with_name("geopipe"))
