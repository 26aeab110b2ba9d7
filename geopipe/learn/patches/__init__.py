"""Land-cover models of patches at several scales around the cells of an image."""

from geopipe.learn.patches.embed import Embeddings, embed
from geopipe.learn.patches.grid import PatchGrid
from geopipe.learn.patches.rasters import ChipRaster, PatchRaster, SceneRaster
from geopipe.learn.patches.train import PatchPlan, is_frozen, patch_net, train_patches

__all__ = [
    "ChipRaster",
    "Embeddings",
    "PatchGrid",
    "PatchPlan",
    "PatchRaster",
    "SceneRaster",
    "embed",
    "is_frozen",
    "patch_net",
    "train_patches",
]
