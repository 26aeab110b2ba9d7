"""The one setting: the path of geopipe, among Processing's own options."""

from __future__ import annotations

import os
from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.PyQt.QtGui import QIcon

from .runner import find_executable

GROUP = "geopipe"
EXECUTABLE = "GEOPIPE_EXECUTABLE"


def register(icon: QIcon) -> None:
    """Add the setting to Processing's options."""
    ProcessingConfig.settingIcons[GROUP] = icon
    ProcessingConfig.addSetting(
        Setting(
            GROUP,
            EXECUTABLE,
            "Path of geopipe (empty: it is searched)",
            "",
            valuetype=Setting.FILE,
        )
    )
    ProcessingConfig.readSettings()


def unregister() -> None:
    """Take it away again."""
    ProcessingConfig.removeSetting(EXECUTABLE)


def executable() -> Path:
    """The geopipe to run.

    Raises:
        RunnerError: There is none.
    """
    configured = str(ProcessingConfig.getSetting(EXECUTABLE) or "").strip()
    return find_executable(configured, Path(__file__).parent, os.environ)
