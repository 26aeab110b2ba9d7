"""Polygons in a temporary file: a map may have a million, with a kilobyte of corners each."""

from array import array
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import numpy as np
import shapely

_IN_MEMORY = 8 << 20
"""Bytes up to which there is no file yet."""


class PolygonFile:
    """Polygons by number, in the order they were added; memory holds 40 bytes of each."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (see __exit__)
        self._stops = array("q", [0])
        self._bounds = array("d")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._stops) - 1

    @property
    def bounds(self) -> np.ndarray:
        """(n, 4) left, top, right, bottom."""
        return np.array(self._bounds).reshape(-1, 4)

    def add(self, polygons: np.ndarray) -> None:
        """Add (n,) polygons; OSError where the disk cannot take them."""
        self._file.seek(self._stops[-1])
        for wkb in shapely.to_wkb(polygons):
            self._file.write(wkb)
            self._stops.append(self._stops[-1] + len(wkb))
        self._bounds.extend(shapely.bounds(polygons).ravel())

    def __getitem__(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,) polygons with these numbers."""
        read = []
        for number in np.asarray(numbers, np.int64).tolist():
            start, stop = self._stops[number], self._stops[number + 1]
            self._file.seek(start)
            read.append(self._file.read(stop - start))
        return np.asarray(shapely.from_wkb(np.array(read, object)))
