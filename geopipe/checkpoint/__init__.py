"""Checkpoint: one file that holds all a model needs, and the image as that model sees it."""

from geopipe.checkpoint.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.image import STRIP_PX, downsampled, network_input, strips

__all__ = ["STRIP_PX", "Checkpoint", "downsampled", "file_hash", "network_input", "strips"]
