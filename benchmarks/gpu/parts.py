"""The parts, and how one of them is run: in a process of its own, for a limited time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gpu.setting import ROOT, Setting
from benchmarks.memory_monitor import end


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the check."""

    module: str
    """Its function ``measure`` does it."""
    title: str
    limit_s: float


PARTS = {
    "c": Part("benchmarks.gpu.chain", "The Forez chain with the paper's steps", 165),
    "a": Part("benchmarks.gpu.agreement", "Agreement with the CPU, and seams", 45),
    "b": Part("benchmarks.gpu.speed", "Speed of mapping", 160),
    "d": Part("benchmarks.gpu.chips", "Chips with the papers' schedule", 60),
    "e": Part("benchmarks.gpu.crops", "Land cover by patches with a ResNet-50", 40),
}
"""In the order they run: the chain's model is what the next two map with."""


def run_part(letter: str, part: Part, setting: Setting) -> dict[str, Any]:
    """Run a part to its end or to its limit; what it found, and how it ended, as JSON values."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    figures, ending = (setting.folder / f"{letter}.{kind}.json" for kind in ("figures", "ending"))
    for path in (figures, ending):
        path.unlink(missing_ok=True)
    setting_json = replace(setting, limit_s=part.limit_s).to_json()
    line = [
        sys.executable,
        "-m",
        "benchmarks.gpu.child",
        part.module,
        setting_json,
        figures,
        ending,
    ]
    start = time.monotonic()
    with (setting.folder / f"{letter}.log").open("w") as log:
        code = _run([str(word) for word in line], log.fileno(), part.limit_s)
    seconds = time.monotonic() - start
    ended = _read(ending) or {"status": "failed", "reason": f"its process ended with {code}"}
    if code is None:
        ended = {"status": "stopped", "reason": f"its limit of {part.limit_s:g} s"}
    return {
        "title": part.title,
        "limit_s": part.limit_s,
        "seconds": round(seconds, 1),
        **ended,
        "figures": _read(figures),
    }


def _run(line: list[str], log: int, limit_s: float) -> int | None:
    """The exit code; None for a process that was ended at the limit, with all its children."""
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    process = psutil.Popen(
        line,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        return int(process.wait(limit_s))
    except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
        return None
    finally:  # after Ctrl-C too
        if process.is_running():
            end(process)
            process.wait()


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
