"""Tiles of a finished map computed again, exactly as its rasters have them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geopipe.grid import Tile, Tiling, Window
from geopipe.mapping.sieve import least_pixels, sieved_window
from geopipe.mapping.tile import TileJob
from geopipe.mapping.tile_store import tile_path
from geopipe.parallel import LOCAL, Workers, run_tiles
from geopipe.progress import progress
from geopipe.raster.scene import opened


@dataclass
class Recomputation:
    """The map that `job` makes of a scene, of which tiles are computed when they are needed.

    `min_area`: square metres of each class, as `sieve` takes them. What is computed goes to
    ``job.folder``. Errors as those of `map_scene`.
    """

    job: TileJob
    tiling: Tiling
    min_area: Sequence[float]
    workers: Workers = LOCAL
    _done: set[int] = field(default_factory=set)

    def compute(self, tiles: Sequence[Tile]) -> None:
        """Compute `tiles`, side by side, and what lies around them as far as it is needed."""
        margin = int(self._least.max(initial=0)) if any(self.min_area) else 0
        self._compute(i for tile in tiles for i in self._tiles_of(self._around(tile, margin)))

    def rasters(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """Classes (h, w) and levels (bands, h, w) uint8: the confidence, the scores of the job.

        A small area is removed by its neighbours, which may lie in other tiles: of these as many
        are looked at as the pixels of the tile can depend on.
        """
        bands = self._read(tile)
        if not any(self.min_area):
            return bands[0], bands[1:]
        margin, least = int(self._least.max()), self._least
        while True:
            window = self._around(tile, margin)
            rows, cols = self.tiling.shape
            sides = window.row > 0, window.bottom < rows, window.col > 0, window.right < cols
            classes, certain = sieved_window(self._raw_classes(window), least, sides)
            inside = tile.core.within(window)
            if certain[inside].all():
                return classes[inside], bands[1:]
            margin *= 2

    @property
    def _least(self) -> np.ndarray:
        return least_pixels(self.job.scene.geobox, self.min_area)

    def _around(self, tile: Tile, margin: int) -> Window:
        return tile.core.expand(margin).clip(self.tiling.shape)

    def _tiles_of(self, window: Window) -> list[int]:
        """The tiles that have pixels of `window`, which lies in the plane."""
        core, columns = self.tiling.core, self.tiling.grid[1]
        rows = range(window.row // core, (window.bottom - 1) // core + 1)
        cols = range(window.col // core, (window.right - 1) // core + 1)
        return [row * columns + col for row in rows for col in cols]

    def _compute(self, indexes: Iterable[int]) -> None:
        missing = [self.tiling[i] for i in sorted(set(indexes) - self._done)]
        with progress("computing", len(missing)) as advance:
            for tile, _ in run_tiles(self.job, missing, self.workers):
                self._done.add(tile.index)
                advance()

    def _read(self, tile: Tile) -> np.ndarray:
        with opened(tile_path(Path(self.job.folder), tile.index)) as src:
            return np.asarray(src.read())

    def _raw_classes(self, window: Window) -> np.ndarray:
        """(h, w) uint8: the classes of `window` before areas are removed."""
        indexes = self._tiles_of(window)
        self._compute(indexes)
        ids = np.empty(window.shape, np.uint8)
        for tile in (self.tiling[i] for i in indexes):
            core = tile.core
            row, col = max(core.row, window.row), max(core.col, window.col)
            bottom, right = min(core.bottom, window.bottom), min(core.right, window.right)
            part = Window(row, col, bottom - row, right - col)
            ids[part.within(window)] = self._read(tile)[0][part.within(core)]
        return ids
