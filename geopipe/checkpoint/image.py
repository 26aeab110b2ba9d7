"""The pixels of a scene on the grid of a network."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from geopipe.grid import NetworkGrid, Window, average_weights
from geopipe.nets.resample import average, is_integer, resample
from geopipe.raster import Raster, Scene

STRIP_PX = 2**23
"""Scene pixels that are averaged at once: under a large patch of a base network lie many more."""


def network_input(
    scene: Scene, grid: NetworkGrid, window: Window, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Mean of the valid scene pixels under each net pixel of `window`.

    Returns the image (bands, h, w) float32 in the scene's units and its validity (h, w) bool: a
    net pixel is valid when at least one valid scene pixel lies under it; elsewhere the image is 0.
    `window` may stick out of the scene.
    """
    parts = [
        downsampled(scene.read(grid.averaged_from(strip)), grid, strip, device)
        for strip in strips(grid, window)
    ]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([image for image, _ in parts], 1), torch.cat([valid for _, valid in parts])


def strips(grid: NetworkGrid, window: Window) -> list[Window]:
    """`window` of the net's grid cut into rows that at most STRIP_PX scene pixels lie under.

    A net pixel depends on the scene pixels under it alone, so the cuts change nothing.
    """
    under = max(window.width * math.prod(grid.factor), 1)
    count = max(1, math.ceil(window.height * under / STRIP_PX))
    boundaries = [window.height * i // count for i in range(count + 1)]
    return [
        Window(window.row + top, window.col, bottom - top, window.width)
        for top, bottom in pairwise(boundaries)
        if bottom > top
    ] or [window]


def on_device(x: Tensor, device: str) -> Tensor:
    """`x`, which is on the processor, on `device`.

    To a GPU through page-locked memory: the copy runs beside what the device computes for another
    tile, and the thread does not wait for it.
    """
    if torch.device(device).type == "cpu":
        return x
    return x.pin_memory().to(device, non_blocking=True)


def downsampled(
    raster: Raster, grid: NetworkGrid, window: Window, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """As `network_input`, from `raster` = the pixels of ``grid.averaged_from(window)``."""
    pixels = on_device(torch.from_numpy(raster.data), device).to(torch.float32)
    weight = on_device(torch.from_numpy(raster.valid), device)
    if is_integer(grid.factor):
        image = average(pixels, grid.factor)
        if raster.valid.all():  # shares of exactly 1 would change nothing
            return image, torch.ones_like(image[0], dtype=torch.bool)
        share = average(weight[None].float(), grid.factor)[0]
    else:
        source, (down, along) = grid.averaged_from(window), grid.axes
        rows = average_weights(down, window.row, window.height, source.row)
        cols = average_weights(along, window.col, window.width, source.col)
        image, share = resample(pixels, rows, cols), resample(weight.float(), rows, cols)
    valid = share > 1e-6
    return torch.where(valid, image / share.clamp(min=1e-6), 0), valid
