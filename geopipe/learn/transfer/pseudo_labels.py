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
    out: Path, patches: PatchGrid, selection: Selection, scheme: ClassScheme
) -> tuple[Path, ...]:
    """For each scene among the planes, the kept cells' classes on the net's grid, beside `out`.

    All else is nodata: nothing is known there. `geopipe patches train` takes them as its labels.
    """
    written = []
    labelled = patches.subset(selection.selected).labelled(selection.labels[selection.selected])
    for number, raster in enumerate(patches.rasters):
        if not isinstance(raster, SceneRaster):
            continue
        in_raster = labelled.subset(labelled.positions[:, 0] == number)
        name = re.sub(r"[^\w.-]+", "-", Path(raster.path).stem)
        path = out.with_name(f"{out.name}.{number}-{name}.tif")
        plain = path.with_name(path.name + ".tmp.tif")
        geobox = raster.grid.geobox(raster.scene.geobox)
        try:
            with Sink(plain, geobox) as sink:
                for _, window, indices in in_raster.blocks():
                    part = window.clip(raster.shape)
                    sink.write(
                        part,
                        _rasterized(in_raster, indices, window)[None][
                            :, : part.height, : part.width
                        ],
                    )
            write_class_cog(plain, path, scheme, {"labels": "pseudo"})
        finally:
            plain.unlink(missing_ok=True)
        written.append(path)
    return tuple(written)


def _rasterized(patches: PatchGrid, indices: np.ndarray, window: Window) -> np.ndarray:
    """(h, w) uint8 ids of the cells of a block, whose window is of whole cells."""
    ids = np.full((window.height // patches.cell, window.width // patches.cell), IGNORE, np.uint8)
    rows, cols = patches.positions[indices, 1], patches.positions[indices, 2]
    ids[rows - window.row // patches.cell, cols - window.col // patches.cell] = patches.ids[indices]
    return ids.repeat(patches.cell, 0).repeat(patches.cell, 1)
