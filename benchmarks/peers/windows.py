"""The windows all peers cut a scene into, and what a net needs to see for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import rasterio
import torch
from rasterio.windows import Window as RioWindow
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from benchmarks.tuning import CORE
from geopipe.checkpoint import Checkpoint
from geopipe.grid import Window

FACTOR = 2
"""Scene pixels of 0.5 m a side of a net pixel of 1 m."""
MARGIN = 4
"""Net pixels around a core that bilinear interpolation looks at, rounded up to the nets' stride."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A window of the scene and the part of the net's grid it is interpolated from."""

    core: Window
    net: Window

    def rio(self) -> RioWindow:
        """The core as rasterio takes it."""
        return RioWindow(self.core.col, self.core.row, self.core.width, self.core.height)


def patches(shape: tuple[int, int], part: int | None = None) -> Iterator[Patch]:
    """Patches that cover a scene of `shape`, or its upper left `part` x `part` px."""
    height, width = (min(n, part or n) for n in shape)
    plane = tuple(n // FACTOR for n in shape)
    for row in range(0, height, CORE):
        for col in range(0, width, CORE):
            core = Window(row, col, CORE, CORE).clip((height, width))
            yield Patch(core, net_window(core, (plane[0], plane[1])))


def net_window(core: Window, plane: tuple[int, int]) -> Window:
    """Net pixels under `core` and MARGIN around them, as far as the plane goes."""
    row, col, height, width = (n // FACTOR for n in (core.row, core.col, core.height, core.width))
    return Window(row, col, height, width).expand(MARGIN).clip(plane)


def read_image(
    src: rasterio.DatasetReader, model: Checkpoint, patch: Patch, device: str = "cpu"
) -> Tensor:
    """(1, bands, h, w) normalised pixels of 1 m under `patch.net` and the net's halo around it.

    What lies outside the scene is 0, the mean.
    """
    needed = patch.net.expand(model.net.halo)
    clipped = needed.clip((src.height // FACTOR, src.width // FACTOR))
    window = RioWindow(
        *(FACTOR * n for n in (clipped.col, clipped.row, clipped.width, clipped.height))
    )
    image = to_net(torch.from_numpy(src.read(window=window))[None].to(device), model)
    sides = (
        clipped.col - needed.col,
        needed.right - clipped.right,
        clipped.row - needed.row,
        needed.bottom - clipped.bottom,
    )
    return F.pad(image, sides)


def to_net(pixels: Tensor, model: Checkpoint) -> Tensor:
    """(n, bands, 2h, 2w) of 0.5 m to (n, bands, h, w) normalised of 1 m."""
    image = F.avg_pool2d(pixels.float(), FACTOR)
    mean, std = (image.new_tensor(x)[:, None, None] for x in (model.mean, model.std))
    return (image - mean) / std


def to_scene(scores: Tensor, patch: Patch) -> Tensor:
    """Scores (1, classes, h, w) of `patch.net`, interpolated to the pixels of `patch.core`."""
    fine = F.interpolate(scores, scale_factor=FACTOR, mode="bilinear", align_corners=False)
    row, col = (
        a - FACTOR * b
        for a, b in ((patch.core.row, patch.net.row), (patch.core.col, patch.net.col))
    )
    return fine[..., row : row + patch.core.height, col : col + patch.core.width]
