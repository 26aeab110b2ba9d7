"""QGIS in a process of its own: the system's Python, offscreen."""

import json
import os
import subprocess

import pytest

PYTHON = "/usr/bin/python3"
# The environment of this Python would make QGIS load the wrong libraries and PROJ data.
CLEAN = {
    k: v
    for k, v in os.environ.items()
    if not k.startswith(("PYTHON", "PROJ", "GDAL", "VIRTUAL_ENV", "LD_"))
} | {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin"}


def has_qgis() -> bool:
    try:
        command = [PYTHON, "-c", "import qgis.core"]
        return subprocess.run(command, env=CLEAN, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


NEEDS_QGIS = [
    pytest.mark.qgis,
    pytest.mark.skipif(not has_qgis(), reason="python3-qgis is not installed"),
]


def said(script, home, *arguments, seconds=120):
    """The last line that `script` prints, as JSON."""
    done = subprocess.run(
        [PYTHON, str(script), *map(str, arguments)],
        env=CLEAN | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    # QGIS 3.22 may crash while it shuts down; what counts has been said by then.
    assert done.stdout.strip(), done.stderr[-2000:]
    assert "Warning" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])
