"""The commands of geopipe that QGIS offers, as tables."""

from __future__ import annotations

from . import accuracy, changes, labels, mapping, scenes, search, training

COMMANDS = (
    *scenes.COMMANDS,
    *labels.COMMANDS,
    *training.COMMANDS,
    *mapping.COMMANDS,
    *changes.COMMANDS,
    *accuracy.COMMANDS,
    *search.COMMANDS,
)
