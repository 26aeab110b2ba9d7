"""A scene's pixels on a net's grid."""

import numpy as np
import torch
from torch import Tensor

from geopipe.grid import NetGrid, Window, average_taps
from geopipe.nets.resample import resample
from geopipe.raster import Scene


def net_image(
    scene: Scene, grid: NetGrid, window: Window, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Mean of the valid scene pixels under each net pixel of `window`.

    Returns the image (bands, h, w) float32 in the scene's units and its validity (h, w) bool: a
    net pixel is valid when at least one valid scene pixel lies under it; elsewhere the image is 0.
    `window` may stick out of the scene.
    """
    source = grid.averaged_from(window)
    raster = scene.read(source)
    rows, cols = (
        average_taps(start, count, factor, source_start)
        for start, count, factor, source_start in (
            (window.row, window.height, grid.factor[0], source.row),
            (window.col, window.width, grid.factor[1], source.col),
        )
    )
    pixels = torch.from_numpy(raster.data.astype(np.float32, copy=False)).to(device)
    weight = torch.from_numpy(raster.valid).to(device, torch.float32)
    image, share = resample(pixels, rows, cols), resample(weight, rows, cols)
    valid = share > 1e-6
    return torch.where(valid, image / share.clamp(min=1e-6), 0), valid
