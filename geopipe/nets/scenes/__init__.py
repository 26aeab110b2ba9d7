"""Nets that tell what a whole chip shows: a tuned backbone, two of them fused, or DDRL-AM."""

from geopipe.nets.scenes.attention import AttentionNet, SpatialFeatureTransformer
from geopipe.nets.scenes.cam import attention_map, grad_cam, linear_cam
from geopipe.nets.scenes.chipnet import ChipNet
from geopipe.nets.scenes.recipe import Part, Recipe
from geopipe.nets.scenes.vector import Branch, VectorNet

__all__ = [
    "AttentionNet",
    "Branch",
    "ChipNet",
    "Part",
    "Recipe",
    "SpatialFeatureTransformer",
    "VectorNet",
    "attention_map",
    "grad_cam",
    "linear_cam",
]
