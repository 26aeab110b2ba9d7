"""How well vector labels fit an image: where they are shifted, and by how much."""

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
