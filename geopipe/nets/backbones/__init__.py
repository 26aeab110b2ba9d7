"""ImageNet backbones: one table, one builder, features by name."""

from geopipe.nets.backbones.build import build_backbone
from geopipe.nets.backbones.concatenation import Concatenation
from geopipe.nets.backbones.convert import filled_backbone, is_counter
from geopipe.nets.backbones.library import torchvision_models
from geopipe.nets.backbones.net import BackboneNet
from geopipe.nets.backbones.table import BACKBONES, JOIN, Backbone, Feature, backbone

__all__ = [
    "BACKBONES",
    "JOIN",
    "Backbone",
    "BackboneNet",
    "Concatenation",
    "Feature",
    "backbone",
    "build_backbone",
    "filled_backbone",
    "is_counter",
    "torchvision_models",
]
