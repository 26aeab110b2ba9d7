"""The table of backbones: source, input and features of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from geopipe.errors import ConfigError

JOIN = "+"
"""Between the names of backbones that are concatenated."""

_Triple = tuple[float, float, float]
_Statistics = tuple[_Triple, _Triple]


@dataclass(frozen=True)
class Feature:
    """Something a net can give of an image."""

    after: str
    """The block (`BackboneNet.blocks`) it is the output of."""
    width: int
    """Channels of the map (N, width, h, w), or length of the vector (N, width)."""
    pooled: bool = False
    """Averaged over the whole map to a vector."""
    also: tuple[str, ...] = ()
    """Earlier blocks whose outputs of equal size come before it; `width` counts them."""


@dataclass(frozen=True)
class Backbone:
    """One pretrained net. Units of `mean` and `std`: 0..255, in the order RGB."""

    name: str
    source: Literal["torchvision", "package", "hub", "file"]
    """Where weights can be had: torchvision's download, a package of the index, the download of its
    authors that torch hub takes, or only a file that the user gives."""
    features: Mapping[str, Feature]
    px: int
    """Width and height the net was trained with."""
    mean: _Triple
    std: _Triple
    bgr: bool = False
    """Published weights take blue first; `load_backbone` turns the first convolution around, so a
    `BackboneNet` always takes RGB."""
    frozen: bool = False
    """Its features serve as they are: patch models train the last layer alone unless told else."""
    pretrained_on: str = "ImageNet"
    """The images that its weights were trained on."""


_TORCHVISION: _Statistics = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_LITE: _Statistics = ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
_CAFFE: _Statistics = ((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))
_CHATFIELD: _Statistics = ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))


def _features(last: str, width: int, **extra: Feature) -> Mapping[str, Feature]:
    """`last`: the block of the last convolution, of `width` channels; `extra` lies behind it."""
    return {
        "c5": Feature(last, width),
        "pooled": Feature(last, width, pooled=True),
        **extra,
        "logits": Feature("logits", 1000),
    }


def _fully_connected(width: int) -> Mapping[str, Feature]:
    """The features of a net with fc6 and fc7; c5 lies before the pooling, pool5 behind it."""
    return _features(
        "conv5",
        width,
        pool5=Feature("pool5", width),
        fc6=Feature("fc6", 4096),
        fc7=Feature("fc7", 4096),
    )


DINOV2_WIDTH = 384


def _tokens(first: int, last: int) -> Mapping[str, Feature]:
    """The features of DINOv2; c5 and pooled are blocks `first` to `last`, one behind the other."""
    chosen = [f"block{i}" for i in range(first, last + 1)]
    width, also = DINOV2_WIDTH * len(chosen), tuple(chosen[:-1])
    return {
        "c5": Feature(chosen[-1], width, also=also),
        "pooled": Feature(chosen[-1], width, pooled=True, also=also),
        **{f"block{i}": Feature(f"block{i}", DINOV2_WIDTH, pooled=True) for i in range(12)},
        "last": Feature("norm", DINOV2_WIDTH, pooled=True),
    }


_GOOGLENET = _features("inception_5b", 1024, im=Feature("inception_5b", 1024))
"""im, the output of the top inception module, is also the last map there is: c5."""

BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Backbone("efficientnet_lite0", "package", _features("head", 1280), 224, *_LITE),
            Backbone("mobilenet_v2", "torchvision", _features("head", 1280), 224, *_TORCHVISION),
            Backbone("alexnet", "torchvision", _fully_connected(256), 224, *_TORCHVISION),
            Backbone("caffenet", "file", _fully_connected(256), 227, *_CAFFE, bgr=True),
            Backbone("cnn_m", "file", _fully_connected(512), 224, *_CHATFIELD, bgr=True),
            Backbone("vgg16", "torchvision", _fully_connected(512), 224, *_TORCHVISION),
            Backbone("vgg19", "torchvision", _fully_connected(512), 224, *_TORCHVISION),
            Backbone("googlenet", "file", _GOOGLENET, 224, *_CAFFE, bgr=True),
            Backbone("resnet18", "torchvision", _features("layer4", 512), 224, *_TORCHVISION),
            Backbone("resnet50", "torchvision", _features("layer4", 2048), 224, *_TORCHVISION),
            Backbone(
                "dinov2_vits14",
                "hub",
                _tokens(5, 7),
                224,
                *_TORCHVISION,
                frozen=True,
                pretrained_on="LVD-142M",
            ),
        )
    }
)
"""Every backbone by name. `efficientnet_lite0` is the default: a package index has its weights."""


def backbone(name: str) -> Backbone:
    """The row of `BACKBONES`, or of a concatenation ``A+B`` of them.

    A concatenation takes the images of its first net and gives the pooled features of all, one
    behind the other. Raises ConfigError with the names there are.
    """
    parts = name.split(JOIN)
    for part in parts:
        if part not in BACKBONES:
            known = ", ".join(BACKBONES)
            raise ConfigError(f"no backbone {part!r}", f"one of {known}, or two joined by {JOIN!r}")
    if len(parts) == 1:
        return BACKBONES[name]
    if len(set(parts)) < len(parts):
        raise ConfigError(f"{name!r} names a backbone twice", "join different ones")
    first = BACKBONES[parts[0]]
    width = sum(BACKBONES[part].features["pooled"].width for part in parts)
    features = {"pooled": Feature("", width, pooled=True)}
    return replace(
        first, name=name, features=features, frozen=True, pretrained_on=pretrained_on(parts)
    )


def pretrained_on(names: Iterable[str]) -> str:
    """The images that the weights of backbones were trained on, each once."""
    return " and ".join(dict.fromkeys(BACKBONES[name].pretrained_on for name in names))
