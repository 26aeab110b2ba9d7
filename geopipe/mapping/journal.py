"""The journal of a map: which tiles are done, so that a run that was killed goes on.

One line of JSON per finished tile is appended beside the tile files. A tile is done when its line
is whole and its file has the size that the line tells; everything else is computed again.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from geopipe.errors import JobError
from geopipe.mapping.tile import TileResult
from geopipe.mapping.tile_store import tile_path

NAME = "journal.jsonl"
TILES = "tiles"
WORK = (NAME, TILES)
"""What a run that stopped leaves in the folder of its map."""


class Journal:
    """What is done of the tiles of one map, in `folder`.

    `inputs` (JSON values) decide the tiles' pixels: a journal of other inputs is refused, or
    thrown away where `restart`.
    """

    def __init__(
        self, folder: Path, inputs: Mapping[str, Any], tiles: int, *, restart: bool = False
    ) -> None:
        # What a worker of an earlier run with other inputs may still write lies elsewhere.
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        self.folder, self.tiles = folder, folder / TILES / digest[:8]
        self._done = bytearray(tiles)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(folder / NAME, flags, 0o644)
        try:
            self._begin(dict(inputs), restart)
        except BaseException:
            os.close(self._fd)
            raise

    def _begin(self, inputs: dict[str, Any], restart: bool) -> None:
        _lock(self._fd, self.folder)
        head = next(_lines(self.folder / NAME), None)
        if head is not None and not restart:
            text = f"{self.folder} holds an unfinished map made with another"
            require_equal(head, inputs, text)
        if head is not None and not _differing(head, inputs):
            os.write(self._fd, b"\n")  # ends a line that a kill cut off
        else:
            shutil.rmtree(self.folder / TILES, ignore_errors=True)
            os.ftruncate(self._fd, 0)
            self._append(inputs)
        self.tiles.mkdir(parents=True, exist_ok=True)

    def recorded(self) -> Iterator[tuple[int, TileResult]]:
        """The tiles that earlier runs did; bad ones are not among them, they are tried again."""
        for line in islice(_lines(self.folder / NAME), 1, None):
            index, done = line["tile"], TileResult(tuple(line["pixels"]), line["size"], line["bad"])
            is_complete_file = _size(tile_path(self.tiles, index)) == done.size
            if is_complete_file and not done.bad and not self._done[index]:
                self._done[index] = 1
                yield index, done

    def is_complete(self, index: int) -> bool:
        """Whether tile `index` is done."""
        return bool(self._done[index])

    def add(self, index: int, done: TileResult) -> None:
        """Record a finished tile."""
        self._done[index] = 1
        self._append({"tile": index, "pixels": done.pixels, "size": done.size, "bad": done.bad})

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._fd)

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the journal and its tiles from `folder`: the map is whole."""
        shutil.rmtree(folder / TILES, ignore_errors=True)
        (folder / NAME).unlink(missing_ok=True)

    def _append(self, values: dict[str, Any]) -> None:
        # One write per line: a process that is killed leaves whole lines or a cut last one.
        line = json.dumps(values).encode() + b"\n"
        if os.write(self._fd, line) != len(line):  # what follows would be glued to half a line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / NAME))


def _lock(fd: int, folder: Path) -> None:
    """Two runs on one folder would take each other's files; the lock goes with the process."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise JobError(
            f"another run is at work in {folder}", "wait for it, or give another folder"
        ) from e
    except OSError:  # a file system without locks: nothing can be told
        return


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`, which is made where there is none, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:  # folders cannot be opened on Windows, which has no such locks either
        yield
        return
    try:
        _lock(fd, folder)
        if not folder.exists() or folder.stat().st_ino != os.fstat(fd).st_ino:
            raise JobError(f"another run has just ended in {folder}", "run the same command again")
        yield
    finally:
        os.close(fd)


def unfinished(folder: Path) -> bool:
    """Whether tiles of an unfinished map lie in `folder`."""
    return len(list(islice(_lines(folder / NAME), 2))) == 2


def begun_inputs(folder: Path) -> dict[str, Any]:
    """The inputs of the map that was begun in `folder`; empty where none was."""
    return next(_lines(folder / NAME), {})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal, its head first; nothing when there is none."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:  # cut off by a kill, or the empty line after it
                continue
            if isinstance(values, dict):
                yield values


def require_equal(a: Mapping[str, Any], b: Mapping[str, Any], text: str) -> None:
    """Raise JobError, `text` and the names of what differs, unless two sets of inputs are equal."""
    if changed := _differing(a, b):
        raise JobError(f"{text} {', '.join(changed)}", "`restart` begins anew")


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Keys whose values are not written alike: a nodata of NaN equals itself."""
    first, second = ({key: json.dumps(value) for key, value in x.items()} for x in (a, b))
    return sorted(key for key in {*first, *second} if first.get(key) != second.get(key))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
