"""Class maps of the comparators: a whole scene, window by window, as a GeoTIFF."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geopipe.classes import IGNORE, ClassScheme
from geopipe.grid import Tiling, Window
from geopipe.raster import Raster, Scene
from geopipe.raster.cog import write_class_cog
from geopipe.raster.sink import Sink

Classify = Callable[[Window, Raster], np.ndarray]
"""A window of the scene and its pixels -> class ids (h, w) uint8 of that window."""


def write_map(
    path: Path, scene: Scene, scheme: ClassScheme, classify: Classify, tiling: Tiling
) -> None:
    """Classify `scene` in the windows of `tiling` into the class map `path`, whole or not at all.

    `classify` gets each core with the halo around it as far as the scene reaches; of what it
    returns only the core is kept. Pixels that are not valid become IGNORE.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        raw = Path(folder) / "classes.tif"
        with Sink(raw, scene.geobox) as sink:
            for tile in tiling:
                around = tile.read.clip(scene.shape)
                raster = scene.read(around)
                ids = np.where(raster.valid, classify(around, raster), IGNORE).astype(np.uint8)
                sink.write(tile.core, ids[tile.core.within(around)][None])
        write_class_cog(raw, path, scheme, {})
