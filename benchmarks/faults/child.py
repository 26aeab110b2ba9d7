"""One command in a forked child, with a fault; what it left."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.shim import Shim

PATIENCE_S = 90.0
"""A run that takes longer hangs."""
_UNSTEADY = re.compile(
    r"/report\.(html|json|md)$|/item\.json$|\.stac\.json$|/\.steps/.*|/summary\.json$"
)
"""Files that tell times."""


@dataclass(frozen=True)
class Fault:
    """The `nth` call of `kind` on paths with `prefix` gives `error`; sticky: all from there on."""

    kind: str
    nth: int
    error: int
    prefix: str
    sticky: bool = False

    def __str__(self) -> str:
        name = errno.errorcode[self.error]
        return f"{self.kind} {self.nth}{'+' * self.sticky} {name}"


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    out: str
    err: str
    fired: str
    """The path whose call failed; "" where none did."""
    counts: dict[str, int]
    seconds: float
    hung: bool = False


def run(
    words: list[str],
    log: Path,
    fault: Fault | None = None,
    *,
    prefix: str = "/",
    prepare: Callable[[], None] | None = None,
    watch: Callable[[int], None] | None = None,
) -> Run:
    """Run geopipe with `words` in a child of this process.

    `prepare` is called in the child before, `watch` with the child's process id in this one.
    """
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    out, err, report, path = (log.with_suffix(s) for s in (".out", ".err", ".json", ".path"))
    report.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        _child(words, (out, err, report, path), fault, prefix, prepare)
    if watch:
        watch(pid)
    hung = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > PATIENCE_S:
            hung = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status)
    result: dict[str, Any] = {
        "fired": path.read_text(errors="replace") if path.exists() else "",
        "counts": {},
    }
    if report.exists() and (text := report.read_text(errors="replace")):  # else it was killed
        result = json.loads(text)
    output, error = (f.read_text(errors="replace") if f.exists() else "" for f in (out, err))
    return Run(
        code, output, error, result["fired"], result["counts"], time.monotonic() - start, hung
    )


def _child(
    words: list[str],
    files: tuple[Path, Path, Path, Path],
    fault: Fault | None,
    prefix: str,
    prepare: Callable[[], None] | None,
) -> None:
    from geopipe import progress
    from geopipe.cli.main import main

    progress._QUIET_S = 1e9  # a busy machine would tell of its progress

    out, err, report, path = files
    for stream, file in ((1, out), (2, err)):
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        os.dup2(fd, stream)
        os.close(fd)
    report_fd, path_fd = (
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666) for file in (report, path)
    )
    shim, code = Shim(), 70
    shim.tell(path_fd)
    if prepare:
        prepare()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        if fault:
            shim.arm(fault.kind, fault.nth, fault.error, fault.prefix, sticky=fault.sticky)
        else:
            shim.arm("open", 0, 0, prefix)
        main.main(words, prog_name="geopipe")
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0
    except BaseException:
        shim.disarm()
        traceback.print_exc()
    finally:
        shim.disarm()
        sys.stdout.flush()
        sys.stderr.flush()
        result = {"fired": shim.fired(), "counts": shim.counts()}
        os.write(report_fd, json.dumps(result).encode())
        os._exit(code)


def snapshot(folder: Path) -> dict[str, str]:
    """Path below `folder` -> sha256 of each file; of those that tell times, only that they are."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            digests[name + "/"] = ""
        else:
            data = _content(path)
            unsteady = _UNSTEADY.search(f"/{name}")
            digests[name] = "there" if unsteady and data else hashlib.sha256(data).hexdigest()
    return digests


def _content(path: Path) -> bytes:
    """The bytes of a file; of a GeoPackage its tables, since SQLite counts its own writes."""
    if path.suffix != ".gpkg" or not path.read_bytes().startswith(b"SQLite"):
        return path.read_bytes()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return "\n".join(db.iterdump()).encode()
    except sqlite3.Error as e:
        return f"damaged: {e}".encode()


def unfinished(name: str) -> bool:
    """Whether a file of this name lies where runs keep what is not finished."""
    parts = Path(name).parts
    marks = (".part", ".tmp.", ".old-")
    if "tiles" in parts or parts[-1] == "journal.jsonl":  # what a killed step goes on with
        return True
    return any(p.endswith((".work", ".resume")) or any(m in p for m in marks) for p in parts)


def clear(folder: Path, old: Iterable[str] = ()) -> dict[str, str]:
    """An empty `folder` but for the files `old`; what is in it."""
    for path in folder.iterdir() if folder.exists() else ():  # a disk may be mounted there
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name in old:
        (folder / name).write_text("old")
    return snapshot(folder)
