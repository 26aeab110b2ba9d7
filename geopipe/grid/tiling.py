"""Tiling: the partition of a pixel grid into cores, each owned by exactly one tile."""

from collections.abc import Iterator
from dataclasses import dataclass

from geopipe.errors import GridError
from geopipe.grid.window import Window

BLOCK = 256
"""Side of an output block: cores are multiples of it, so that no block is written twice."""
MOST_CORE = 16384
"""Longest side of a core."""


@dataclass(frozen=True, slots=True)
class Tile:
    """`core` = the pixels this tile owns; `read` = core + halo, not clipped to the plane."""

    index: int
    core: Window
    read: Window

    def __str__(self) -> str:
        core = self.core
        return f"{self.index} (rows {core.row}-{core.bottom}, columns {core.col}-{core.right})"


@dataclass(frozen=True, slots=True)
class Tiling:
    """Cores of `core` x `core` px cut the plane row by row; the last ones are smaller."""

    shape: tuple[int, int]
    core: int
    halo: int = 0

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise GridError(f"cannot tile an empty plane of {self.shape[0]} x {self.shape[1]} px")
        require_core(self.core)
        if self.halo < 0:
            raise GridError(f"halo={self.halo} is negative")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.shape[0] // self.core), -(-self.shape[1] // self.core)

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = (i * self.core for i in divmod(index, self.grid[1]))
        core = Window(row, col, self.core, self.core).clip(self.shape)
        return Tile(index, core, core.expand(self.halo))

    def __iter__(self) -> Iterator[Tile]:
        return (self[i] for i in range(len(self)))

    def banded(self, columns: int = 6) -> Iterator[Tile]:
        """All tiles, row by row within bands of `columns` columns of tiles.

        Neighbours share blocks of the file; within a band they are still in a small cache when
        the row below comes, however wide the scene is.
        """
        rows, cols = self.grid
        for first in range(0, cols, columns):
            for row in range(rows):
                for col in range(first, min(first + columns, cols)):
                    yield self[row * cols + col]


def require_core(core: int) -> None:
    """Raise GridError unless tiles may have a side of `core` px."""
    if core > MOST_CORE:
        raise GridError(f"a tile size of {core} is more than {MOST_CORE}; try 1024")
    if core < BLOCK or core % BLOCK:
        nearest_multiple = max(BLOCK, round(core / BLOCK) * BLOCK)
        raise GridError(
            f"a tile size of {core} is not a multiple of {BLOCK}; try {nearest_multiple}"
        )
