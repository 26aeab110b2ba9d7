"""Learn from patches of several sizes around cells of an image."""

from geopipe.learn.patches.cells import Cells
from geopipe.learn.patches.embed import Embedded, embed
from geopipe.learn.patches.planes import ChipPlane, Plane, ScenePlane
from geopipe.learn.patches.train import PatchPlan, patch_net, train_patches

__all__ = [
    "Cells",
    "ChipPlane",
    "Embedded",
    "PatchPlan",
    "Plane",
    "ScenePlane",
    "embed",
    "patch_net",
    "train_patches",
]
