"""Where questions lie: on the scenes of a target, or on a sheet of image chips."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import CRS

from geopipe.grid import Window
from geopipe.labels.extent import reproject
from geopipe.learn.patches import PatchGrid, SceneRaster
from geopipe.learn.patches.rasters import read_patch
from geopipe.raster.scene import window_polygon

_GAP = 12
"""Pixels between the chips of a sheet."""


@dataclass(frozen=True, eq=False)
class QuestionLayout:
    """The outlines of cells, and the sheet that they lie on where they have no place on Earth."""

    shapes: list[shapely.Polygon]
    crs: CRS | None
    sheet: np.ndarray | None = None
    """(3, h, w) uint8: an image chip of each cell."""

    def write_sheet(self, path: Path) -> None:
        """Write the sheet as a raster without a CRS, as the outlines have none."""
        assert self.sheet is not None
        _, height, width = self.sheet.shape
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=3,
            dtype="uint8",
            transform=Affine(1, 0, 0, 0, -1, height),
            photometric="rgb",
            compress="deflate",
        ) as out:
            out.write(self.sheet)


def lay_out(patches: PatchGrid, size: int) -> QuestionLayout:
    """The cells on their scenes; of chips, on a sheet with the `size` pixels around each cell.

    Cells of scenes are brought to the CRS of the first.
    """
    scenes = [patches.rasters[n] for n in patches.positions[:, 0].tolist()]
    if all(isinstance(s, SceneRaster) for s in scenes):
        return _on_scenes(patches)
    return _on_sheet(patches, size)


def _on_scenes(patches: PatchGrid) -> QuestionLayout:
    shapes, crs = [], None
    for index, number in enumerate(patches.positions[:, 0].tolist()):
        raster = patches.rasters[number]
        assert isinstance(raster, SceneRaster)
        geobox, w = raster.grid.geobox(raster.scene.geobox), patches.window(index, patches.cell)
        shape = window_polygon(geobox, w)
        own = CRS.from_user_input(str(geobox.crs))
        crs = crs or own
        shapes.append(reproject(np.array([shape], object), own, crs)[0])
    return QuestionLayout(shapes, crs)


def _on_sheet(patches: PatchGrid, size: int) -> QuestionLayout:
    columns = math.ceil(math.sqrt(len(patches)))
    rows = math.ceil(len(patches) / columns)
    pitch = size + _GAP
    sheet = np.full((3, rows * pitch + _GAP, columns * pitch + _GAP), 255, np.uint8)
    height, shapes = sheet.shape[1], []
    for index, number in enumerate(patches.positions[:, 0].tolist()):
        top, left = (_GAP + pitch * n for n in divmod(index, columns))
        raster, cell = patches.rasters[number], patches.window(index, patches.cell)
        around = _shown(patches.window(index, size), raster.shape)
        image, _ = read_patch(raster, around)
        chip = image.clamp(0, 255).round().numpy().astype(np.uint8)
        sheet[:, top : top + size, left : left + size] = chip
        x, y = left + cell.col - around.col, height - top - (cell.row - around.row)
        shapes.append(shapely.box(x, y - patches.cell, x + patches.cell, y))
    return QuestionLayout(shapes, None, sheet)


def _shown(window: Window, shape: tuple[int, int]) -> Window:
    """The window moved into the raster as far as it fits: an analyst needs no mirror images."""
    row, col = (
        min(max(first, 0), max(side - window.height, 0))
        for first, side in zip((window.row, window.col), shape, strict=True)
    )
    return Window(row, col, window.height, window.width)
