"""ChipIndex: the chips of a folder on disk, read. Writer: chips appended to it."""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from geopipe.errors import ChipIndexError
from geopipe.files import atomic_file, clean_parts
from geopipe.oserrors import writing
from geopipe.regularfile import require_regular
from geopipe.retrieve.header import NAME, VECTORS, Header, IndexPart, Unfinished
from geopipe.retrieve.rows import ChipRow, read_columns, read_rows, write_rows

_STEP = 1 << 24
"""Bytes that are hashed at a time."""


@dataclass(frozen=True, eq=False)
class ChipIndex:
    """An index as it was when it was opened, even if a build goes on."""

    folder: Path
    header: Header

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open and compare sizes; ChipIndexError where something is missing, short or damaged."""
        header = Header.read(folder)
        index = cls(folder, header)
        for name in (VECTORS, *(p.file for p in header.parts)):
            require_regular(folder / name, ChipIndexError)
        needed = header.count * index.row_bytes
        stored_size = _size(folder / VECTORS)
        if stored_size < needed:
            raise ChipIndexError(
                f"{folder / VECTORS} has {max(stored_size, 0)} bytes, {header.count} chips need "
                f"{needed}",
                "the index is damaged: remove its folder, and build it again",
            )
        for part in header.parts:
            size = _size(folder / part.file)
            if size != part.size:
                state = "is missing" if size < 0 else f"has {size} bytes, not {part.size}"
                raise ChipIndexError(
                    f"{folder / part.file} {state}",
                    "the index is damaged: remove its folder, and build it again",
                )
        return index

    def __len__(self) -> int:
        return self.header.count

    @property
    def row_bytes(self) -> int:
        """Bytes of a vector on the disk."""
        return self.header.width * np.dtype(self.header.dtype).itemsize

    @cached_property
    def vectors(self) -> np.ndarray:
        """(n, d) float32 or float16, mapped from the disk: only what is looked at is read."""
        if not len(self):
            return np.zeros((0, self.header.width), self.header.dtype)
        shape = len(self), self.header.width
        return np.memmap(
            self.folder / VECTORS, f"<{self.header.dtype[0]}{_bytes(self.header)}", "r", 0, shape
        )

    def rows(self, ids: Sequence[int]) -> list[ChipRow]:
        """The rows of chips by their numbers, in that order; reads only the parts they are in."""
        starts = [p.first for p in self.header.parts]
        by_part: dict[int, list[int]] = {}
        for i in ids:
            by_part.setdefault(bisect_right(starts, i) - 1, []).append(i)
        row_by_id: dict[int, ChipRow] = {}
        for number, part_ids in by_part.items():
            part = self.header.parts[number]
            rows = read_rows(
                self.folder / part.file, part.count, [i - part.first for i in part_ids]
            )
            row_by_id |= dict(zip(part_ids, rows, strict=True))
        return [row_by_id[i] for i in ids]

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """These columns of all rows, row by row."""
        for part in self.header.parts:
            table = read_columns(self.folder / part.file, part.count, names)
            yield from zip(*(table[n].to_pylist() for n in names), strict=True)

    def column(self, name: str) -> list[Any]:
        """A column of all rows."""
        return [value for (value,) in self.columns([name])]

    def all_rows(self, stop: int | None = None) -> Iterator[ChipRow]:
        """All rows, or those with numbers below `stop`, part by part."""
        for part in self.header.parts:
            left = part.count if stop is None else min(part.count, stop - part.first)
            if left > 0:
                yield from read_rows(self.folder / part.file, part.count, range(left))

    def verify(self) -> None:
        """Read everything and compare hashes; ChipIndexError naming what differs."""
        for part in self.header.parts:
            slice_ = part.first * self.row_bytes, (part.first + part.count) * self.row_bytes
            for file, actual, expected in (
                (part.file, _sha256(self.folder / part.file), part.sha256),
                (VECTORS, _sha256(self.folder / VECTORS, *slice_), part.vectors_sha256),
            ):
                if actual != expected:
                    raise ChipIndexError(
                        f"{self.folder / file} is not what was written "
                        f"(chips {part.first} to {part.first + part.count - 1})",
                        "the index is damaged: remove its folder, and build it again",
                    )

    @property
    def digest(self) -> str:
        """sha256 over model, vectors and rows, as their hashes in the header."""
        parts = [self.header.model["weights_sha256"], self.header.dtype]
        parts += [h for p in self.header.parts for h in (p.sha256, p.vectors_sha256)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Writer:
    """The only one who adds to the index in `folder`; see to that with a lock."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Take the index as it is, or begin one; bytes that a kill left behind are cut off."""
        self.folder = folder
        if (folder / NAME).exists():
            header = ChipIndex.open(folder).header
        self.header = header
        clean_parts(folder)
        with writing(folder / VECTORS), (folder / VECTORS).open("ab") as file:
            file.truncate(header.count * ChipIndex(folder, header).row_bytes)

    def write(self, header: Header) -> None:
        """Make `header` the index's own."""
        header.write(self.folder)
        self.header = header

    def append(
        self, vectors: np.ndarray, rows: Sequence[ChipRow], unfinished: Unfinished | None
    ) -> None:
        """Add chips, all or none: vectors (n, d), their rows, and how far the build is then."""
        old = self.header
        if not len(rows):
            self.write(old.patch(unfinished=unfinished))
            return
        if old.width not in (0, vectors.shape[1]):
            raise ChipIndexError(
                f"vectors of {vectors.shape[1]} values do not fit an index of {old.width}"
            )
        data = np.ascontiguousarray(vectors, f"<{old.dtype[0]}{_bytes(old)}")
        name = f"chips-{len(old.parts):05d}.parquet"
        with writing(self.folder / VECTORS), (self.folder / VECTORS).open("ab") as file:
            file.write(data.data.cast("B"))
            file.flush()
            os.fsync(file.fileno())
        with atomic_file(self.folder / name) as part:
            write_rows(part, old.count, rows)
        index_part = IndexPart(
            name,
            old.count,
            len(rows),
            _size(self.folder / name),
            _sha256(self.folder / name),
            hashlib.sha256(data.data.cast("B")).hexdigest(),
        )
        self.write(
            old.patch(
                width=data.shape[1],
                count=old.count + len(rows),
                parts=(*old.parts, index_part),
                unfinished=unfinished,
            )
        )


def _bytes(header: Header) -> int:
    return np.dtype(header.dtype).itemsize


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _sha256(path: Path, first: int = 0, last: int | None = None) -> str:
    """Of the bytes `first` to `last` of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(first)
        left = _size(path) - first if last is None else last - first
        while left > 0 and (batch := file.read(min(_STEP, left))):
            digest.update(batch)
            left -= len(batch)
    return digest.hexdigest()
