"""The same ground in files that begin elsewhere: crops of a scene, as another delivery has them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from geopipe.checkpoint import Checkpoint
from geopipe.grid import NetworkGrid, Tile, Window, is_rotated
from geopipe.mapping.tile import TileJob, score_window
from geopipe.raster import Raster, Scene
from geopipe.raster.scene import window_geobox

OFFSETS = tuple((k, 8 - k) for k in range(1, 8))
"""Rows and columns by which the corners of the crops are off the scene's."""
PROBE_PX = 256
"""Scene pixels a side of what is compared."""
_NOWHERE = Window(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ExtentResult:
    """A part of the scene mapped from a crop with another corner, held against the scene's map."""

    offset: tuple[int, int]
    """Rows and columns between the corner of the crop and a multiple of 8 pixels."""
    pixels: int
    """Valid pixels compared; all are deep inside the crop."""
    max_difference: float
    """Largest |score difference| to the map of the whole scene."""
    changed: int
    """Pixels of another class."""


@dataclass(frozen=True, slots=True)
class SceneCrop(Scene):
    """The pixels of `extent` of a scene as a scene of its own, which knows nothing around it."""

    whole: Scene | None = None
    extent: Window = _NOWHERE

    @classmethod
    def of(cls, scene: Scene, extent: Window) -> "SceneCrop":
        """The crop of `scene`; `extent` lies in it."""
        box = window_geobox(scene.geobox, extent)
        return cls(
            scene.path,
            box,
            scene.bands,
            scene.dtype,
            scene.nodata,
            scene.remote,
            whole=scene,
            extent=extent,
        )

    def read(self, window: Window | None = None) -> Raster:
        """As `Scene.read`: what lies outside the crop is not valid."""
        assert self.whole is not None
        window = window or Window.of_shape(self.shape)
        data = np.zeros((len(self.bands), *window.shape), self.dtype)
        valid = np.zeros(window.shape, bool)
        inside = window.clip(self.shape)
        if inside.height and inside.width:
            at = Window(self.extent.row + inside.row, self.extent.col + inside.col, *inside.shape)
            part, place = self.whole.read(at), inside.within(window)
            data[(slice(None), *place)], valid[place] = part.data, part.valid
        return Raster(data, valid, window_geobox(self.geobox, window))


def other_extents(
    job: TileJob, model: Checkpoint, crop: Window, context: int
) -> Iterator[ExtentResult]:
    """A part of `crop` mapped from crops of the scene that begin elsewhere.

    `context`: network pixels that the model sees around a pixel. None where the scene is too small
    or is rotated: then the network's grid begins at the file's corner.
    """
    for offset, part, extent in _crops_around(job.scene, model, crop, context):
        other = replace(job, scene=SceneCrop.of(job.scene, extent))
        there = Window(part.row - extent.row, part.col - extent.col, *part.shape)
        valid = job.scene.read(part).valid
        (own,), (target,) = (
            score_window(model, j.scene, window, device=j.device)
            for j, window in ((job, part), (other, there))
        )
        classes = [
            j.compute(Tile(0, window, window))[-1] for j, window in ((job, part), (other, there))
        ]
        difference = (own - target).abs().amax(0).cpu().numpy()[valid]
        yield ExtentResult(
            offset,
            int(valid.sum()),
            float(difference.max(initial=0.0)),
            int((classes[0] != classes[1]).sum()),
        )


def _crops_around(
    scene: Scene, model: Checkpoint, crop: Window, context: int
) -> Iterator[tuple[tuple[int, int], Window, Window]]:
    """(offset, part of `crop`, extent): crops in which the part lies deeper than a model sees."""
    grid = NetworkGrid.of(scene.geobox, model.gsd)
    margin = math.ceil((context + model.net.stride + 2) * max(grid.factor))
    top, left = max(crop.row, margin + 16), max(crop.col, margin + 16)
    height, width = (
        min(PROBE_PX, last - first) for first, last in ((top, crop.bottom), (left, crop.right))
    )
    if is_rotated(scene.geobox) or min(height, width) < 1:
        return
    part = Window(top, left, height, width)
    around = part.expand(margin)
    for rows, cols in OFFSETS:
        # Corners off the multiples of 8 pixels, on which those of most files are.
        row, col = around.row // 8 * 8 - 8 + rows, around.col // 8 * 8 - 8 + cols
        extent = Window(row, col, around.bottom - row, around.right - col).clip(scene.shape)
        if NetworkGrid.of(window_geobox(scene.geobox, extent), model.gsd).factor == grid.factor:
            yield (rows, cols), part, extent
