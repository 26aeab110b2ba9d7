"""A Processing provider of QGIS that runs the geopipe command line."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """The plugin; `iface` is None in qgis_process."""
    from .provider import GeopipePlugin

    return GeopipePlugin()
