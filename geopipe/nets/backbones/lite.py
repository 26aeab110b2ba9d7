"""EfficientNet-Lite0, whose weights a package index has.

Tan and Le 2019 (ICML), in the form for small machines: no squeeze-excite, ReLU6 for swish, stem
and head not scaled. It takes timm to have it from a kept library, and with timm a client of a
model hub and what that needs; the net is 60 lines.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 (torch's usual name)
from torch import Tensor, nn

from geopipe.nets.backbones.library import Definition

_STAGES = (
    # repeats, kernel, stride, expansion, width
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280


class _SameConv(nn.Conv2d):
    """Padded as TensorFlow does: to ceil(size / stride), the odd pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        if self.groups == 1 or x.is_cuda:
            return super().forward(F.pad(x, pads))
        # On a CPU the gradient of a 5 x 5 depthwise kernel takes eight times as long in bfloat16.
        with torch.autocast("cpu", enabled=False):
            return super().forward(F.pad(x.to(self.weight.dtype), pads))


class _Bottleneck(nn.Module):
    """Expansion, depthwise convolution, projection; the input is added where shapes agree."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _conv(channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _conv(inner, inner, kernel, stride, groups=inner)
        self.project = _conv(inner, width, 1, activated=False)
        self.adds = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


def efficientnet_lite0_blocks() -> Definition:
    """The blocks; published keys are those of the package's file."""
    blocks: dict[str, nn.Module] = {"stem": _conv(3, _STEM, 3, 2)}
    published = _keys(blocks["stem"], "_conv_stem", "_bn0")
    widths = [_STEM, *(stage[-1] for stage in _STAGES)]
    n = 0
    for i, (repeats, kernel, stride, expansion, _) in enumerate(_STAGES, 1):
        before, width = list(pairwise(widths))[i - 1]
        stage = nn.Sequential()
        for k in range(repeats):
            first = k == 0
            block = _Bottleneck(
                before if first else width, width, kernel, stride if first else 1, expansion
            )
            stage.append(block)
            published |= _keys(block.expand, f"_blocks.{n}._expand_conv", f"_blocks.{n}._bn0")
            published |= _keys(block.depthwise, f"_blocks.{n}._depthwise_conv", f"_blocks.{n}._bn1")
            published |= _keys(block.project, f"_blocks.{n}._project_conv", f"_blocks.{n}._bn2")
            n += 1
        blocks[f"stage{i}"] = stage
    blocks["head"] = _conv(widths[-1], _HEAD, 1)
    published |= _keys(blocks["head"], "_conv_head", "_bn1")
    fc = nn.Linear(_HEAD, 1000)
    blocks["logits"] = nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), drop=nn.Dropout(0.2), fc=fc)
    )
    return blocks, published | {"_fc.weight": fc.weight, "_fc.bias": fc.bias}


def _conv(
    channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, activated: bool = True
) -> nn.Sequential:
    layers = nn.Sequential(
        OrderedDict(
            conv=_SameConv(channels, width, kernel, stride, groups=groups, bias=False),
            norm=nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),
        )
    )
    if activated:
        layers.append(nn.ReLU6(True))
    return layers


def _keys(layers: nn.Module, conv: str, norm: str) -> dict[str, Tensor]:
    names = {"conv": conv, "norm": norm}
    return {
        f"{names[kind]}.{remainder}": tensor
        for key, tensor in layers.state_dict(keep_vars=True).items()
        for kind, _, remainder in [key.partition(".")]
    }
