"""Mappings that are killed: run the command, watch its journal, kill it, look at what it left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.runners import geopipe_command

RASTERS = ("classes.tif", "classes.tif.aux.xml", "scores.tif")
PATIENCE_S = 600.0

Tiles = dict[int, tuple[int, int]]
"""Tile -> inode and time of its file."""


class EndureError(RuntimeError):
    """The mapping did what it must not; what it said is the message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is mapped; `tiles` of them."""

    scene: Path
    model: Path
    folder: Path
    core: int
    tiles: int

    def command(self, out: Path, options: Sequence[str]) -> list[str]:
        """The same words again and again."""
        paths = [str(self.scene), str(self.model), "-o", str(out)]
        options = ["--tile-size", str(self.core), "--scores", *options]
        return [geopipe_command(), "map", *paths, *options]


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL."""

    aim: str
    """``any time`` or ``the end``, when the files are finished."""
    whom: str
    """``all`` processes of the command, or its ``parent`` alone."""
    at_s: float
    """Seconds after its start."""
    phase: str
    """What it was at: starting, mapping or finishing."""
    before: int
    """Tiles that the journal had when the command started: what it resumed."""
    after: int
    """Tiles that it had when the command was dead."""
    redone: int
    """Of those before, tiles whose file was written once more."""
    outlived_s: float
    """How long its last worker process outlived it."""


@dataclass
class Attempt:
    """A map from its first tile to its end, over all runs that this takes."""

    plan: Plan
    name: str
    words: Sequence[str]
    kills: list[Kill] = field(default_factory=list)
    resumed: int = 0
    """Tiles that were there when the last run began."""
    seconds: float = 0.0
    """What it took."""

    @property
    def out(self) -> Path:
        """The folder of the map."""
        return self.plan.folder / self.name

    @property
    def part(self) -> Path:
        """What is there of it before."""
        return self.out.with_name(self.out.name + ".part")

    def tile_stats(self) -> Tiles:
        """The tiles that the journal has and whose files are there."""
        tiles: Tiles = {}
        try:
            lines = (self.part / "journal.jsonl").read_bytes().split(b"\n")
        except OSError:
            return tiles
        for line in lines[1:]:
            try:
                index = json.loads(line)["tile"]
                (path,) = self.part.glob(f"tiles/*/{index // 1000:04d}/{index:07d}.tif")
                stat = path.stat()
            except (ValueError, OSError):
                continue
            tiles[index] = stat.st_ino, stat.st_mtime_ns
        return tiles

    def finishing(self, since: float) -> bool:
        """Whether a run that began at the time `since` is making the files from the tiles."""
        files = (*self.part.glob("*.tmp.vrt"), *self.part.glob("*/classes.tif*"))
        return any(_time(path) >= since for path in files)

    def run_until(self, moment: Callable[[float], bool], aim: str, whom: str = "all") -> bool:
        """Run the command and kill it when moment(seconds since its start); False when it ended.

        Raises EndureError when it ended otherwise than with a map.
        """
        before, start, begun = self.tile_stats(), time.monotonic(), time.time()
        self.resumed = len(before)
        with self._running() as process:
            while not moment(time.monotonic() - start):
                if process.poll() is not None:
                    self.seconds = time.monotonic() - start
                    return False
                time.sleep(0.002)
            at, finishing = time.monotonic() - start, self.finishing(begun)
            outlived = _kill(process, whom)
        after = self.tile_stats()
        if self.out.exists():  # it was already clearing up
            after = before | dict.fromkeys(range(self.plan.tiles), (0, 0))
        grown = len(after) > len(before)
        phase = (
            "finishing" if finishing or self.out.exists() else "mapping" if grown else "starting"
        )
        redone = sum(after.get(i) != file for i, file in before.items()) * (not self.out.exists())
        self.kills.append(
            Kill(aim, whom, round(at, 2), phase, len(before), len(after), redone, outlived)
        )
        return True

    def finish(self) -> dict[str, object]:
        """Run the command to its end; what stands then."""
        if not self.out.exists():
            self.run_until(lambda _: False, "none")
        return {
            "resumed": self.resumed,
            "seconds": round(self.seconds, 1),
            "left_over": [p.name for p in self.plan.folder.glob(f"*{self.name}.*")],
            "sha256": digest(self.out),
        }

    def clear(self) -> None:
        """Remove the map and all that is left of it."""
        for folder in (self.out, self.part):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _running(self) -> Iterator[subprocess.Popen[str]]:
        log = self.plan.folder / f"{self.name}.log"
        with log.open("w+") as stream:
            process = subprocess.Popen(
                self.plan.command(self.out, self.words),
                stdout=stream,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            if code not in (0, -signal.SIGKILL):
                raise EndureError(log.read_text().strip().splitlines()[-1])
        log.unlink()


def _kill(process: subprocess.Popen[str], whom: str) -> float:
    """Kill it; seconds until the last of its children is gone."""
    children = psutil.Process(process.pid).children(recursive=True)
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    start = time.monotonic()
    while any(_is_running(child) for child in children):
        if time.monotonic() - start > PATIENCE_S:
            raise EndureError("worker processes stay behind")
        time.sleep(0.01)
    return round(time.monotonic() - start, 2)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def digest(folder: Path) -> str:
    """SHA-256 of the rasters of a map."""
    hasher = hashlib.sha256()
    for name in RASTERS:
        hasher.update((folder / name).read_bytes())
    return hasher.hexdigest()


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address and processes of a ``dask scheduler`` (the first) and two ``dask worker``."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    address, dask = f"tcp://127.0.0.1:{port}", str(Path(sys.executable).with_name("dask"))
    local = ["--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        *[["worker", address, "--nthreads", "1", *local]] * 2,
    ]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "dask.log").open("wb"))
        processes = []
        for arguments in commands:
            process = subprocess.Popen([dask, *arguments], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield address, processes


def wait_for_workers(address: str, count: int) -> None:
    """Until `count` workers have said that they are there."""
    from distributed import Client

    with Client(address, timeout="60s", set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)
