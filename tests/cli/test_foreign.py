"""Lines that C libraries write to stderr, and warnings of libraries, become warnings of geopipe."""

import os
import subprocess
import sys

SAYS = """
import os, sys, warnings
import click
from geopipe.cli.main import main
from geopipe.errors import SceneError

@main.command("speak")
@click.option("--fails", is_flag=True)
def speak(fails):
    for _ in range(3):
        os.write(2, b"_tiffWriteProc: No space left on device.\\n")
        warnings.warn("invalid value encountered in buffer", RuntimeWarning)
    click.echo("our own line", err=True)
    if fails:
        raise SceneError("no", "a hint")

main()
"""


def test_lines_of_libraries_are_counted_once():
    done = subprocess.run(
        [sys.executable, "-c", SAYS, "speak"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == [
        "WARNING: RuntimeWarning: invalid value encountered in buffer (3 times)",
        "WARNING: _tiffWriteProc: No space left on device. (3 times)",
        "our own line",
    ]
    raw = subprocess.run(
        [sys.executable, "-c", SAYS, "-vv", "speak"], capture_output=True, text=True, check=False
    )
    assert raw.stderr.count("_tiffWriteProc") == 3


def test_an_error_tells_the_cause_alone():
    done = subprocess.run(
        [sys.executable, "-c", SAYS, "speak", "--fails"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["our own line", "error: no - a hint"]


def test_stderr_is_what_it_was_afterwards(geopipe):
    before = os.fstat(2).st_ino, sys.stderr
    geopipe("labels", "none.tif", "none.gpkg", "-o", "x.tif")
    assert (os.fstat(2).st_ino, sys.stderr) == before
