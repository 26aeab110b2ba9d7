"""Model files: weights and all that is needed to apply them to an image."""

from geopipe.checkpoint.checkpoint import LABEL_AREAS, Checkpoint, file_hash
from geopipe.checkpoint.domain import FeatureDomain
from geopipe.checkpoint.image import STRIP_PX, downsampled, network_input, strips
from geopipe.checkpoint.model_file import ModelFile

__all__ = [
    "LABEL_AREAS",
    "STRIP_PX",
    "Checkpoint",
    "FeatureDomain",
    "ModelFile",
    "downsampled",
    "file_hash",
    "network_input",
    "strips",
]
