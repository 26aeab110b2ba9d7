"""Algorithms of the plugin in QGIS, and the same commands without it."""

import json
import subprocess
import sys
from pathlib import Path

from qgis_process import said

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def executable(path, before=""):
    """A program geopipe that runs this checkout, and keeps the environment that it was given."""
    code = f"{before}from geopipe.cli import main; main()"
    path.write_text(
        f'#!/bin/sh\nenv > "$0.env"\nPYTHONPATH={ROOT} OMP_NUM_THREADS=1 '
        f"exec {sys.executable} -c '{code}' \"$@\"\n"
    )
    path.chmod(0o755)
    return path


def in_qgis(folder, steps, before=""):
    """What came of `steps` (run_provider.py) in a QGIS whose home is `folder`."""
    plan = folder / "steps.json"
    plan.write_text(json.dumps(steps))
    return said(
        HERE / "run_provider.py", folder, executable(folder / "geopipe", before), plan, seconds=800
    )


def results(folder, steps, before=""):
    """What came of algorithms that went well, by name; `steps`: name -> parameters."""
    found = in_qgis(folder, [{"run": n, "with": p} for n, p in steps.items()], before)
    errors = [f["error"] for f in found]
    assert not any(errors), errors
    return dict(zip(steps, found, strict=True))


def command(*words):
    """What the command line prints: a process of its own, with as many threads as QGIS starts."""
    line = [sys.executable, "-c", "from geopipe.cli import main; main()", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
