"""Make qgis-*.png in QGIS itself, without a screen.

usage: xvfb-run -s "-screen 0 1400x900x24" qgis --noversioncheck --nologo --profiles-path FOLDER
       --code docs/images/qgis.py
GEOPIPE_SHOTS: a folder with scene.tif, osm.gpkg, model.safetensors; geopipe on the PATH.
"""

import os
import sys
from pathlib import Path

import processing
from processing.core.Processing import Processing
from qgis.core import QgsApplication, QgsProcessingContext, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtGui import QGuiApplication
from qgis.utils import iface

FOLDER = Path(os.environ["GEOPIPE_SHOTS"])
HERE = Path(os.environ.get("GEOPIPE_DOCS", "docs")) / "images"
COLOURS = 64
"""A palette of so many colours keeps the files small."""


def save(widget, name):
    """A picture of `widget`."""
    QGuiApplication.processEvents()
    widget.grab().save(str(FOLDER / f"{name}.png"))


def dialog(name, parameters):
    """The dialog of an algorithm, filled in."""
    box = processing.createAlgorithmDialog(f"geopipe:{name}", parameters)
    box.resize(760, 640)
    box.show()
    save(box, f"qgis-{name.replace('_', '-')}")
    box.close()


def load(name, parameters):
    """Run an algorithm and load what it made, as the dialog does."""
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    processing.run(f"geopipe:{name}", parameters, context=context)
    for source, details in context.layersToLoadOnCompletion().items():
        if source.endswith(".tif"):
            iface.addRasterLayer(source, details.name)
        else:
            iface.addVectorLayer(source, details.name, "ogr")


def main():
    """All pictures."""
    sys.path.insert(0, str(HERE.parents[1] / "qgis"))
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


def finish():
    save(iface.mainWindow(), "qgis-result")
    os._exit(0)


QTimer.singleShot(4000, main)
