"""Open a check of labels, or aligned labels, in QGIS and say what is seen (/usr/bin/python3).

usage: open_labels.py FILE.gpkg LAYER...; prints JSON, writes LAYER.png beside the file
"""

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def draw(layer, path):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setBackgroundColor(QColor("white"))
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(400, 300))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


def seen(layer):
    found = {"valid": layer.isValid(), "crs": layer.crs().authid()}
    found |= {"count": layer.featureCount(), "fields": layer.fields().names()}
    renderer = layer.renderer()
    found["renderer"] = renderer.type()
    if found["renderer"] == "categorizedSymbol":
        found["attribute"] = renderer.classAttribute()
        found["legend"] = {c.value(): c.symbol().color().name() for c in renderer.categories()}
    return found


def main(path, layers):
    app = QgsApplication([], True)
    app.initQgis()
    found = {}
    for name in layers:
        layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
        found[name] = seen(layer)
        draw(layer, str(Path(path).with_name(f"{name}.png")))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


main(sys.argv[1], sys.argv[2:])
