"""Checkpoint: one file that holds all a model needs, and the image as that model sees it."""

from geopipe.checkpoint.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.image import STRIP_PX, averaged, net_image, strips

__all__ = ["STRIP_PX", "Checkpoint", "averaged", "file_hash", "net_image", "strips"]
