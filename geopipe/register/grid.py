"""RegistrationGrid: the grid on which labels are compared with the image."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geopipe.checkpoint import network_input
from geopipe.errors import LabelError
from geopipe.grid import NetworkGrid, Window, ground_gsd
from geopipe.labels import ClippedLabels, LabelSource, VectorLabels
from geopipe.labels.rasterize import rasterize
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox

MIN_GSD_M = 0.5
"""Finer scenes are averaged to this: outlines are not known better than that."""
RIM_PX = 4
"""Pixels around a whole shape: one that fills its bounding box would have no outline in it."""
PART_M = 60.0
"""Longer shapes (roads) are looked at in parts, since a shift changes along them."""


@dataclass(frozen=True)
class LabelPart:
    """A shape, or a part of a long one, on the plane."""

    class_id: int
    shape: int
    """Its place among the labels' shapes."""
    window: Window
    mask: np.ndarray
    """(h, w) bool of `window`: True inside."""


@dataclass(frozen=True)
class RegistrationGrid:
    """A scene's pixels, averaged where they are finer than FINEST_M, and vector labels there."""

    scene: Scene
    labels: VectorLabels
    network_grid: NetworkGrid
    gsd: float
    """Metres on the ground per pixel of the plane."""

    @classmethod
    def of(cls, scene: Scene, labels: LabelSource) -> Self:
        """The plane for `scene`; LabelError when the labels are no vectors."""
        source = labels.labels if isinstance(labels, ClippedLabels) else labels
        if not isinstance(source, VectorLabels):
            raise LabelError(
                "a raster of labels has no outlines to move", "give the vectors it was burned from"
            )
        gsd = max(MIN_GSD_M, *ground_gsd(scene.geobox))
        return cls(scene, source, NetworkGrid.of(scene.geobox, gsd), gsd)

    @cached_property
    def geobox(self) -> GeoBox:
        """Of the plane."""
        return self.network_grid.geobox(self.scene.geobox)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels of the plane."""
        return self.network_grid.shape

    def px(self, metres: float) -> int:
        """`metres` on the ground in whole pixels, at least one."""
        return max(1, round(metres / self.gsd))

    def image(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(bands, h, w) float32 in the scene's units and (h, w) bool, where it is valid."""
        if self.network_grid.factor == (1.0, 1.0):  # nothing to average
            raster = self.scene.read(window)
            return raster.data.astype(np.float32), raster.valid
        pixels, valid = network_input(self.scene, self.network_grid, window)
        return pixels.numpy(), valid.numpy()

    def to_px(self, xy: np.ndarray) -> np.ndarray:
        """Places (n, 2) of the scene's CRS as (n, 2) row, column, whole at upper left corners."""
        a = ~self.geobox.affine
        x, y = xy.T
        return np.column_stack([x * a.d + y * a.e + a.f, x * a.a + y * a.b + a.c])

    def from_px(self, positions: np.ndarray) -> np.ndarray:
        """Inverse of `to_px`."""
        a = self.geobox.affine
        row, col = positions.T
        return np.column_stack([col * a.a + row * a.b + a.c, col * a.d + row * a.e + a.f])

    def parts(self, window: Window) -> Iterator[LabelPart]:
        """The shapes that begin in `window`, cut where they are long."""
        side = self.px(PART_M)
        window_box = window_geobox(self.geobox, window)
        for index in np.sort(self.labels.index.query(window_box.extent.geom)):
            shape = self.labels.shapes[index]
            corners = self.to_px(shapely.get_coordinates(shape))
            (r0, c0), (r1, c1) = np.floor(corners.min(0)), np.ceil(corners.max(0))
            for row, height in _intervals(int(r0), int(r1), side):
                for col, width in _intervals(int(c0), int(c1), side):
                    starts_inside = (
                        window.row <= row < window.bottom and window.col <= col < window.right
                    )
                    part = Window(row, col, height, width)
                    if (height, width) == (r1 - r0, c1 - c0):  # whole: all of it is outline
                        part = part.expand(RIM_PX)
                    part = part.clip(self.shape)
                    if starts_inside and part.height and part.width:
                        mask = self._rasterized(index, part)
                        if mask.any():
                            yield LabelPart(int(self.labels.ids[index]), int(index), part, mask)

    def _rasterized(self, index: int, window: Window) -> np.ndarray:
        shapes = np.array([self.labels.shapes[index]], object)
        box = window_geobox(self.geobox, window)
        return rasterize(shapes, np.ones(1, np.uint8), self.labels.geobox, box).astype(bool)


def _intervals(start: int, stop: int, side: int) -> Iterator[tuple[int, int]]:
    """(start, length) of near-equal parts no longer than `side`."""
    count = max(1, -(-(stop - start) // side))
    edges = np.linspace(start, stop, count + 1).round().astype(int)
    return ((int(a), int(b - a)) for a, b in pairwise(edges))
