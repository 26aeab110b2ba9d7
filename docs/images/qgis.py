"""Make qgis-*.png in QGIS itself, without a screen, from the root of the repository.

usage: GEOPIPE_SHOTS=FOLDER xvfb-run -s "-screen 0 1400x900x24" qgis --noversioncheck --nologo
       --profiles-path FOLDER --code docs/images/qgis.py
FOLDER has scene.tif, osm.gpkg with a table buildings, and model.safetensors; geopipe is found.
"""

import os
import sys
from pathlib import Path
from typing import Any

import processing
from qgis.core import QgsProcessingContext, QgsProject
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtGui import QGuiApplication, QImage
from qgis.PyQt.QtWidgets import QWidget
from qgis.utils import iface

FOLDER = Path(os.environ["GEOPIPE_SHOTS"])
DOCS = Path("docs")


def save(widget: QWidget, name: str) -> None:
    """A picture of `widget`, with a palette, which keeps the file small."""
    QGuiApplication.processEvents()
    flat = Qt.ImageConversionFlag.ThresholdDither | Qt.ImageConversionFlag.AvoidDither
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_Indexed8, flat)
    image.save(str(DOCS / "images" / f"{name}.png"))


def dialog(name: str, parameters: dict[str, Any]) -> None:
    """The dialog of an algorithm, filled in."""
    box = processing.createAlgorithmDialog(f"geopipe:{name}", parameters)
    box.resize(820, 560)
    box.show()
    save(box, f"qgis-{name.replace('_', '-')}")
    box.close()


def load(name: str, parameters: dict[str, Any]) -> None:
    """Run an algorithm and load the polygons that it made; under them the scene stays visible."""
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    processing.run(f"geopipe:{name}", parameters, context=context)
    for source, details in context.layersToLoadOnCompletion().items():
        if "|layername=" in source:
            iface.addVectorLayer(source, details.name, "ogr")


def main() -> None:
    """All pictures."""
    sys.path.insert(0, str(Path("qgis").resolve()))
    from geopipe_provider import classFactory

    plugin = classFactory(iface)
    plugin.initGui()
    scene = iface.addRasterLayer(str(FOLDER / "scene.tif"), "scene")
    osm = iface.addVectorLayer(f"{FOLDER}/osm.gpkg|layername=buildings", "buildings", "ogr")
    model, out = str(FOLDER / "model.safetensors"), str(FOLDER / "map")
    asked = {"SCENE": scene.id(), "MODEL": model, "OUTPUT": out, "VECTORS": True}
    dialog("map", asked)
    check = {"SCENE": scene.id(), "LABELS": osm.id(), "OUTPUT": str(FOLDER / "check.gpkg")}
    dialog("labels_check", check)
    load("map", {**asked, "OVERWRITE": True})
    QgsProject.instance().removeMapLayer(osm.id())
    iface.mainWindow().resize(1200, 760)
    iface.setActiveLayer(scene)
    iface.zoomToActiveLayer()
    QTimer.singleShot(8000, finish)


def finish() -> None:
    """The window with the result, then the end."""
    save(iface.mainWindow(), "qgis-result")
    os._exit(0)


QTimer.singleShot(4000, main)
