"""Backbones by name, untrained."""

import torch
from torch import nn

from geopipe.nets.backbones import caffe, dinov2, library, lite
from geopipe.nets.backbones.concatenation import Concatenation
from geopipe.nets.backbones.net import BackboneNet
from geopipe.nets.backbones.table import JOIN, backbone
from geopipe.nets.shapes import allocate, shapes_only

_BUILDERS = {
    "efficientnet_lite0": lite.efficientnet_lite0_blocks,
    "googlenet": caffe.googlenet_blocks,
    "caffenet": caffe.caffenet_blocks,
    "cnn_m": caffe.cnn_m_blocks,
    "dinov2_vits14": dinov2.dinov2_vits14_blocks,
}


def build_backbone(
    name: str, last_layer: str | None = None, generator: torch.Generator | None = None
) -> BackboneNet:
    """An untrained net of `BACKBONES`, or a concatenation, in training mode, from no network.

    `last_layer`: the last feature it needs; the blocks behind are left out (fc6 of VGG alone is 400
    MB). None: all blocks. Raises ConfigError for a name or feature that there is not.
    """
    spec = backbone(name)
    if JOIN in name:
        parts = (build_backbone(part, "pooled", generator) for part in name.split(JOIN))
        return Concatenation(spec, list(parts)).truncated(last_layer or "pooled")
    net = empty_backbone(name)[0].truncated(last_layer or list(spec.features)[-1])
    if torch.get_default_device().type != "meta":  # else only its shapes are asked for
        allocate(net)
        initialise(net, generator)
    return net.arranged()


def empty_backbone(name: str) -> tuple[BackboneNet, dict[str, str]]:
    """The net without memory behind its tensors (device "meta"), and the keys of its weights.

    The second is each key of the net's published weights with the key it has in `BackboneNet`.
    """
    spec = backbone(name)
    with shapes_only():
        blocks, published = (
            _BUILDERS[name]() if name in _BUILDERS else library.torchvision_blocks(name)
        )
    net = BackboneNet(spec, blocks)
    key_by_tensor = {id(tensor): key for key, tensor in net.state_dict(keep_vars=True).items()}
    return net, {key: key_by_tensor[id(tensor)] for key, tensor in published.items()}


def initialise(net: nn.Module, generator: torch.Generator | None = None) -> None:
    """Start values for every layer: He et al. 2015 (ICCV), of `generator` or torch's own."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.LayerNorm):
            layer.reset_parameters()
        else:
            dinov2.initialise_tokens(layer, generator)
