"""Checkpoint: one file that holds all a model needs, and the image as that model sees it."""

from geopipe.checkpoint.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.image import averaged, net_image

__all__ = ["Checkpoint", "averaged", "file_hash", "net_image"]
