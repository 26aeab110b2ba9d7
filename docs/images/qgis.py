"""Make qgis-*.png in QGIS itself, without a screen, from the root of the repository.

usage: GEOPIPE_SHOTS=FOLDER xvfb-run -s "-screen 0 1400x900x24" qgis --noversioncheck --nologo
       --profiles-path FOLDER --code docs/images/qgis.py
FOLDER has scene.tif, osm.gpkg with a table buildings, and model.safetensors; without the model only
the dialogs are made. geopipe is found.
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


TOWN = "4.060,4.070,45.600,45.608 [EPSG:4326]"
FILLED: dict[str, dict[str, Any]] = {
    "scene_wmts": {
        "URL": "https://data.geopf.fr/wmts",
        "LAYER": "ORTHOIMAGERY.ORTHOPHOTOS",
        "BOUNDS": TOWN,
        "GSD": 0.5,
    },
    "scene_wms": {
        "URL": "https://data.geopf.fr/wms-r",
        "LAYER": "ORTHOIMAGERY.ORTHO-SAT.PLEIADES.*",
        "BOUNDS": TOWN,
        "GSD": 0.5,
    },
    "scene_xyz": {"URL": "https://host/{z}/{x}/{y}.png", "BOUNDS": TOWN, "GSD": 0.5},
    "scene_arcgis": {
        "URL": "https://host/arcgis/rest/services/Ortho/ImageServer",
        "BOUNDS": TOWN,
        "GSD": 0.5,
    },
    "scene_stac": {
        "URL": "https://earth-search.aws.element84.com/v1",
        "COLLECTION": "naip",
        "BOUNDS": "-104.99,-104.97,39.73,39.75 [EPSG:4326]",
        "DATE": "2021-01-01/2021-12-31",
    },
    "map": {"MODEL": str(FOLDER / "model.safetensors"), "VECTORS": True},
}
"""What the dialogs of some algorithms are filled with."""


def main() -> None:
    """All pictures."""
    sys.path.insert(0, str(Path("qgis").resolve()))
    from geopipe_provider import classFactory
    from geopipe_provider.algorithms import COMMANDS

    plugin = classFactory(iface)
    plugin.initGui()
    scene = iface.addRasterLayer(str(FOLDER / "scene.tif"), "scene")
    osm = iface.addVectorLayer(f"{FOLDER}/osm.gpkg|layername=buildings", "buildings", "ogr")
    layers = {"SCENE": scene.id(), "LABELS": osm.id()}
    for command in COMMANDS:
        inputs = {p.name: layers[p.name] for p in command.parameters if p.name in layers}
        if command.name in ("ask", "verify"):  # their scene is only given if it was moved
            inputs = {}
        dialog(command.name, {**inputs, **FILLED.get(command.name, {})})
    if not (FOLDER / "model.safetensors").exists():
        os._exit(0)
    values = {"SCENE": scene.id(), "OUTPUT": str(FOLDER / "map"), "OVERWRITE": True}
    load("map", {**FILLED["map"], **values})
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
