"""The chips of a map: one polygon for each cell that a scene classifier gave a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import SceneError
from geopipe.grid import NetworkGrid, Window
from geopipe.raster import Scene
from geopipe.raster.chip_location import rectangle
from geopipe.raster.cog import SCORE_STEPS
from geopipe.raster.geopackage import atomic_geopackage, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.scene import opened, window_geobox
from geopipe.raster.style import category_qml

LAYER = "chips"
"""Name of the layer, and of the asset."""


@dataclass(frozen=True)
class _Cell:
    """The pixels of a scene nearest to one chip's middle."""

    row: int
    col: int
    window: Window


def cells_of(scene: Scene, model: Checkpoint, folder: Path) -> gpd.GeoDataFrame:
    """The cells of a map that a scene classifier made, in the scene's CRS.

    ``row`` and ``column`` on the grid of chips, ``class_id``, ``class``, ``probability`` of that
    class and ``valid``, the share of the cell's pixels that are: what ``classes.tif`` and
    ``confidence.tif`` hold in the middle of the cell, or nearest to it. Cells that the scene says
    nothing of are left out. Where the map's pixels are no whole part of the net's, scores are
    blended between cells, so a pixel on a border may differ from its cell.
    """
    rows: list[dict[str, object]] = []
    shapes = []
    with opened(folder / "classes.tif") as ids, opened(folder / "confidence.tif") as confidence_src:
        for cell in _cells(scene, model):
            window = _rio(cell.window)
            class_ids, confidence = (
                ids.read(1, window=window),
                confidence_src.read(1, window=window),
            )
            center = _center_pixel(class_ids != IGNORE)
            if center is None:
                continue
            rows.append(
                {
                    "row": cell.row,
                    "column": cell.col,
                    "class_id": int(class_ids[center]),
                    "class": model.scheme.names[class_ids[center]],
                    "probability": round(float(confidence[center]) / SCORE_STEPS, 3),
                    "valid": round(float((class_ids != IGNORE).mean()), 3),
                }
            )
            shapes.append(rectangle(window_geobox(scene.geobox, cell.window)))
    if not rows:
        raise SceneError(f"{scene.path} has no valid pixel", "is its nodata value right?")
    return gpd.GeoDataFrame(pd.DataFrame(rows), geometry=shapes, crs=scene.geobox.crs)


def _cells(scene: Scene, model: Checkpoint) -> Iterator[_Cell]:
    grid, step = NetworkGrid.of(scene.geobox, model.gsd), model.net.stride
    plane = grid.snap(Window.of_shape(grid.shape), step)
    fy, fx = (axis.factor for axis in grid.axes)
    y, x = (axis.start for axis in grid.axes)
    for row in range(plane.height // step):
        for col in range(plane.width // step):
            down, along = plane.row + row * step, plane.col + col * step
            top, left = round(y + down * fy), round(x + along * fx)
            bottom, right = round(y + (down + step) * fy), round(x + (along + step) * fx)
            window = Window(top, left, bottom - top, right - left).clip(scene.shape)
            if window.height and window.width:
                yield _Cell(row, col, window)


def _center_pixel(valid: np.ndarray) -> tuple[int, int] | None:
    """Where `valid` is true, nearest to its middle."""
    positions = np.argwhere(valid)
    if not len(positions):
        return None
    squared_distance = np.square(positions - (np.array(valid.shape) - 1) / 2).sum(1)
    row, col = positions[squared_distance.argmin()].tolist()
    return row, col


def _rio(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


def write_footprints(cells: gpd.GeoDataFrame, scheme: ClassScheme, out: Path) -> None:
    """Write the GeoPackage `out`, one layer in the colours of the classes that QGIS shows."""
    classes_present = set(cells["class"])
    colours = {c.name: c.color for c in scheme.classes if c.name in classes_present}
    with atomic_geopackage(out) as part:
        write_layer(cells, part, LAYER, geometry_type="Polygon")
        style = category_qml("class", colours)
        add_layer_style(part, LAYER, scheme.name, style, "chips in the colours of their classes")
