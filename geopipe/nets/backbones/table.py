"""The table of backbones: source, input and features of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from geopipe.errors import ConfigError

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


@dataclass(frozen=True)
class Backbone:
    """One net of ImageNet's 1000 classes. Units of `mean` and `std`: 0..255, in the order RGB."""

    name: str
    source: Literal["torchvision", "package", "file"]
    """Where weights can be had: torchvision's download, a package of the index, or only a file
    that the user gives."""
    features: Mapping[str, Feature]
    px: int
    """Width and height the net was trained with."""
    mean: _Triple
    std: _Triple
    bgr: bool = False
    """Published weights take blue first; `load_backbone` turns the first convolution around, so a
    `BackboneNet` always takes RGB."""


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
        )
    }
)
"""Every backbone by name. `efficientnet_lite0` is the default: a package index has its weights."""


def backbone(name: str) -> Backbone:
    """The row of `BACKBONES`; raises ConfigError with the names there are."""
    try:
        return BACKBONES[name]
    except KeyError:
        raise ConfigError(f"no backbone {name!r}", f"one of {', '.join(BACKBONES)}") from None
