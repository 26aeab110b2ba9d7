"""Training loops: scenes and labels in, a Checkpoint out."""

from geopipe.learn.coarse import CoarsePlan, train_coarse
from geopipe.learn.fit import Fitted
from geopipe.learn.pool import Pool, Sampling, build_pool
from geopipe.learn.refine import RefinePlan, train_refinement

__all__ = [
    "CoarsePlan",
    "Fitted",
    "Pool",
    "RefinePlan",
    "Sampling",
    "build_pool",
    "train_coarse",
    "train_refinement",
]
