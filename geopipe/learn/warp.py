"""Warp: a patch turned by any angle and enlarged or reduced, as augmentation."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from geopipe.classes import IGNORE

SHARE = 0.75
"""Of the patches that are warped; the others keep their pixels unblurred, as a map's are."""


@dataclass(frozen=True, slots=True)
class Warp:
    """What lies `scale` times as far from a patch's middle, turned by `angle`, is drawn there."""

    angle: float
    """Radians."""
    scale: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Self | None:
        """A random one, or None for a patch as it is.

        Angles up to 45 degrees (symmetries of the square do the rest), scales between
        exp(-strength) and exp(strength).
        """
        if rng.random() >= SHARE:
            return None
        angle, scale = rng.uniform((-math.pi / 4, -strength), (math.pi / 4, strength))
        return cls(float(angle), math.exp(scale))

    def image(self, block: Tensor, row: int, col: int, size: int) -> Tensor:
        """(bands, size, size) around the middle of that patch of `block` (bands, h, w).

        Bilinear; 0, the mean of a normalised image, beyond the block.
        """
        height, width = block.shape[-2:]
        rows, cols = self._places(row, col, size)
        places = torch.stack([(cols + 0.5) * 2 / width - 1, (rows + 0.5) * 2 / height - 1], -1)
        return grid_sample(block[None], places[None], align_corners=False)[0]

    def labels(self, ids: np.ndarray, row: int, col: int, size: int) -> Tensor:
        """(size, size) uint8 around the middle of that patch of `ids` (h, w).

        The nearest pixel; IGNORE beyond.
        """
        rows, cols = (x.round().long().numpy() for x in self._places(row, col, size))
        height, width = ids.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        result = ids[rows.clip(0, height - 1), cols.clip(0, width - 1)]
        return torch.from_numpy(np.where(inside, result, IGNORE).astype(np.uint8))

    def _places(self, row: int, col: int, size: int) -> tuple[Tensor, Tensor]:
        """Rows and columns (size, size) float32 of a block, of the pixels of a warped patch."""
        from_middle = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * self.scale
        down, along = from_middle[:, None], from_middle[None, :]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        middle = (size - 1) / 2
        return row + middle + cos * down - sin * along, col + middle + sin * down + cos * along
