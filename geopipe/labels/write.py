"""Write labels as a raster of class ids exactly on the scene's pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import OutputError
from geopipe.files import check_new_file, scratch_folder
from geopipe.grid import Tiling
from geopipe.labels.source import LabelSource
from geopipe.oserrors import writing
from geopipe.progress import progress
from geopipe.raster.cog import write_class_cog
from geopipe.raster.scene import Scene
from geopipe.raster.sink import Sink

_CORE = 2048
"""Side of the windows that are burned at a time (4 MiB of labels, 16 MiB of image)."""


@dataclass(frozen=True)
class LabelCounts:
    """Pixels of each class in a label map."""

    scheme: ClassScheme
    pixels: tuple[int, ...]
    """By class id."""
    ignored: int
    """Pixels without a label: no image there, or unknown to the source."""

    def of(self, name: str) -> int:
        """Pixels of class `name`; ConfigError when there is no such class."""
        return self.pixels[self.scheme.id_of(name)]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the classes without a pixel."""
        return tuple(n for n, k in zip(self.scheme.names, self.pixels, strict=True) if not k)


def write_label_raster(
    scene: Scene,
    source: LabelSource,
    out: Path,
    *,
    overwrite: bool = False,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> LabelCounts:
    """Write the labels of `source` on the pixels of `scene` to `out`, window by window.

    `out` becomes a tiled, deflated GeoTIFF (COG) of uint8 class ids with nodata 255, colour table
    and class names (in ``out.aux.xml``). Pixels that are not valid in the scene are IGNORE. The
    file's tags are `tags`, the scheme's name, the credit and the pixels of each class. Raises
    OutputError when `out` exists (unless `overwrite`) or has no folder, SceneError when it cannot
    be written; then nothing is left behind.
    """
    check_label_raster(out, scene.path, overwrite=overwrite)
    pixels = np.zeros(256, np.int64)
    burned = out.with_name(out.name + ".burned.tif")
    with writing(out), scratch_folder(burned) as folder:
        raster_path = folder / burned.name
        tiling = Tiling(scene.shape, _CORE)
        with (
            Sink(raster_path, scene.geobox) as sink,
            progress("rasterizing labels", len(tiling)) as advance,
        ):
            for tile in tiling:
                raster = scene.read(tile.core)
                ids = np.where(raster.valid, source.read(raster.geobox), IGNORE).astype(np.uint8)
                pixels += np.bincount(ids.ravel(), minlength=256)
                sink.write(tile.core, ids[None])
                advance()
        counts = LabelCounts(
            source.scheme, tuple(pixels[: len(source.scheme)].tolist()), int(pixels[IGNORE])
        )
        write_class_cog(raster_path, out, source.scheme, {**_described(source, counts), **tags})
    return counts


def check_label_raster(out: Path, scene: str, *, overwrite: bool) -> None:
    """Raise OutputError unless the labels of the raster `scene` may be written to `out`."""
    check_new_file(out, overwrite=overwrite, sources=[Path(scene)])
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out} would hold a GeoTIFF", "call it .tif")


def _described(source: LabelSource, counts: LabelCounts) -> dict[str, str]:
    of_classes = zip(source.scheme.names, counts.pixels, strict=True)
    tags = {f"pixels_{name}": str(n) for name, n in of_classes}
    tags |= {"pixels_ignored": str(counts.ignored), "scheme": source.scheme.name}
    return {**tags, "credit": source.credit} if source.credit else tags
