"""How well vector labels fit an image: where they are shifted, and by how much."""

from geopipe.register.belief import Belief, QuickLook
from geopipe.register.field import ShiftField, estimate_field
from geopipe.register.fit import fit_labels, moved_labels, moved_source
from geopipe.register.plane import Plane

__all__ = [
    "Belief",
    "Plane",
    "QuickLook",
    "ShiftField",
    "estimate_field",
    "fit_labels",
    "moved_labels",
    "moved_source",
]
