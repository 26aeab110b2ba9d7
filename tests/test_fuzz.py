"""Changed files of geopipe's own formats end with a result or one error; `make fuzz` reads more."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORMATS = (
    "model",
    "training checkpoint",
    "training history",
    "chip index",
    "chip table",
    "embeddings",
)


def test_changed_files_end_with_a_result_or_an_error():
    words = [sys.executable, "-m", "benchmarks.fuzz", "--rounds", "1", "--examples", "12", "--json"]
    done = subprocess.run(
        [*words, "--formats", *FORMATS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tallies = json.loads(done.stdout)
    assert list(tallies) == list(FORMATS)
    for tally in tallies.values():
        assert tally["files"] >= 10, "no reader ended early"
        assert tally["read"] + tally["refused"] == tally["files"]
    assert sum(t["refused"] for t in tallies.values()) > 30
    assert sum(t["read"] for t in tallies.values()) > 5
