"""PatchGrid: the cells that patches are centred on, each with its class where that is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.grid import Window
from geopipe.learn.patches.rasters import PatchRaster

LABELLED = 0.5
"""Least share of a cell's pixels that are labelled, and of these that are of its class."""
BLOCK_CELLS = 16
"""Cells a side of the blocks that a plane is read in."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Cells of `cell` x `cell` px, on the grid that starts in the corner of their plane."""

    rasters: tuple[PatchRaster, ...]
    cell: int
    positions: np.ndarray
    """(n, 3) int32: plane, row and column of the cell on the grid."""
    ids: np.ndarray
    """(n,) uint8; IGNORE where the class is not known."""

    @classmethod
    def of(cls, rasters: Sequence[PatchRaster], cell: int) -> "PatchGrid":
        """All cells of the planes that have their middle in them, plane by plane, row by row."""
        positions, ids = [], []
        for number, raster in enumerate(rasters):
            rows, cols = (max(1, (n + cell // 2) // cell) for n in raster.shape)
            raster_positions = np.indices((rows, cols)).reshape(2, -1).T
            positions.append(
                np.column_stack([np.full(len(raster_positions), number), raster_positions])
            )
            ids.append(_majorities(raster, cell, (rows, cols)))
        if not positions:
            raise SceneError("no image, so no cell", "give chips or scenes")
        return cls(
            tuple(rasters), cell, np.concatenate(positions).astype(np.int32), np.concatenate(ids)
        )

    def __len__(self) -> int:
        return len(self.positions)

    def subset(self, indices: np.ndarray) -> "PatchGrid":
        """The cells with these indices, or where this mask is true."""
        return PatchGrid(self.rasters, self.cell, self.positions[indices], self.ids[indices])

    def labelled(self, ids: np.ndarray) -> "PatchGrid":
        """The same cells with other classes."""
        return PatchGrid(self.rasters, self.cell, self.positions, ids.astype(np.uint8))

    def joined(self, other: "PatchGrid") -> "PatchGrid":
        """These cells and those of other planes."""
        if self.cell != other.cell:
            raise ConfigError(f"cells of {self.cell} px and of {other.cell} px do not mix")
        other_positions = other.positions + np.array([len(self.rasters), 0, 0], np.int32)
        return PatchGrid(
            (*self.rasters, *other.rasters),
            self.cell,
            np.concatenate([self.positions, other_positions]),
            np.concatenate([self.ids, other.ids]),
        )

    def split(self, share: float, seed: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
        """(n,) bool each: cells to learn from, and about `share` of all to judge by.

        Whole planes, class by class; of a single plane its lower part, and then the cells above
        whose patches of `largest` px would look into it are in neither.
        """
        if len(self.rasters) == 1:
            rows = self.positions[:, 1]
            test = rows >= np.quantile(rows, 1 - share)
            gap = -(-(largest - self.cell) // self.cell)
            return np.asarray(rows < rows[test].min() - gap), test
        main = self._main_class
        out = np.zeros(len(self.rasters), bool)
        for class_id in np.unique(main):
            shuffled = np.random.default_rng([seed, class_id]).permutation(
                np.flatnonzero(main == class_id)
            )
            out[shuffled[: round(share * len(shuffled))]] = True
        test = out[self.positions[:, 0]]
        return ~test, test

    @property
    def _main_class(self) -> np.ndarray:
        """(planes,) the most frequent class id of each plane's cells."""
        counts = np.zeros((len(self.rasters), 256), np.int64)
        np.add.at(counts, (self.positions[:, 0], self.ids), 1)
        return np.asarray(counts.argmax(1))

    @cached_property
    def by_class(self) -> dict[int, np.ndarray]:
        """Class id -> indices of its cells."""
        return {int(k): np.flatnonzero(self.ids == k) for k in np.unique(self.ids) if k != IGNORE}

    def absent_classes(self, scheme: ClassScheme) -> list[str]:
        """Names of the classes without a single cell; LabelError where fewer than two have any."""
        max_count = max(self.by_class, default=0)
        if max_count >= len(scheme):
            raise LabelError(
                f"labels hold the class id {max_count}, classes are 0 to {len(scheme) - 1}: "
                f"{', '.join(scheme.names)}",
                f"give `unlabelled` {max_count} if it says that nothing is known there",
            )
        if len(self.by_class) < 2:
            present = ", ".join(scheme.names[i] for i in self.by_class) or "any class"
            raise LabelError(
                f"no cell is of another class than {present}", "give images of two or more"
            )
        return [name for i, name in enumerate(scheme.names) if i not in self.by_class]

    def window(self, index: int, size: int) -> Window:
        """The patch of `size` px around a cell, in its plane."""
        _, row, col = self.positions[index].tolist()
        out = (size - self.cell) // 2
        return Window(row * self.cell - out, col * self.cell - out, size, size)

    def blocks(self) -> Iterator[tuple[PatchRaster, Window, np.ndarray]]:
        """Plane, window of whole cells, and indices of the cells in it; each cell in one block.

        Windows of which less than half is asked for are cut in four, again and again.
        """
        side, left = BLOCK_CELLS, np.arange(len(self))
        while len(left):
            sparse = []
            for indices in self._grouped(left, side):
                first = self.positions[indices, 1:].min(0)
                rows, cols = (self.positions[indices, 1:].max(0) + 1 - first).tolist()
                if side > 1 and 2 * len(indices) < rows * cols:
                    sparse.append(indices)
                    continue
                row, col = (first * self.cell).tolist()
                window = Window(row, col, rows * self.cell, cols * self.cell)
                yield self.rasters[self.positions[indices[0], 0]], window, indices
            side, left = side // 2, np.concatenate(sparse) if sparse else left[:0]

    def _grouped(self, mask: np.ndarray, side: int) -> list[np.ndarray]:
        """The indices `mask`, parted by squares of `side` x `side` cells."""
        keys = np.column_stack([self.positions[mask, 0], self.positions[mask, 1:] // side])
        _, square = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(square, kind="stable")
        return np.split(mask[order], np.flatnonzero(np.diff(square[order])) + 1)


def _majorities(raster: PatchRaster, cell: int, grid: tuple[int, int]) -> np.ndarray:
    """The class of each cell, (rows * cols,) uint8; IGNORE where there is none.

    It is that of at least half of the cell's labelled pixels, if at least half are labelled.
    """
    class_ids = np.full(grid, IGNORE, np.uint8)
    for row, col in product(*(range(0, n, BLOCK_CELLS) for n in grid)):
        block = class_ids[row : row + BLOCK_CELLS, col : col + BLOCK_CELLS]
        rows, cols = block.shape
        window = Window(row * cell, col * cell, rows * cell, cols * cell).clip(raster.shape)
        ids = raster.labels(window)
        pad = (rows * cell - window.height, cols * cell - window.width)
        ids = np.pad(ids, ((0, pad[0]), (0, pad[1])), constant_values=IGNORE)
        by_cell = ids.reshape(rows, cell, cols, cell).swapaxes(1, 2).reshape(-1, cell * cell)
        counts = np.stack([np.bincount(c, minlength=256)[:IGNORE] for c in by_cell])
        labelled, best = counts.sum(1), counts.argmax(1)
        is_labelled = (labelled >= LABELLED * cell**2) & (counts.max(1) >= LABELLED * labelled)
        block[:] = np.where(is_labelled, best, IGNORE).reshape(rows, cols)
    return class_ids.ravel()
