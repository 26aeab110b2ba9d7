"""Training of segmentation and classification models: scenes and labels in, a Checkpoint out.

Data augmentation happens where patches are drawn: `geopipe.learn.sampler`.
"""

from geopipe.learn.base_network import BaseNetworkPlan, train_base_network
from geopipe.learn.loop import TrainingHistory
from geopipe.learn.refinement import RefinementPlan, train_refinement
from geopipe.learn.sampler import PatchPool, PatchSampler, build_pool

__all__ = [
    "BaseNetworkPlan",
    "PatchPool",
    "PatchSampler",
    "RefinementPlan",
    "TrainingHistory",
    "build_pool",
    "train_base_network",
    "train_refinement",
]
