"""The ground being built on, and what already stands there."""

from __future__ import annotations

import numpy as np
import shapely
from _base import Building, Patch, TileSpec, polygons_of
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry


class Site:
    """Ground being built on: refuses what would overlap roads, water or neighbours."""

    def __init__(self, spec: TileSpec, roads: BaseGeometry, water: BaseGeometry) -> None:
        self.spec = spec
        self.keep_out = shapely.union_all([roads.buffer(0.9), water.buffer(6)])
        shapely.prepare(self.keep_out)
        self._cells = self._cut_up(spec)
        self._tree = shapely.STRtree(self._cells)
        self.buildings: list[Building] = []
        self.patches: list[Patch] = []
        self.plots: list[Polygon] = []
        self.fences: list[LineString] = []
        self.garden_trees: list[tuple[float, float, float]] = []
        self.cars: list[tuple[float, float, float, float]] = []
        self._shapes: list[Polygon] = []

    def _cut_up(self, spec: TileSpec) -> list[BaseGeometry]:
        """Keep-out ground in cells of 100 m: cutting with all of it at once is slow."""
        corners = np.arange(-200.0, spec.metres + 200, 100)
        cells = [
            self.keep_out.intersection(shapely.box(x, y, x + 100, y + 100))
            for x in corners
            for y in corners
        ]
        return [cell for cell in cells if not cell.is_empty]

    def _open(self, shape: BaseGeometry) -> BaseGeometry:
        """Return a shape less roads and water."""
        near = [self._cells[int(k)] for k in np.sort(self._tree.query(shape))]
        return shape.difference(shapely.union_all(near)) if near else shape

    def fits(self, shape: Polygon, gap: float) -> bool:
        """Whether a footprint is clear of everything already there."""
        if self.keep_out.intersects(shape):
            return False
        return not (self._shapes and shapely.dwithin(np.array(self._shapes), shape, gap).any())

    def reserve(self, shape: Polygon) -> None:
        """Keep houses and gardens off a piece of ground."""
        self._shapes.append(shape)
        self.plots.append(shape)

    def place(self, building: Building, gap: float) -> bool:
        """Build if there is room."""
        shape = building.footprint()
        if not self.fits(shape, gap):
            return False
        self._shapes.append(shape)
        self.buildings.append(building)
        return True

    def free(self, shape: Polygon) -> Polygon | None:
        """Return what of a plot no road and no earlier plot has taken."""
        rest = self._open(shape)
        if self.plots:
            plots = np.array(self.plots)
            near = plots[shapely.intersects(plots, shape)]
            rest = rest.difference(shapely.union_all(near))
        parts = polygons_of(rest)
        return max(parts, key=lambda p: p.area) if parts else None

    def yard(self, polygon: BaseGeometry, cover: str, angle: float = 0.0) -> None:
        """Cover ground with something other than the field around it, roads excepted."""
        for piece in polygons_of(self._open(polygon)):
            if piece.area > 4:
                self.patches.append(Patch(piece, cover, angle))
