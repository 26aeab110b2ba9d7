"""Mappings that are stopped in the middle, and what they leave."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geopipe.mapping.tile import TileJob

TILES = 20
"""Tiles of the large place."""
RASTERS = ("classes.tif", "classes.tif.aux.xml", "scores.tif")
"""What has the same bytes however it came about."""


def map_bytes(folder):
    return {name: (folder / name).read_bytes() for name in RASTERS}


@contextmanager
def stopped_at(number):
    """Tile `number` and those behind it fail; those before it are done."""
    works = TileJob.__call__

    def fails(job, tile):
        if tile.index >= number:
            raise RuntimeError("lightning")
        return works(job, tile)

    TileJob.__call__ = fails
    try:
        yield
    finally:
        TileJob.__call__ = works


def done_tiles(out):
    """Index -> (inode, time) of the file of each tile that the journal beside `out` has."""
    part = out.with_name(out.name + ".part")
    found = {}
    try:
        for line in (part / "journal.jsonl").read_bytes().split(b"\n")[1:]:
            if line.endswith(b"}"):
                index = json.loads(line)["tile"]
                (path,) = part.glob(f"tiles/*/0000/{index:07d}.tif")
                stat = path.stat()
                found[index] = stat.st_ino, stat.st_mtime_ns
    except (OSError, ValueError):
        return found
    return found


@dataclass
class Run:
    """The command in a process group of its own; `ask` is a line to children.py."""

    ask: Callable
    words: Sequence
    out: Path
    log: Path
    code: int | None = None

    def __post_init__(self):
        self.pid = self.ask("start", self.log, *self.words)

    @property
    def is_final(self):
        """Whether the tiles are being made into the files of the map."""
        part = self.out.with_name(self.out.name + ".part")
        return any(part.glob("*.tif.part")) or any(part.glob("map/*"))

    @property
    def runs(self):
        if self.code is None:
            self.code = self.ask("code", self.pid)
        return self.code is None

    def until(self, event, limit_s=120):
        """Wait for event(); False when the command ended before."""
        end = time.monotonic() + limit_s
        while not event():
            if not self.runs:
                return False
            assert time.monotonic() < end, "nothing happens"
            time.sleep(0.003)
        return True

    def kill(self):
        if self.runs:
            os.killpg(self.pid, signal.SIGKILL)
        self.until(lambda: not self.runs)

    def end(self):
        """Wait for the end: its exit code, and the two streams as one text."""
        self.until(lambda: False)
        return self.code, self.log.read_text()
