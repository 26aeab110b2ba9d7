"""The commands of geopipe that QGIS offers, as tables."""

from __future__ import annotations

from . import accuracy, labels, mapping, search, training

COMMANDS = (
    *labels.COMMANDS,
    *training.COMMANDS,
    *mapping.COMMANDS,
    *accuracy.COMMANDS,
    *search.COMMANDS,
)
