"""Networks for scene classification of whole chips: fine-tuning, fusion of two CNNs, DDRL-AM."""

from geopipe.nets.chips.attention import AttentionNet, SpatialFeatureTransformer
from geopipe.nets.chips.cam import attention_map, grad_cam, linear_cam
from geopipe.nets.chips.chipnet import ChipNet
from geopipe.nets.chips.spec import BackboneFeature, ModelSpec
from geopipe.nets.chips.vector import Branch, VectorNet

__all__ = [
    "AttentionNet",
    "BackboneFeature",
    "Branch",
    "ChipNet",
    "ModelSpec",
    "SpatialFeatureTransformer",
    "VectorNet",
    "attention_map",
    "grad_cam",
    "linear_cam",
]
