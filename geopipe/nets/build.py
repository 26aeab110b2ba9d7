"""Networks by name."""

from typing import Any

from geopipe.nets.base import BaseNetwork
from geopipe.nets.chips.chipnet import ChipNet
from geopipe.nets.liteunet import LiteUNet
from geopipe.nets.mnih import MnihCNN
from geopipe.nets.patches import PatchNet
from geopipe.nets.refinement import RefinementRNN
from geopipe.nets.segment_vote import SegmentVote
from geopipe.nets.unet import UNet


def build_base_network(bands: int, classes: int, net: str = "cnn", **sizes: Any) -> BaseNetwork:
    """Build an untrained base network.

    Args:
        bands: Bands of the image.
        classes: Classes of the scores.
        net: "cnn", "unet", "lite-unet", or what `architecture` of a PatchNet or ChipNet names.
        **sizes: `base` and `depth` of a U-Net, `cores` of a LiteUNet, the arguments of a
            PatchNet or a ChipNet.

    Raises:
        ValueError: The name, or a size, does not exist.
    """
    if net == "patches":
        return PatchNet(bands, classes, **sizes)
    if net == "scenes":
        return ChipNet(bands, classes, **sizes)
    if net != "lite-unet" and not all(type(n) is int for n in sizes.values()):
        raise ValueError(f"sizes of a net: {sizes}")
    if net == "cnn" and not sizes:
        return MnihCNN(bands, classes)
    if net == "lite-unet" and sizes.keys() <= {"cores"}:
        return LiteUNet(bands, classes, **sizes)
    if net == "unet" and sizes.keys() <= {"base", "depth"}:
        return UNet(bands, classes, **sizes)
    raise ValueError(f"no net {net!r} of {sizes}")


def build_postprocessor(bands: int, classes: int, **header: Any) -> RefinementRNN | SegmentVote:
    """An untrained refinement from what a Checkpoint says of it; TypeError for unknown keys."""
    if "segments" in header:
        return SegmentVote(classes, **header["segments"])
    return RefinementRNN(bands, classes, **header)
