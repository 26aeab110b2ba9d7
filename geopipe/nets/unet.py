"""A plain U-Net that never pads (Ronneberger et al. 2015), with batch norm."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from geopipe.errors import ConfigError
from geopipe.nets.base import BaseNetwork

CONVS = 2
"""3 x 3 convolutions per level and way."""
_MAX_CHANNELS = 1024
"""At the bottom: 110 MB of weights; a damaged header must not ask for more."""


class UNet(BaseNetwork):
    """Image to one score map per class of the same resolution, by way of `depth` halvings.

    Input (N, bands, H, W), H and W multiples of ``2**depth``; output (N, classes, H - 2
    receptive_radius, W - 2 receptive_radius). Levels are pooled on blocks counted from the input's
    corner, so a tile that starts on a multiple of the stride has the pixels of the whole. `base`:
    channels of the first level, doubled at each further one. Raises ConfigError for sizes out of
    bounds.
    """

    class_axes: ClassVar[dict[str, int]] = {"head.weight": 1, "head.bias": 1}

    def __init__(self, bands: int, classes: int, *, base: int = 16, depth: int = 3) -> None:
        super().__init__()
        if base < 1 or depth < 1 or base << min(depth, 30) > _MAX_CHANNELS:
            raise ConfigError(
                f"a U-Net of base {base} and depth {depth}: base x 2^depth is to be at most "
                f"{_MAX_CHANNELS}, both at least 1"
            )
        self.bands, self.classes, self.base, self.depth = bands, classes, base, depth
        self.feature_layers = tuple(f"down.{level}" for level in range(depth + 1))
        self.stride, self.receptive_radius = 2**depth, _receptive_radius(depth)
        self.floats_per_pixel = 8 * base
        widths = [base << level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            Level(in_channels, width)
            for in_channels, width in zip([bands, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1]
        )
        self.merge = nn.ModuleList(Level(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(base, classes, 1)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @property
    def architecture(self) -> dict[str, Any]:
        return {"net": "unet", "base": self.base, "depth": self.depth}

    def forward(self, image: Tensor) -> Tensor:
        # Channels last takes two thirds of the time, and no algorithm follows the tile's size.
        x, offset, skips = image.contiguous(memory_format=torch.channels_last), 0, []
        for level in self.down[:-1]:
            x, offset = level(x), offset + CONVS
            skips.append((x, offset))
            x, offset = F.max_pool2d(trim(x, offset % 2), 2), -(-offset // 2)
        x, offset = self.down[-1](x), offset + CONVS
        for level, upsample in zip(reversed(self.merge), reversed(self.up), strict=True):
            skip, before = skips.pop()
            x = torch.cat([trim(skip, 2 * offset - before), upsample(x)], 1)
            del skip  # else a tile takes half as much memory again
            x, offset = level(x), 2 * offset + CONVS
        scores: Tensor = self.head(x)
        return scores.contiguous()


class Level(nn.Module):
    """CONVS times 3 x 3 convolution, batch norm, ReLU: (N, given, h, w) to (N, width, h - 4, ...).

    Batch norm on stored statistics is a factor and an offset per channel, folded into the weights;
    gradients flow through the folding, as a training on stored statistics needs.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width if i else in_channels, width, 3, bias=False) for i in range(CONVS)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(CONVS))
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            x = (norm(conv(x)) if norm.training else _normed(x, conv, norm)).relu_()
        return x


def _normed(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """``norm(conv(x))`` on stored statistics, by one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return F.conv2d(
        x, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    )


def _receptive_radius(depth: int) -> int:
    """Offset of the output's corner from the input's: the walk of `UNet.forward`."""
    offset = 0
    for _ in range(depth):
        offset = -(-(offset + CONVS) // 2)
    offset += CONVS
    for _ in range(depth):
        offset = 2 * offset + CONVS
    return offset


def trim(x: Tensor, px: int) -> Tensor:
    """`x` without `px` rows and columns on each side."""
    return x[..., px:-px, px:-px] if px else x
