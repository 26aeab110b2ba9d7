"""System calls that fail while `labels` runs; `make faults` has more commands and faults."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)
def test_a_run_ends_well_or_with_one_line_whatever_call_fails():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--short", "--faults", "16"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs, faults, wrong = map(int, re.findall(r"(\d+) (?:runs|faults|wrong)", done.stdout))
    assert runs >= faults >= 12
    assert wrong == 0
