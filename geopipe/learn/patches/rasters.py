"""Images on a network's grid, scenes and chips alike, that patches are read from."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import network_input
from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.grid import NetworkGrid, Window, mirror_pad
from geopipe.labels import LabelSource
from geopipe.raster import Scene
from geopipe.raster.chips import Chip, require_bytes
from geopipe.raster.scene import window_geobox

_CACHE_BYTES = 128 << 20
"""Bytes of decoded chips that stay in memory (890 of 224 x 224 px)."""


class PatchRaster(Protocol):
    """An image on the net's grid, and its labels if it has any."""

    @property
    def path(self) -> str:
        """The file it is from."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in net pixels."""
        ...

    def pixels(self, window: Window) -> tuple[Tensor, Tensor]:
        """Image (bands, h, w) float32 and validity (h, w) of a window inside the plane."""
        ...

    def labels(self, window: Window) -> np.ndarray:
        """Class ids (h, w) uint8 of a window inside the plane; IGNORE where unknown."""
        ...


@dataclass(frozen=True)
class ChipRaster:
    """A chip, whose pixels are taken for the net's."""

    chip: Chip
    bands: int
    class_id: int = IGNORE
    """Of all its pixels, unless it has a `mask`."""
    mask: str = ""
    """An image of class ids with the chip's size."""
    unlabelled: int = IGNORE
    """What the mask holds where it says nothing."""

    @property
    def path(self) -> str:
        """The file it is from."""
        return self.chip.path

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width in network pixels."""
        _, height, width = _decoded(self.chip, self.bands).shape
        return height, width

    def pixels(self, window: Window) -> tuple[Tensor, Tensor]:
        """Image (bands, h, w) float32 and validity (h, w) of a window."""
        part = _decoded(self.chip, self.bands)[(slice(None), *window.slices)]
        return (
            torch.from_numpy(part.astype(np.float32)),
            torch.ones(window.shape, dtype=torch.bool),
        )

    def labels(self, window: Window) -> np.ndarray:
        """Class ids (h, w) uint8 of a window; IGNORE where unknown."""
        if not self.mask:
            return np.full(window.shape, self.class_id, np.uint8)
        ids = _decoded(Chip(self.mask), 1)[0]
        if ids.shape != self.shape:
            raise LabelError(
                f"{self.mask} is {ids.shape[1]} x {ids.shape[0]} px, {self.path} is "
                f"{self.shape[1]} x {self.shape[0]}",
                "a mask has its chip's size",
            )
        part = ids[window.slices]
        return np.where(part == self.unlabelled, IGNORE, part).astype(np.uint8)


class Recent:
    """The pixels of chips, those asked for last kept in memory: at most so many bytes, or one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.entries: OrderedDict[tuple[Chip, int], np.ndarray] = OrderedDict()
        self.bytes = 0

    def __call__(self, chip: Chip, bands: int) -> np.ndarray:
        """Pixels (bands, h, w) uint8; SceneError when the chip has none such."""
        pixels = self.entries.pop((chip, bands), None)
        if pixels is None:
            pixels = chip.read(bands)
            require_bytes(chip.path, str(pixels.dtype))
            self.bytes += pixels.nbytes
        self.entries[chip, bands] = pixels
        while self.bytes > self.capacity and len(self.entries) > 1:
            self.bytes -= self.entries.popitem(last=False)[1].nbytes
        return pixels


_decoded = Recent(_CACHE_BYTES)


@dataclass(frozen=True)
class SceneRaster:
    """A scene on the net's grid."""

    scene: Scene
    gsd: float
    source: LabelSource | None = None

    @property
    def path(self) -> str:
        """The file it is from."""
        return self.scene.path

    @cached_property
    def grid(self) -> NetworkGrid:
        """The net's plane over the scene's."""
        return NetworkGrid.of(self.scene.geobox, self.gsd)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in network pixels."""
        return self.grid.shape

    def pixels(self, window: Window) -> tuple[Tensor, Tensor]:
        """Image (bands, h, w) float32 and validity (h, w) of a window."""
        return network_input(self.scene, self.grid, window)

    def labels(self, window: Window) -> np.ndarray:
        """Class ids (h, w) uint8 of a window; IGNORE where unknown."""
        if self.source is None:
            return np.full(window.shape, IGNORE, np.uint8)
        ids = self.source.read(window_geobox(self.grid.geobox(self.scene.geobox), window))
        _, valid = self.pixels(window)  # where there is no image a label teaches nothing
        return np.where(valid.numpy(), ids, IGNORE).astype(np.uint8)


def read_patch(raster: PatchRaster, window: Window) -> tuple[Tensor, Tensor]:
    """As `PatchRaster.pixels`, of any window.

    Beyond its edges the raster is continued by its mirror image, as in mapping.
    """
    part, rows, cols = mirror_pad(window, raster.shape)
    image, valid = raster.pixels(part)
    pixel_index = torch.from_numpy(rows)[:, None], torch.from_numpy(cols)[None]
    return image[(slice(None), *pixel_index)], valid[pixel_index]
