"""Networks: tensors in, tensors out. No files, no CRS, no dask.

Every net here is a *valid* net: it never pads. The caller supplies the context (`halo` pixels on
each side) and gets back exactly the pixels inside it, so a tile and the whole scene agree.
"""

from geopipe.nets.base import BaseNetwork
from geopipe.nets.build import build_base_network, build_postprocessor
from geopipe.nets.kernels import Kernels
from geopipe.nets.mnih import MnihCNN
from geopipe.nets.patches import PatchNet
from geopipe.nets.receptive_field import measured_halo
from geopipe.nets.refinement import RefinementRNN
from geopipe.nets.segment_vote import SegmentVote
from geopipe.nets.segmentation import SegmentationModel
from geopipe.nets.unet import UNet

__all__ = [
    "BaseNetwork",
    "Kernels",
    "MnihCNN",
    "PatchNet",
    "RefinementRNN",
    "SegmentVote",
    "SegmentationModel",
    "UNet",
    "build_base_network",
    "build_postprocessor",
    "measured_halo",
]
