"""Pseudo-labels as rasters of class ids, usable as any other labels."""

import re
from pathlib import Path

import numpy as np

from geopipe.classes import IGNORE, ClassScheme
from geopipe.grid import Window
from geopipe.learn.patches import PatchGrid, SceneRaster
from geopipe.learn.transfer import Selection
from geopipe.raster.cog import write_class_cog
from geopipe.raster.sink import Sink


def write_pseudo_labels(
    out: Path, cells: PatchGrid, chosen: Selection, scheme: ClassScheme
) -> tuple[Path, ...]:
    """For each scene among the planes, the kept cells' classes on the net's grid, beside `out`.

    All else is nodata: nothing is known there. `geopipe patches train` takes them as --labels.
    """
    written = []
    kept = cells.subset(chosen.selected).labelled(chosen.labels[chosen.selected])
    for number, plane in enumerate(cells.planes):
        if not isinstance(plane, SceneRaster):
            continue
        mine = kept.subset(kept.at[:, 0] == number)
        name = re.sub(r"[^\w.-]+", "-", Path(plane.path).stem)
        path = out.with_name(f"{out.name}.{number}-{name}.tif")
        plain = path.with_name(path.name + ".tmp.tif")
        geobox = plane.grid.geobox(plane.scene.geobox)
        try:
            with Sink(plain, geobox) as sink:
                for _, window, indices in mine.blocks():
                    part = window.clip(plane.shape)
                    sink.write(
                        part, _painted(mine, indices, window)[None][:, : part.height, : part.width]
                    )
            write_class_cog(plain, path, scheme, {"labels": "pseudo"})
        finally:
            plain.unlink(missing_ok=True)
        written.append(path)
    return tuple(written)


def _painted(cells: PatchGrid, indices: np.ndarray, window: Window) -> np.ndarray:
    """(h, w) uint8 ids of the cells of a block, whose window is of whole cells."""
    ids = np.full((window.height // cells.cell, window.width // cells.cell), IGNORE, np.uint8)
    rows, cols = cells.at[indices, 1], cells.at[indices, 2]
    ids[rows - window.row // cells.cell, cols - window.col // cells.cell] = cells.ids[indices]
    return ids.repeat(cells.cell, 0).repeat(cells.cell, 1)
