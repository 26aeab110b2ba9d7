"""A program that writes features in children which die at a given moment.

Each line of its input is ``MOMENT CLASS_MAP FOLDER``, with tabs between; for each it tells how many
moments there were before. A moment is before a layer is appended, before rows go to the Parquet
file, before the GeoPackage is finished, and before a file is renamed or removed. A process of its
own: one that has used GDAL's threads cannot be forked.
"""

import os
import signal
import sys
from pathlib import Path

from test_features import TOWN

from geopipe.vectors import features

STEPS = ("footprint_tables", "find_roads", "_append", "_arrow", "_add_styles", "finish_geopackage")
CHANGES = {"os.rename", "os.remove", "os.rmdir"}


def dies(moment, class_map, folder):
    """Write in a child that is killed at its `moment`-th moment; returns how many came before."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        with os.fdopen(ready, "rb") as pipe:
            before = pipe.read()
        os.waitpid(pid, 0)
        return len(before)
    left = moment

    def passed(event, _=()):
        nonlocal left
        if event in CHANGES:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(told, b".")

    def watched(function):
        def call(*args, **options):
            passed("os.rename")
            return function(*args, **options)

        return call

    try:
        for name in STEPS:
            setattr(features, name, watched(getattr(features, name)))
        sys.addaudithook(passed)
        features.write_features(Path(class_map), Path(folder), TOWN, name="town")
    finally:
        os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin:
        number, *paths = line.rstrip("\n").split("\t")
        sys.stdout.write(f"{dies(int(number), *paths)}\n")
        sys.stdout.flush()
