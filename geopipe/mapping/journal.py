"""The journal of a map: which tiles are done, so that a run that was killed goes on.

One line of JSON per finished tile is appended beside the tile files. A tile is done when its line
is whole and its file has the size that the line tells; everything else is computed again.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue
from pydantic_core import from_json

from geopipe.errors import JobError
from geopipe.files import remove_folder
from geopipe.locks import lock
from geopipe.mapping.tile import TileResult
from geopipe.mapping.tile_store import tile_path
from geopipe.regularfile import require_regular
from geopipe.validation import Count, Schema, parse_json, shown_value

NAME = "journal.jsonl"
TILES = "tiles"
WORK = (NAME, TILES)
"""What a run that stopped leaves in the folder of its map."""
_MOST_LINE = 64 << 20
"""Bytes: the first line names every file of a mosaic."""
_DAMAGED = "`restart` begins anew"


class _Record(Schema):
    """A line of a finished tile."""

    tile: Count
    pixels: tuple[Count, ...] = Field(max_length=255)
    size: Count
    bad: str = Field(max_length=10_000)
    domain: tuple[float | None, ...] = Field(default=(), max_length=1_000_000)


class Journal:
    """What is done of the tiles of one map, in `folder`.

    `inputs` (JSON values) decide the tiles' pixels: a journal of other inputs is refused, or
    thrown away where `restart`.
    """

    def __init__(
        self,
        folder: Path,
        inputs: Mapping[str, Any],
        tiles: int,
        *,
        classes: int,
        restart: bool = False,
    ) -> None:
        # What a worker of an earlier run with other inputs may still write lies elsewhere.
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        self.folder, self.tiles = folder, folder / TILES / digest[:8]
        self._done, self._classes = bytearray(tiles), classes
        require_regular(folder / NAME, JobError)  # opening a pipe would wait
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(folder / NAME, flags, 0o644)
        try:
            self._begin(dict(inputs), restart)
        except BaseException:
            os.close(self._fd)
            raise

    def _begin(self, inputs: dict[str, Any], restart: bool) -> None:
        lock(self._fd, self.folder)
        first = next(_lines(self.folder / NAME), None)
        head = None if first is None else _inputs(first, self.folder / NAME)
        if head is not None and not restart:
            text = f"{self.folder} holds an unfinished map made with another"
            require_equal(head, inputs, text)
        if head is not None and not _differing(head, inputs):
            os.write(self._fd, b"\n")  # ends a line that a kill cut off
        else:
            remove_folder(self.folder / TILES)
            os.ftruncate(self._fd, 0)
            self._append(inputs)
        self.tiles.mkdir(parents=True, exist_ok=True)

    def recorded(self) -> Iterator[tuple[int, TileResult]]:
        """The tiles that earlier runs did; bad ones are not among them, they are tried again."""
        for line in islice(_lines(self.folder / NAME), 1, None):
            index, done = self._result(line)
            is_complete_file = _size(tile_path(self.tiles, index)) == done.size
            if is_complete_file and not done.bad and not self._done[index]:
                self._done[index] = 1
                yield index, done

    def _result(self, line: bytes) -> tuple[int, TileResult]:
        """The tile that a line is about; JobError where it cannot be one of this map."""
        source = f"{self.folder / NAME}, line {shown_value(line.decode(errors='replace'))},"
        record = parse_json(line, _Record, source, JobError, _DAMAGED)
        if record.tile >= len(self._done) or len(record.pixels) != self._classes:
            raise JobError(
                f"{source} is damaged: tile {record.tile} of {len(self._done)} with "
                f"{len(record.pixels)} classes of {self._classes}",
                _DAMAGED,
            )
        return record.tile, TileResult(record.pixels, record.size, record.bad, record.domain)

    def is_complete(self, index: int) -> bool:
        """Whether tile `index` is done."""
        return bool(self._done[index])

    def add(self, index: int, done: TileResult) -> None:
        """Record a finished tile."""
        self._done[index] = 1
        line = {"tile": index, "pixels": done.pixels, "size": done.size, "bad": done.bad}
        self._append(line | ({"domain": done.domain} if done.domain else {}))

    def domains(self) -> Iterator[tuple[int, tuple[float | None, ...]]]:
        """Tiles and the domain scores of their cells, each tile once; read from the file again."""
        seen = bytearray(len(self._done))
        for line in islice(_lines(self.folder / NAME), 1, None):
            index, done = self._result(line)
            if done.domain and not seen[index]:
                seen[index] = 1
                yield index, done.domain

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._fd)

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the journal and its tiles from `folder`: the map is whole."""
        remove_folder(folder / TILES)
        with suppress(OSError):
            (folder / NAME).unlink(missing_ok=True)

    def _append(self, values: dict[str, Any]) -> None:
        # One write per line: a process that is killed leaves whole lines or a cut last one.
        line = json.dumps(values).encode() + b"\n"
        if os.write(self._fd, line) != len(line):  # what follows would be glued to half a line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / NAME))


def unfinished(folder: Path) -> bool:
    """Whether tiles of an unfinished map lie in `folder`."""
    return len(list(islice(_lines(folder / NAME), 2))) == 2


def _inputs(line: bytes, path: Path) -> dict[str, Any]:
    source = f"{path}, line 1,"
    return dict(parse_json(line, dict[str, JsonValue], source, JobError, _DAMAGED))


def begun_inputs(folder: Path) -> dict[str, Any]:
    """The inputs of the map that was begun in `folder`; empty where none was."""
    first = next(_lines(folder / NAME), None)
    return _inputs(first, folder / NAME) if first else {}


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a journal, its head first; nothing when there is none.

    A line that is no JSON object was cut off by a kill, or is the empty one after it.
    """
    if not require_regular(path, JobError):
        return
    with path.open("rb") as file:
        while line := file.readline(_MOST_LINE):
            try:
                is_record = isinstance(from_json(line), dict)
            except ValueError:
                continue
            if is_record:
                yield line


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
