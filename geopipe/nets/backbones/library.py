"""Backbones that torchvision defines, cut into blocks."""

import importlib
from collections import OrderedDict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

Definition = tuple[dict[str, nn.Module], dict[str, Tensor]]
"""Blocks by name, from input to output; and every tensor in them by the key it is published as."""

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def torchvision_models() -> Any:
    """The module torchvision.models, imported at the first call (it takes a second).

    torchvision's compiled library is made for torch with CUDA. Beside a torch without, it does
    not load, and the import stops at two operators that nobody declared. Only then are they
    declared here, without code behind them: models need neither.
    """
    for operator in _OPERATORS:
        try:
            return importlib.import_module("torchvision.models")
        except RuntimeError as e:
            if f"operator torchvision::{operator} does not exist" not in str(e):
                raise
            torch.library.define(f"torchvision::{operator}", _SCHEMA)
    return importlib.import_module("torchvision.models")


def torchvision_blocks(name: str) -> Definition:
    """The blocks of torchvision's net `name`; its published keys are its own."""
    models = torchvision_models()
    net = getattr(models, name)(weights=None)
    blocks = {
        "alexnet": _alexnet,
        "vgg16": _vgg,
        "vgg19": _vgg,
        "mobilenet_v2": _mobilenet,
        "resnet18": _resnet,
        "resnet50": _resnet,
    }[name](net)
    return blocks, net.state_dict(keep_vars=True)


def _alexnet(net: Any) -> dict[str, nn.Module]:
    f, c = net.features, net.classifier
    return {
        "conv1": f[:3],
        "conv2": f[3:6],
        "conv3": f[6:8],
        "conv4": f[8:10],
        "conv5": f[10:12],
        "pool5": f[12:],
        "fc6": _behind_map(net.avgpool, c[:3]),
        "fc7": c[3:6],
        "logits": c[6:],
    }


def _vgg(net: Any) -> dict[str, nn.Module]:
    f, c = net.features, net.classifier
    block_ends = [i + 1 for i, layer in enumerate(f) if isinstance(layer, nn.MaxPool2d)]
    block_ends[-1] -= 1  # the last pooling is a block of its own
    starts = [0, *block_ends[:-1]]
    return {
        **{f"conv{i + 1}": f[a:b] for i, (a, b) in enumerate(zip(starts, block_ends, strict=True))},
        "pool5": f[block_ends[-1] :],
        "fc6": _behind_map(net.avgpool, c[:2]),
        "fc7": c[2:5],
        "logits": c[5:],
    }


def _mobilenet(net: Any) -> dict[str, nn.Module]:
    f = net.features
    block_ends = (2, 4, 7, 11, 14, 17, 18)  # where the width changes: Sandler et al. 2018, table 2
    stages = {f"stage{i + 2}": f[a:b] for i, (a, b) in enumerate(pairwise(block_ends))}
    logits = _behind_map(nn.AdaptiveAvgPool2d(1), net.classifier)
    return {"stem": f[:2], **stages, "head": f[18:], "logits": logits}


def _resnet(net: Any) -> dict[str, nn.Module]:
    stem = nn.Sequential(
        OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool)
    )
    layers = {f"layer{i}": getattr(net, f"layer{i}") for i in (1, 2, 3, 4)}
    return {"stem": stem, **layers, "logits": _behind_map(net.avgpool, net.fc)}


def _behind_map(pool: nn.Module, layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(pool=pool, flatten=nn.Flatten(), layers=layers))
