"""Registration of vector labels to an image: where they are shifted, by how much, and label QC."""

from geopipe.register.displacement import DisplacementField, estimate_field
from geopipe.register.fit import fit_labels, shifted_labels, shifted_source
from geopipe.register.grid import RegistrationGrid
from geopipe.register.likelihood import ClassLikelihood, PixelClassifier

__all__ = [
    "ClassLikelihood",
    "DisplacementField",
    "PixelClassifier",
    "RegistrationGrid",
    "estimate_field",
    "fit_labels",
    "shifted_labels",
    "shifted_source",
]
