"""Score nets by name."""

from typing import Literal

from geopipe.nets.coarse import CoarseNet
from geopipe.nets.scorenet import ScoreNet
from geopipe.nets.unet import UNet

NetName = Literal["cnn", "unet"]


def build_net(bands: int, classes: int, net: NetName = "cnn", **sizes: int) -> ScoreNet:
    """An untrained score net; `sizes`: `base` and `depth` of a U-Net.

    The CNN is the default, for models of before there was another. Raises ValueError for a name
    or sizes that there are not.
    """
    if not all(type(n) is int for n in sizes.values()):
        raise ValueError(f"sizes of a net: {sizes}")
    if net == "cnn" and not sizes:
        return CoarseNet(bands, classes)
    if net == "unet" and sizes.keys() <= {"base", "depth"}:
        return UNet(bands, classes, **sizes)
    raise ValueError(f"no net {net!r} of {sizes}")
