"""System calls that fail while `labels` runs; `make faults` has more commands and faults."""

import os
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


_READS = """
import errno, os, sys
from pathlib import Path
from benchmarks.faults import shim
if "LD_PRELOAD" not in os.environ:
    shim.load(Path(sys.argv[1]))
import numpy as np, rasterio
from geopipe.errors import SceneError
from geopipe.raster.chips import Chip
image = np.random.default_rng(0).integers(0, 255, (3, 80, 90), "uint8")
faults = shim.Shim()
for driver in ("PNG", "JPEG", "GTiff", "BMP", "WEBP"):
    path = sys.argv[1] + "/a." + driver.lower()
    size = {"width": 90, "height": 80, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver=driver, **size) as out:
        out.write(image)
    right, refused = Chip(path).read(), 0
    for nth in range(1, 200):
        faults.arm("read", nth, errno.EIO, path)
        try:
            pixels = Chip(path).read()
        except SceneError:
            pixels, refused = right, refused + 1
        finally:
            faults.disarm()
        if not np.array_equal(pixels, right):
            print(driver, nth, "other pixels")
        if not faults.fired():
            break
    print(driver, "refused" if refused else "never refused")
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)
def test_an_image_whose_reads_fail_gives_its_pixels_or_an_error(tmp_path):
    script = tmp_path / "reads.py"
    script.write_text(_READS)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [
        f"{driver} refused" for driver in ("PNG", "JPEG", "GTiff", "BMP", "WEBP")
    ]
