"""A scene's pixels on a net's grid."""

import torch
from torch import Tensor

from geopipe.grid import NetGrid, Window, average_taps
from geopipe.nets.resample import average, is_whole, resample
from geopipe.raster import Raster, Scene


def net_image(
    scene: Scene, grid: NetGrid, window: Window, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Mean of the valid scene pixels under each net pixel of `window`.

    Returns the image (bands, h, w) float32 in the scene's units and its validity (h, w) bool: a
    net pixel is valid when at least one valid scene pixel lies under it; elsewhere the image is 0.
    `window` may stick out of the scene.
    """
    return averaged(scene.read(grid.averaged_from(window)), grid, window, device)


def averaged(
    raster: Raster, grid: NetGrid, window: Window, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """As `net_image`, from `raster` = the pixels of ``grid.averaged_from(window)``."""
    pixels = torch.from_numpy(raster.data).to(device).to(torch.float32)
    weight = torch.from_numpy(raster.valid).to(device)
    if is_whole(grid.factor):
        image = average(pixels, grid.factor)
        if raster.valid.all():  # shares of exactly 1 would change nothing
            return image, torch.ones_like(image[0], dtype=torch.bool)
        share = average(weight[None].float(), grid.factor)[0]
    else:
        source = grid.averaged_from(window)
        rows, cols = (
            average_taps(start, count, factor, source_start)
            for start, count, factor, source_start in (
                (window.row, window.height, grid.factor[0], source.row),
                (window.col, window.width, grid.factor[1], source.col),
            )
        )
        image, share = resample(pixels, rows, cols), resample(weight.float(), rows, cols)
    valid = share > 1e-6
    return torch.where(valid, image / share.clamp(min=1e-6), 0), valid
