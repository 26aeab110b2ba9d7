"""How far the image of each cell of a scene is from what a model learned from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from geopipe.checkpoint.domain import CELL_PX
from geopipe.grid import NetworkGrid, Window
from geopipe.nets.features import CellEdges

MIN_VALID = 0.75
"""Share of a cell's pixels that are valid; with less, its features are those of the hole."""
_MIN_SIDE = 0.5
"""Of CELL_PX; a narrower cell at the edge of a scene is not comparable."""


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells of a window of a scene: as nearly CELL_PX network pixels as fit, all alike."""

    window: Window
    rows: int
    cols: int

    @classmethod
    def of(cls, grid: NetworkGrid, window: Window) -> "CellGrid | None":
        """None for a window that is narrower than half a cell."""
        sides = [n / f / CELL_PX for n, f in zip(window.shape, grid.factor, strict=True)]
        if min(sides) < _MIN_SIDE:
            return None
        rows, cols = (max(1, round(n)) for n in sides)
        return cls(window, rows, cols)

    @property
    def borders(self) -> tuple[list[int], list[int]]:
        """Rows and columns of the scene at which cells begin and end."""
        rows, cols = (
            [first + n * i // k for i in range(k + 1)]
            for first, n, k in (
                (self.window.row, self.window.height, self.rows),
                (self.window.col, self.window.width, self.cols),
            )
        )
        return rows, cols

    def __iter__(self) -> Iterator[Window]:
        """Scene pixels of each cell, row by row."""
        rows, cols = self.borders
        for (top, bottom), (left, right) in product(pairwise(rows), pairwise(cols)):
            yield Window(top, left, bottom - top, right - left)

    def edges(self, grid: NetworkGrid, image: Window) -> CellEdges:
        """Where the cells lie in `image`, the network pixels that the network is given."""
        rows, cols = (
            [((border - axis.start) / axis.factor - first) / size for border in borders]
            for borders, axis, first, size in zip(
                self.borders, grid.axes, (image.row, image.col), image.shape, strict=True
            )
        )
        return CellEdges(rows, cols)

    def is_known(self, valid: np.ndarray) -> np.ndarray:
        """(cells,) bool from (h, w) bool of the window: whether enough of each cell is valid."""
        at = (cell.within(self.window) for cell in self)
        return np.array([valid[inside].mean() >= MIN_VALID for inside in at])


def as_record(scores: np.ndarray, known: np.ndarray) -> tuple[float | None, ...]:
    """Scores for a line of the journal; None for cells without enough of an image."""
    return tuple(
        round(float(s), 3) if k and math.isfinite(s) else None
        for s, k in zip(scores, known, strict=True)
    )
