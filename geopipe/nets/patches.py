"""PatchNet: the class of a cell from patches of several sizes around it.

Tong et al. 2020 (arXiv 1807.05713), section III-B: patches of one centre and several sizes, each
resized to the input of one CNN, whose probabilities are summed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.nets.backbones import build_backbone
from geopipe.nets.base import MIN_PROBABILITY, BaseNetwork

BATCH = 32
"""Patches that go through the backbone at once: more is no quicker on a CPU and takes memory."""


class PatchNet(BaseNetwork):
    """Backbone and a linear layer, run on every patch; the scores are log probabilities.

    A cell of `cell` x `cell` px has one score per class: the logarithm of the mean, weighted by
    `weights`, of the class probabilities of its patches of `sizes` px, each resized to `side` px.
    Every patch lies within `receptive_radius`, so any window on the grid of cells gives the same
    scores.
    """

    patchwise = True

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        backbone: str,
        sizes: Sequence[int] = (56, 112, 224),
        cell: int = 56,
        side: int = 128,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Raises ValueError for values that make no net."""
        super().__init__()
        shares = [1.0] * len(sizes) if weights is None else [float(w) for w in weights]
        if bands != 3:
            raise ValueError(f"a backbone takes 3 bands, not {bands}")
        if not sizes or any(s < cell or (s - cell) % 2 for s in sizes) or cell < 1 or side < 32:
            raise ValueError(
                f"patches of {list(sizes)} px around cells of {cell} px, resized to {side} px: "
                "each is as large as a cell or an even number of pixels larger, and side >= 32"
            )
        if len(shares) != len(sizes) or min(shares) < 0 or not sum(shares):
            raise ValueError(f"weights {shares} for {len(sizes)} sizes of patches")
        self.bands, self.classes, self.stride = bands, classes, cell
        self.sizes, self.side, self.name = tuple(sizes), side, backbone
        self.weights = tuple(w / sum(shares) for w in shares)
        self.receptive_radius = -(-(max(sizes) - cell) // 2 // cell) * cell
        self.floats_per_pixel, self.floats_per_batch = 3, BATCH * side**2 * 48
        self.backbone = build_backbone(backbone, "pooled")
        self.pretrained_on = self.backbone.spec.pretrained_on
        self.head = nn.Linear(self.backbone.width("pooled"), classes)

    @property
    def architecture(self) -> dict[str, Any]:
        return {
            "net": "patches",
            "backbone": self.name,
            "sizes": list(self.sizes),
            "cell": self.stride,
            "side": self.side,
            "weights": list(self.weights),
        }

    def forward(self, image: Tensor) -> Tensor:
        _, probabilities = self.by_size(image)
        shares = probabilities.new_tensor(self.weights)[:, None, None, None, None]
        scores = (probabilities * shares).sum(0).clamp(min=MIN_PROBABILITY).log()
        return scores.repeat_interleave(self.stride, -2).repeat_interleave(self.stride, -1)

    def by_size(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and probabilities (sizes, N, width or classes, rows, cols) of the cells.

        `image` as in `forward`: (N, 3, h, w), cells from (receptive_radius, receptive_radius) on.
        """
        scores = []
        for size in self.sizes:
            patches, grid = self.patches(image, size)
            scores.append([_on_grid(x, len(image), grid) for x in self.class_scores(patches)])
        features, probabilities = zip(*scores, strict=True)
        return torch.stack(features), torch.stack(probabilities)

    def patches(self, image: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
        """A view (N, rows, cols, bands, size, size) of the patches around cells; (rows, cols)."""
        out = self.receptive_radius - (size - self.stride) // 2
        inside = image[..., out : image.shape[-2] - out, out : image.shape[-1] - out]
        view = inside.unfold(2, size, self.stride).unfold(3, size, self.stride)
        return view.permute(0, 2, 3, 1, 4, 5), (view.shape[2], view.shape[3])

    def class_scores(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, width) and probabilities (n, classes) of patches (..., 3, size, size)."""
        rows = patches.shape[:-3]
        features, probabilities = [], []
        for part in torch.arange(rows.numel(), device=patches.device).split(BATCH):
            index = torch.unravel_index(part, rows)
            feature = self.backbone(resized(patches[index], self.side))
            features.append(feature)
            probabilities.append(self.head(feature).softmax(1))
        return torch.cat(features), torch.cat(probabilities)

    def logits(self, patches: Tensor) -> Tensor:
        """Scores (n, classes) before the softmax of patches (n, 3, side, side), for training."""
        logits: Tensor = self.head(self.backbone(patches))
        return logits


def resized(patches: Tensor, side: int) -> Tensor:
    """Patches (n, 3, size, size) at `side` px: bilinear, smoothed first where it shrinks them."""
    if patches.shape[-1] == side:
        return patches
    return F.interpolate(patches, (side, side), mode="bilinear", antialias=patches.shape[-1] > side)


def _on_grid(rows: Tensor, count: int, grid: tuple[int, int]) -> Tensor:
    return rows.reshape(count, *grid, -1).permute(0, 3, 1, 2)
