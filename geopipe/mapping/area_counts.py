"""How many separate areas of each class a class map has."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rasterio.windows import Window as RioWindow
from skimage.measure import label

from geopipe.classes import IGNORE
from geopipe.raster.scene import opened

_STRIP_PX = 2**20


def area_counts(class_map: Path, classes: int) -> tuple[int, ...]:
    """Areas of each class: sets of pixels that are connected by their sides.

    The map is read once, in strips of rows; where two parts of an area meet at the edge of a strip
    they are counted once.
    """
    totals = np.zeros(classes, np.int64)
    with opened(class_map) as src:
        above: tuple[np.ndarray, np.ndarray] | None = None
        joined = _Joined()
        base = 0
        rows = max(64, _STRIP_PX // src.width)
        for row in range(0, src.height, rows):
            height = min(rows, src.height - row)
            ids = src.read(1, window=RioWindow(0, row, src.width, height))
            parts, count = label(
                np.where(ids < classes, ids.astype(np.int16) + 1, 0),
                background=0,
                return_num=True,
                connectivity=1,
            )
            of_part = np.full(count + 1, IGNORE, np.uint8)
            of_part[parts.ravel()] = ids.ravel()
            totals += np.bincount(of_part[1:], minlength=256)[:classes]
            first = parts[0].astype(np.int64) + base
            if above is not None:
                meets = (above[0] == ids[0]) & (ids[0] < classes)
                for a, b, k in _distinct(above[1][meets], first[meets], ids[0][meets]):
                    totals[k] -= joined.join(a, b)
            above = ids[-1], parts[-1].astype(np.int64) + base
            base += count
    return tuple(totals.tolist())


def _distinct(*columns: np.ndarray) -> Iterator[tuple[int, ...]]:
    rows = np.unique(np.stack([c.astype(np.int64) for c in columns], axis=1), axis=0)
    return (tuple(row) for row in rows.tolist())


class _Joined:
    """Parts that are one area (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def join(self, a: int, b: int) -> bool:
        """Make `a` and `b` one; False where they are already."""
        a, b = self._root(a), self._root(b)
        self._parent[max(a, b)] = min(a, b)
        return a != b

    def _root(self, part: int) -> int:
        path = []
        while (parent := self._parent.get(part, part)) != part:
            path.append(part)
            part = parent
        self._parent.update(dict.fromkeys(path, part))
        return part
