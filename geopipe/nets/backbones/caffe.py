"""Nets of the Caffe model zoo, which no kept library defines: GoogLeNet, CaffeNet, CNN-M.

Caffe pools with ceil_mode and normalises over channels (LRN) where later nets have BatchNorm.
Published keys are Caffe's layer names with /w and /b.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geopipe.nets.backbones.library import Definition


@dataclass(frozen=True)
class _Conv:
    """A layer of a net of five convolutions."""

    width: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


_CAFFENET = (
    _Conv(96, 11, 4),
    _Conv(256, 5, padding=2, groups=2),
    _Conv(384, 3, padding=1),
    _Conv(384, 3, padding=1, groups=2),
    _Conv(256, 3, padding=1, groups=2),
)
_CNN_M = (
    _Conv(96, 7, 2),
    _Conv(256, 5, 2, padding=1),
    _Conv(512, 3, padding=1),
    _Conv(512, 3, padding=1),
    _Conv(512, 3, padding=1),
)
_INCEPTIONS = {
    # 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj: Szegedy et al. 2015, table 1
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}


class _Inception(nn.Module):
    """Four branches side by side, (N, c, h, w) to (N, sum of their widths, h, w)."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, proj = widths
        self.width = one + three + five + proj
        self.layers = nn.ModuleDict(
            {
                "1x1": nn.Conv2d(channels, one, 1),
                "3x3_reduce": nn.Conv2d(channels, reduce3, 1),
                "3x3": nn.Conv2d(reduce3, three, 3, padding=1),
                "5x5_reduce": nn.Conv2d(channels, reduce5, 1),
                "5x5": nn.Conv2d(reduce5, five, 5, padding=2),
                "pool_proj": nn.Conv2d(channels, proj, 1),
            }
        )
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        layers = self.layers
        branches = (
            layers["1x1"](x),
            layers["3x3"](layers["3x3_reduce"](x).relu()),
            layers["5x5"](layers["5x5_reduce"](x).relu()),
            layers["pool_proj"](self.pool(x)),
        )
        return torch.cat(branches, 1).relu_()


def googlenet_blocks() -> Definition:
    """BVLC GoogLeNet: Szegedy et al. 2015 as in Caffe, without its two auxiliary classifiers."""
    norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    conv1, reduce2, conv2 = (
        nn.Conv2d(3, 64, 7, 2, 3),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 192, 3, padding=1),
    )
    layers: dict[str, nn.Module] = {
        "conv1/7x7_s2": conv1,
        "conv2/3x3_reduce": reduce2,
        "conv2/3x3": conv2,
    }
    blocks: dict[str, nn.Module] = {
        "conv1": nn.Sequential(conv1, nn.ReLU(True), _pool(), norm),
        "conv2": nn.Sequential(reduce2, nn.ReLU(True), conv2, nn.ReLU(True), norm, _pool()),
    }
    channels = 192
    for name, widths in _INCEPTIONS.items():
        if name in ("inception_4a", "inception_5a"):
            blocks[f"pool{int(name[-2]) - 1}"] = _pool()
        block = _Inception(channels, widths)
        blocks[name], channels = block, block.width
        layers |= {f"{name}/{layer}": conv for layer, conv in block.layers.items()}
    classifier = layers["loss3/classifier"] = nn.Linear(channels, 1000)
    blocks["logits"] = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), classifier
    )
    return blocks, _published(layers)


def caffenet_blocks() -> Definition:
    """CaffeNet: Krizhevsky et al. 2012 with pooling before normalisation (Jia et al. 2014)."""
    norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    return _five_convolutions(_CAFFENET, [_pool(), norm])


def cnn_m_blocks() -> Definition:
    """CNN-M: Chatfield et al. 2014 (BMVC), table 1, with normalisation before pooling."""
    norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    return _five_convolutions(_CNN_M, [norm, _pool()])


def _five_convolutions(convs: tuple[_Conv, ...], after: list[nn.Module]) -> Definition:
    """Convolutions 1 to 5, `after` behind the first two, then pool5, fc6, fc7 and logits."""
    layers: dict[str, nn.Module] = {}
    blocks: dict[str, nn.Module] = {}
    channels = 3
    for i, c in enumerate(convs, 1):
        conv = nn.Conv2d(channels, c.width, c.kernel, c.stride, c.padding, groups=c.groups)
        layers[f"conv{i}"], channels = conv, c.width
        blocks[f"conv{i}"] = nn.Sequential(conv, nn.ReLU(True), *(after if i <= 2 else []))
    blocks["pool5"] = _pool()
    fc6, fc7, fc8 = nn.Linear(channels * 36, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)
    layers |= {"fc6": fc6, "fc7": fc7, "fc8": fc8}
    # At the net's own size the map is 6 x 6 and the average changes nothing.
    blocks["fc6"] = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(), fc6, nn.ReLU(True))
    blocks["fc7"] = nn.Sequential(nn.Dropout(), fc7, nn.ReLU(True))
    blocks["logits"] = nn.Sequential(OrderedDict(dropout=nn.Dropout(), fc8=fc8))
    return blocks, _published(layers)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _published(layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}/{kind[0]}": tensor
        for name, layer in layers.items()
        for kind, tensor in layer.named_parameters()
    }
