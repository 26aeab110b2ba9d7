"""The plugin and its Processing provider."""

from __future__ import annotations

from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from . import settings
from .algorithm import ICON, GeopipeAlgorithm
from .algorithms import COMMANDS


class GeopipeProvider(QgsProcessingProvider):
    """The commands of geopipe in the Processing toolbox."""

    def id(self) -> str:
        """Prefix of the ids of its algorithms."""
        return "geopipe"

    def name(self) -> str:
        """Its name in the toolbox."""
        return "geopipe"

    def icon(self) -> QIcon:
        """Two houses and a road."""
        return QIcon(ICON)

    def load(self) -> bool:
        """Add the setting and the algorithms."""
        settings.register(self.icon())
        return bool(super().load())

    def unload(self) -> None:
        """Take the setting away."""
        settings.unregister()

    def loadAlgorithms(self) -> None:
        """Add an algorithm for each command."""
        for command in COMMANDS:
            self.addAlgorithm(GeopipeAlgorithm(command))


class GeopipePlugin:
    """What QGIS loads; it has nothing but the provider."""

    def __init__(self) -> None:
        self._provider: GeopipeProvider | None = None

    def initProcessing(self) -> None:
        """Also what qgis_process calls."""
        self._provider = GeopipeProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Called in QGIS with its windows."""
        self.initProcessing()

    def unload(self) -> None:
        """Take the provider away again."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
