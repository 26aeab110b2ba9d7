"""Networks: tensors in, tensors out. No files, no CRS, no dask.

Every net here is a *valid* net: it never pads. The caller supplies the context (`halo` pixels on
each side) and gets back exactly the pixels inside it, so a tile and the whole scene agree.
"""

from geopipe.nets.build import NetName, build_net, build_refinement
from geopipe.nets.coarse import CoarseNet
from geopipe.nets.kernels import Kernels
from geopipe.nets.mapnet import MapNet
from geopipe.nets.patches import PatchNet
from geopipe.nets.reach import measured_halo
from geopipe.nets.refine import RefineNet
from geopipe.nets.scorenet import ScoreNet
from geopipe.nets.segments import SegmentVote
from geopipe.nets.unet import UNet

__all__ = [
    "CoarseNet",
    "Kernels",
    "MapNet",
    "NetName",
    "PatchNet",
    "RefineNet",
    "ScoreNet",
    "SegmentVote",
    "UNet",
    "build_net",
    "build_refinement",
    "measured_halo",
]
