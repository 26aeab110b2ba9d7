"""Class maps of the comparators: a whole scene, window by window, as a GeoTIFF."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.grid import Tiling, Window
from geopipe.labels import RasterLabels
from geopipe.raster import Raster, Scene
from geopipe.raster.cog import write_class_cog
from geopipe.raster.sink import Sink

Classify = Callable[[Window, Raster], np.ndarray]
"""A window of the scene and its pixels -> class ids (h, w) uint8 of that window."""


def write_map(
    path: Path,
    scene: Scene,
    scheme: ClassScheme,
    classify: Classify,
    sizes: tuple[int, int],
    within: Window | None = None,
) -> None:
    """Classify `within` of `scene` (default: all) into the class map `path`, whole or not at all.

    `sizes`: pixels of a core and of the halo around it, both of which `classify` gets as far as
    the scene reaches; of what it returns only the core is kept. Pixels that are not valid, and
    those outside `within`, become IGNORE.
    """
    within = within or Window.of_shape(scene.shape)

    def shifted_window(part: Window) -> Window:
        return replace(part, row=part.row + within.row, col=part.col + within.col)

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        raw = Path(folder) / "classes.tif"
        with Sink(raw, scene.geobox) as sink:
            for tile in Tiling(within.shape, *sizes):
                core, read_window = (
                    shifted_window(tile.core),
                    shifted_window(tile.read).clip(scene.shape),
                )
                raster = scene.read(read_window)
                ids = np.where(raster.valid, classify(read_window, raster), IGNORE).astype(np.uint8)
                sink.write(core, ids[core.within(read_window)][None])
        write_class_cog(raw, path, scheme, {})


def labelled(scene: Scene, labels: Path, scheme: ClassScheme) -> Window:
    """The smallest window that holds all of `scene` that the raster `labels` labels.

    Raises LabelError where it labels nothing.
    """
    valid = RasterLabels.open(labels, scheme).read(scene.geobox) != IGNORE
    rows, cols = (np.flatnonzero(valid.any(axis)) for axis in (1, 0))
    if not rows.size:
        raise LabelError(f"{labels} labels no pixel of {scene.path}", "give the labels of it")
    row, col = int(rows[0]), int(cols[0])
    return Window(row, col, int(rows[-1]) + 1 - row, int(cols[-1]) + 1 - col)
