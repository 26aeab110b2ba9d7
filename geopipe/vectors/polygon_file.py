"""Polygons in a temporary file: a map may have a million, with a kilobyte of corners each."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from types import TracebackType
from typing import Self

import numpy as np
import shapely

from geopipe.oserrors import writing

_IN_MEMORY = 8 << 20
"""Bytes up to which there is no file yet."""


class PolygonFile:
    """Polygons by number, in the order they were added; memory holds 48 bytes of each.

    Raises OutputError where the folder of temporary files cannot take them.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (see __exit__)
        self._end = 0
        self._starts, self._sizes = array("q"), array("q")
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
        return len(self._starts)

    @property
    def bounds(self) -> np.ndarray:
        """(n, 4) left, top, right, bottom."""
        return np.array(self._bounds).reshape(-1, 4)

    def add(self, polygons: np.ndarray) -> None:
        """Add (n,) polygons."""
        first = len(self)
        self._starts.extend([0] * len(polygons))
        self._sizes.extend([0] * len(polygons))
        self._bounds.extend([0.0] * (4 * len(polygons)))
        self.replace(range(first, len(self)), polygons)

    def replace(self, numbers: Sequence[int] | np.ndarray, polygons: np.ndarray) -> None:
        """Give the polygons with these numbers other shapes."""
        numbers = np.asarray(numbers, np.int64).tolist()
        with writing(Path(gettempdir())):
            self._file.seek(self._end)
            for number, wkb in zip(numbers, shapely.to_wkb(polygons), strict=True):
                self._file.write(wkb)
                self._starts[number], self._sizes[number] = self._end, len(wkb)
                self._end += len(wkb)
        for number, box in zip(numbers, shapely.bounds(polygons).tolist(), strict=True):
            self._bounds[4 * number : 4 * number + 4] = array("d", box)

    def __getitem__(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,) polygons with these numbers."""
        read = []
        for number in np.asarray(numbers, np.int64).tolist():
            self._file.seek(self._starts[number])
            read.append(self._file.read(self._sizes[number]))
        return np.asarray(shapely.from_wkb(np.array(read, object)))
