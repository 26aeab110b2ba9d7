"""Masks that pass for label rasters: 0 and 255, or 0 and 1 with 0 declared nodata."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.raster.validity import valid_pixels

_SIDE = 2048
"""Windows hold at most about _SIDE x _SIDE pixels."""


def is_mask(src: rasterio.DatasetReader) -> bool:
    """Whether a raster without nodata holds 255 and nothing else but 0.

    255 alone is a mask only where the file has no CRS: a map may well be without any class. Reads
    until another value turns up.
    """
    if src.nodata is not None:
        return False
    seen: set[float] = set()
    for values, known in _parts(src):
        seen.update(np.unique(values[known]).tolist())
        if not seen <= {0, IGNORE}:
            return False
    return seen == {0, IGNORE} or (seen == {IGNORE} and src.crs is None)


def mask_classes(src: rasterio.DatasetReader, path: str | Path, scheme: ClassScheme) -> bool:
    """Whether 255 in `src` means class 1, as in a mask, and not "not labelled".

    Raises LabelError for masks that cannot be class ids of `scheme`: of 0 and 255 for more than two
    classes, and of two classes where the zeros are declared nodata.
    """
    if src.nodata == 0 and len(scheme) == 2:
        zeros = sum(int((values == 0).sum()) for values, _ in _parts(src))
        if zeros and held_values(src) <= {0, 1, IGNORE}:
            raise LabelError(
                f"all {zeros} pixels of value 0 in {path} are declared nodata, so nothing is "
                f"{scheme.names[0]}",
                f"gdal_edit.py -unsetnodata {path}",
            )
    if not is_mask(src):
        return False
    if len(scheme) == 2:
        return True
    names = ", ".join(f"{i} {n}" for i, n in enumerate(scheme.names))
    raise LabelError(
        f"{path} holds 0 and 255 alone: 255 means not labelled, so it has only {scheme.names[0]}",
        f"give class ids ({names}), or, if it is a mask, a class scheme of two classes, such as "
        "buildings",
    )


def held_values(src: rasterio.DatasetReader) -> set[float]:
    """The values of the first band, whether they are declared nodata or not."""
    values: set[float] = set()
    for part, _ in _parts(src):
        values.update(np.unique(part).tolist())
    return values


def _parts(src: rasterio.DatasetReader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values and where they are known, both (h, w), part by part."""
    rows = max(16, _SIDE * _SIDE // max(src.width, 1))
    for top in range(0, src.height, rows):
        window = RioWindow(0, top, src.width, min(rows, src.height - top))
        yield src.read(1, window=window), valid_pixels(src, [1], window)
