"""Which pixels of a raster hold an image: masks, nodata values, and alpha wherever it is."""

from collections.abc import Sequence

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RioWindow


def valid_pixels(
    src: rasterio.DatasetReader,
    bands: Sequence[int],
    window: RioWindow | None = None,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """(h, w) bool of `window`: one of `bands` is valid by mask or nodata, and no alpha is 0.

    `shape`: read at so many pixels, the nearest ones. GDAL itself takes alpha for a mask only as
    the last of 2 or 4 bands of bytes, and not beside a nodata value. An alpha band that is one of
    `bands` is part of the image, unless GDAL says otherwise.
    """
    flags = [src.mask_flag_enums[b - 1] for b in bands]
    requested = {"window": window} | ({"out_shape": shape} if shape else {})
    if any(MaskFlags.all_valid in f for f in flags):
        height, width = shape or _shape(src, window)
        valid = np.ones((height, width), bool)
    else:
        shared = all(MaskFlags.per_dataset in f for f in flags)
        masks = (src.read_masks(b, **requested) > 0 for b in (bands[:1] if shared else bands))
        valid = np.any(list(masks), axis=0)
    if not any(MaskFlags.alpha in f for f in flags):
        for band, kind in zip(src.indexes, src.colorinterp, strict=True):
            if kind == ColorInterp.alpha and band not in bands:
                valid &= src.read(band, **requested) > 0
    return np.asarray(valid)


def _shape(src: rasterio.DatasetReader, window: RioWindow | None) -> tuple[int, int]:
    return (src.height, src.width) if window is None else (int(window.height), int(window.width))
