"""The probability of a class in a map's pixels, from its scores or from its confidence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE
from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster.cog import CONFIDENCE, SCORE_STEPS
from geopipe.raster.scene import opened


def read_window(src: rasterio.DatasetReader, window: Window, band: int = 1) -> np.ndarray:
    """Band `band` of `src` in `window`, (height, width) as stored; SceneError where it is damaged.

    Beyond the raster's edge the outermost pixels go on, so that an object runs up to the edge.
    """
    inside = window.clip(src.shape)
    rio = RioWindow(inside.col, inside.row, inside.width, inside.height)
    try:
        values = src.read(band, window=rio)
    except RasterioIOError as e:
        raise SceneError(
            f"cannot read rows {inside.row}-{inside.bottom}, columns {inside.col}-{inside.right} "
            f"of {src.name}: {e.__cause__ or e}",
            "the file is truncated or damaged",
        ) from e
    rows, cols = inside.within(window)
    outside = (
        (rows.start, window.height - rows.stop),
        (cols.start, window.width - cols.stop),
    )
    return np.asarray(np.pad(values, outside, mode="edge"))


@dataclass(frozen=True)
class ClassProbability:
    """Reads the probability of a class on the pixels of a class map."""

    src: rasterio.DatasetReader
    band: int
    class_map: rasterio.DatasetReader | None = None
    """Given where `src` holds the best class's score: where that is another class, the class asked
    for has at most what is left of it."""
    class_id: int = 0

    def read(self, window: Window) -> np.ndarray:
        """(height, width) float32 in 0..1, NaN where unknown."""
        stored = read_window(self.src, window, self.band)
        scores = np.where(stored > SCORE_STEPS, np.nan, stored / np.float32(SCORE_STEPS))
        if self.class_map is not None:
            classes = read_window(self.class_map, window)
            scores = np.where(classes == self.class_id, scores, 1 - scores)
            scores[classes == IGNORE] = np.nan
        return scores.astype(np.float32)


@contextmanager
def open_cores(path: Path, class_map: rasterio.DatasetReader) -> Iterator[ClassProbability]:
    """The probability of cores of buildings on the pixels of `class_map`.

    Raises SceneError where `path` is not one band of bytes on these pixels.
    """
    with opened(path) as src:
        _require_same_pixels(path, src, class_map)
        if src.dtypes != ("uint8",):
            raise SceneError(
                f"{path} has {src.count} bands of {src.dtypes[0]}",
                "give the one band of bytes that was computed with this map",
            )
        yield ClassProbability(src, 1)


def _require_same_pixels(
    path: Path, src: rasterio.DatasetReader, class_map: rasterio.DatasetReader
) -> None:
    if src.shape != class_map.shape or not src.transform.almost_equals(class_map.transform):
        raise SceneError(
            f"{path} has {src.height} x {src.width} px from {src.transform.c:g}, "
            f"{src.transform.f:g}; {class_map.name} has {class_map.height} x "
            f"{class_map.width} px from {class_map.transform.c:g}, {class_map.transform.f:g}",
            "give the scores that were written with this map",
        )


@contextmanager
def open_probability(
    path: Path, class_map: rasterio.DatasetReader, name: str, class_id: int
) -> Iterator[ClassProbability]:
    """The probability of class `name` (id `class_id`) from the scores or confidence of `class_map`.

    Raises SceneError where `path` is neither, or has other pixels than the map.
    """
    with opened(path) as src:
        _require_same_pixels(path, src, class_map)
        names = tuple(n or "" for n in src.descriptions)
        if set(src.dtypes) == {"uint8"} and name in names:
            yield ClassProbability(src, names.index(name) + 1)
        elif names == (CONFIDENCE,) and src.dtypes == ("uint8",):
            yield ClassProbability(src, 1, class_map, class_id)
        else:
            raise SceneError(
                f"{path} has no band '{name}' or '{CONFIDENCE}': its bands are "
                + ", ".join(f"'{n}'" if n else "without a name" for n in names),
                "give scores.tif or confidence.tif of the map",
            )
