"""A program that maps in children which die at a given change to the file system.

Each line of its input is ``STEP SCENE MODEL OUT``, with tabs between; for each it tells, as a JSON
list, the changes there were. A process of its own, since one that has used GDAL's threads cannot be
forked.
"""

import json
import os
import signal
import sys
from pathlib import Path

from geopipe.mapping import Budget, Engine
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate"}
OPTIONS = MapOptions(Engine("cpu", budget=Budget(256)), scores=True, overwrite=True)


def dies(step, scene, model, out):
    """Map in a child that is killed before its `step`-th change; returns those before it."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        with os.fdopen(ready, "rb") as pipe:
            changes = pipe.read().decode().splitlines()
        os.waitpid(pid, 0)
        return changes
    left = step

    def watch(event, args):
        nonlocal left
        writes = event == "open" and isinstance(args[1], str) and not args[1].startswith("r")
        if writes or event in CHANGES:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(told, f"{event} {args[0]}\n".encode())

    try:
        sys.addaudithook(watch)
        write_bundle(Scene.open(scene), Path(model), Path(out), OPTIONS)
    finally:
        os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin:
        number, *paths = line.rstrip("\n").split("\t")
        sys.stdout.write(json.dumps(dies(int(number), *paths)) + "\n")
        sys.stdout.flush()
