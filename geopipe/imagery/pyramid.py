"""Tile pyramids: levels of WMTS, XYZ and ArcGIS tiles, and the tiles that cover a place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe.errors import ServiceError
from geopipe.grid import Window
from geopipe.imagery.plan import (
    COARSER,
    Bounds,
    DownloadLimits,
    TileRequest,
    bounds_in,
    plane,
    unit_on_ground,
)


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """A tile matrix: tiles of one resolution."""

    name: str
    pixel: float
    """Units of the CRS."""
    origin: tuple[float, float]
    """x, y of the upper left corner of tile (0, 0)."""
    tile: tuple[int, int]
    """Pixels a tile is high and wide."""
    rows: range
    cols: range
    """Tiles that exist."""

    @property
    def extent(self) -> Bounds:
        """Left, bottom, right, top of its tiles."""
        (x, y), (height, width) = self.origin, (n * self.pixel for n in self.tile)
        return (
            x + self.cols.start * width,
            y - self.rows.stop * height,
            x + self.cols.stop * width,
            y - self.rows.start * height,
        )


@dataclass(frozen=True)
class Pyramid:
    """Levels in one CRS."""

    name: str
    crs: CRS
    levels: tuple[PyramidLevel, ...]

    def level(self, bounds: Bounds, gsd: float) -> tuple[PyramidLevel, float]:
        """The coarsest level whose pixels are not larger than `gsd`, and metres that they have.

        On the ground, and larger by `COARSER` at most. Raises ServiceError when all are coarser.
        """
        unit = unit_on_ground(self.crs, bounds_in(self.crs, bounds))
        sizes = {level: level.pixel * unit for level in self.levels}
        fine = [level for level, size in sizes.items() if size <= COARSER * gsd]
        if not fine:
            finest = min(sizes.values())
            raise ServiceError(
                f"the finest pixels of {self.name} are {finest:.3g} m here, not {gsd:g} m",
                f"give `gsd` {finest:.3g} or more",
            )
        best = max(fine, key=lambda level: level.pixel)
        return best, sizes[best]

    def cover(
        self,
        level: PyramidLevel,
        bounds: Bounds,
        limits: DownloadLimits,
        address: Callable[[int, int], str],
    ) -> tuple[GeoBox, tuple[TileRequest, ...]]:
        """The pixels of `level` that meet `bounds`, and the tiles that have them.

        `address`: of the tile in a row and column. Raises ServiceError when there are none.
        """
        box = bounds_in(self.crs, bounds)
        left, bottom, right, top = level.extent
        if box[0] >= right or box[2] <= left or box[1] >= top or box[3] <= bottom:
            raise ServiceError(
                f"level {level.name} of {self.name} has no tiles within the bounds",
                "check the bounds: west south east north",
            )
        geobox, window = plane(self.crs, level.origin, level.pixel, box)
        height, width = level.tile
        rows = range(window.row // height, -(-window.bottom // height))
        cols = range(window.col // width, -(-window.right // width))
        limits.check(window.height * window.width, len(rows) * len(cols))
        tile_requests = tuple(
            TileRequest(
                Window(row * height - window.row, col * width - window.col, height, width),
                address(row, col),
            )
            for row in rows
            if row in level.rows
            for col in cols
            if col in level.cols
        )
        return geobox, tile_requests


def best_pyramid(pyramids: Sequence[Pyramid], bounds: Bounds, gsd: float) -> Pyramid:
    """The one whose pixels come nearest to `gsd` from below, a projected one if there is any.

    Raises ServiceError when all are coarser or elsewhere.
    """
    fitting: list[tuple[bool, float, int]] = []
    errors: list[ServiceError] = []
    for i, pyramid in enumerate(pyramids):
        try:
            level, size = pyramid.level(bounds, gsd)
            pyramid.cover(level, bounds, DownloadLimits(10**12), lambda _row, _col: "")
        except ServiceError as e:
            errors.append(e)
            continue
        fitting.append((bool(pyramid.crs.is_geographic), -size, i))
    if not fitting:
        raise errors[0]
    return pyramids[min(fitting)[2]]
