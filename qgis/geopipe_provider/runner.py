"""Finds geopipe and runs it: a clean environment, progress, cancellation; knows nothing of QGIS."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PROGRAM = "geopipe"
MADE_FOR = "0.1"
"""The version of geopipe, as major.minor, whose options the tables name."""
SETTING = "Settings > Options > Processing > Providers > geopipe"
INSTALLING = f"install it in an environment of its own, or give its path in {SETTING}"
WINDOWS = sys.platform == "win32"

_OF_QGIS = (
    "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_DATA", "PROJ_LIB", "GEOTIFF_CSV", "LD_LIBRARY_PATH",
    "LD_PRELOAD", "VIRTUAL_ENV", "OSGEO4W_ROOT",
)  # fmt: skip
_OF_QGIS_PREFIXES = ("PYTHON", "DYLD_", "QT_", "QGIS", "O4W_")
_PROGRESS = re.compile(r"(?P<label>[^:]+): (?P<done>\d+)/(?P<total>\d+)\b.*")
_VERSION = re.compile(r"geopipe, version (\d+)\.(\d+)\S*")
_POLL_S = 0.2


class RunnerError(Exception):
    """geopipe is missing, is another program, or failed; the message is for the analyst."""


@dataclass(frozen=True)
class Progress:
    """A line of geopipe that tells how far a step is."""

    text: str
    percent: float

    @classmethod
    def parse(cls, line: str) -> Progress | None:
        """Of a line such as ``mapping: 12/40, about 30 s left``; None of another line."""
        match = _PROGRESS.fullmatch(line.strip())
        if not match or not int(match["total"]):
            return None
        return cls(line.strip(), min(100.0, 100 * int(match["done"]) / int(match["total"])))


@dataclass(frozen=True)
class Outcome:
    """How a run of geopipe ended.

    Attributes:
        code: Its exit code; 3: done, but some input could not be read.
        stdout: What it printed.
        messages: Lines on stderr that are no progress.
        canceled: Whether it was stopped on request.
    """

    code: int
    stdout: str
    messages: tuple[str, ...]
    canceled: bool

    @property
    def result(self) -> Any:
        """The JSON that it printed; None where there is none."""
        lines = self.stdout.strip().splitlines()
        try:
            return json.loads(lines[-1]) if lines else None
        except ValueError:
            return None

    @property
    def error(self) -> str:
        """Why it failed, in one line; empty where it did not."""
        if self.code in (0, 3):
            return ""
        for line in reversed(self.messages):
            if line.lower().startswith("error: "):
                return line[len("error: ") :]
        last = self.messages[-1] if self.messages else "it said nothing"
        return f"geopipe ended with code {self.code}: {last}"


# -- the executable


def find_executable(
    configured: str, plugin: Path, environment: Mapping[str, str] = os.environ
) -> Path:
    """The geopipe to run.

    Args:
        configured: The path of the setting; "": it is searched on the PATH, in ``~/.local/bin``,
            and in a venv (``.venv`` or ``venv``) in the folder of the plugin or in one of the two
            folders above it.
        plugin: The folder of the plugin.
        environment: Of this process.

    Raises:
        RunnerError: There is none, or the setting names no program.
    """
    if configured:
        path = Path(configured).expanduser()
        if not _is_program(path):
            raise RunnerError(f"{path} is no program: correct it in {SETTING}")
        return path
    on_path = shutil.which(PROGRAM, path=environment.get("PATH", ""))
    if on_path:
        return Path(on_path)
    home = Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())
    folders = [home / ".local" / "bin"]
    for parent in (plugin, *plugin.resolve().parents[:2]):
        folders += [parent / venv / ("Scripts" if WINDOWS else "bin") for venv in (".venv", "venv")]
    for folder in folders:
        path = folder / (PROGRAM + (".exe" if WINDOWS else ""))
        if _is_program(path):
            return path
    raise RunnerError(f"geopipe was not found on the PATH or in ~/.local/bin: {INSTALLING}")


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def check_version(executable: Path, environment: Mapping[str, str]) -> str:
    """What is to be said of its version; "" when it is the one that the tables were made for.

    Raises:
        RunnerError: `executable` cannot be run or isn't geopipe.
    """
    try:
        done = subprocess.run(
            [str(executable), "--version"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise RunnerError(f"{executable} cannot be run ({e}): {INSTALLING}") from e
    match = _VERSION.search(done.stdout)
    if not match:
        lines = (done.stderr or done.stdout).strip().splitlines()
        answer = lines[-1] if lines else "nothing"
        raise RunnerError(f"{executable} is not geopipe, it answers: {answer}")
    if f"{match[1]}.{match[2]}" == MADE_FOR:
        return ""
    return (
        f"{executable} is {match[0]}; this plugin was made for {MADE_FOR}: "
        "update the older one if an option is unknown"
    )


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what points to the Python, GDAL, PROJ and libraries of QGIS."""
    clean = {
        name: value
        for name, value in environment.items()
        if name not in _OF_QGIS and not name.startswith(_OF_QGIS_PREFIXES)
    }
    root = environment.get("OSGEO4W_ROOT", "").lower()
    if root:  # on Windows the PATH begins with the folders of QGIS' libraries
        folders = clean.get("PATH", "").split(os.pathsep)
        clean["PATH"] = os.pathsep.join(f for f in folders if not f.lower().startswith(root))
    return {**clean, "PYTHONUTF8": "1"}


# -- a run


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    on_progress: Callable[[Progress], None],
    on_message: Callable[[str], None],
    is_canceled: Callable[[], bool],
    patience_s: float = 30.0,
) -> Outcome:
    """Run `command` to its end, or until `is_canceled`.

    On request it is interrupted as by Ctrl-C, so that it keeps what is done and the same command
    goes on later; what has not ended after `patience_s` seconds is killed, which loses no more than
    the tile or step at work. All callbacks come from the calling thread.

    Raises:
        RunnerError: The command cannot be started.
    """
    process = _start(command, environment)
    stdout, stderr = process.stdout, process.stderr
    assert stdout
    assert stderr
    out: list[str] = []
    lines: queue.Queue[str | None] = queue.Queue()
    readers = (
        threading.Thread(target=_collect, args=(stdout, out), daemon=True),
        threading.Thread(target=_forward, args=(stderr, lines), daemon=True),
    )
    for reader in readers:
        reader.start()
    messages: list[str] = []
    stopping = _Stopping(process, patience_s)
    while True:
        if is_canceled():
            stopping.go_on()
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            if process.poll() is None:
                continue
            break  # a child of it may hold stderr open
        if line is None:
            break
        progress = Progress.parse(line)
        if progress:
            on_progress(progress)
        elif line.strip():
            messages.append(line.strip())
            on_message(line.strip())
    while process.poll() is None:  # stderr is closed, the process is not done
        if is_canceled():
            stopping.go_on()
        time.sleep(_POLL_S / 10)
    for reader in readers:
        reader.join(timeout=5)
    return Outcome(process.returncode, "".join(out), tuple(messages), stopping.has_begun)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    # A group of its own: only geopipe is interrupted, and nothing of it is left behind.
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    flags |= getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=not WINDOWS,
            creationflags=flags,
        )
    except OSError as e:
        raise RunnerError(f"{command[0]} cannot be run ({e}): {INSTALLING}") from e


def _collect(stream: IO[str], lines: list[str]) -> None:
    with stream:
        lines.extend(stream)


def _forward(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


class _Stopping:
    """Interrupts a process, and kills it when that does not help."""

    def __init__(self, process: subprocess.Popen[str], patience_s: float) -> None:
        self._process, self._patience_s = process, patience_s
        self._deadline: float | None = None

    @property
    def has_begun(self) -> bool:
        return self._deadline is not None

    def go_on(self) -> None:
        """To be called again and again until the process has ended."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._patience_s
            # CTRL_BREAK is what Windows lets one send to another group of processes.
            interrupt = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT)
            self._process.send_signal(interrupt)
        elif time.monotonic() > self._deadline and self._process.poll() is None:
            if WINDOWS:
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
