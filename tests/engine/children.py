"""A program that has loaded geopipe and runs it in children, which so start at once.

Each line of its input is a JSON list, to which it answers with a line of JSON:

- ``["dies", STEP, SCENE, MODEL, OUT]``: map in a child that is killed at its STEP-th change to the
  file system; the changes there were before.
- ``["start", LOG, WORD, ...]``: the command of these words, in a process group of its own; its id.
- ``["code", PID]``: the exit code of what was started, null while it runs.

A process of its own, since one that has used GDAL's threads cannot be forked.
"""

import json
import os
import signal
import sys
from pathlib import Path

from geopipe.cli import main
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


def start(log, *words):
    """The command in a child that writes to the file `log`; its process id."""
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # also here: it may be killed before it has come so far
        return pid
    try:
        os.setpgid(0, 0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT)
        for stream, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
            os.dup2(stream, target)
        main(words, prog_name="geopipe")
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)
    finally:
        os._exit(70)


def code(pid):
    """The exit code of a child; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    for line in sys.stdin:
        what, *words = json.loads(line)
        answer = {"dies": dies, "start": start, "code": code}[what](*words)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
