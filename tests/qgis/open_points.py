"""Open planned points in QGIS, fill one in as an analyst does, say what is seen (/usr/bin/python3).

usage: open_points.py POINTS.gpkg TRUTH; prints JSON, writes POINTS.png
"""

import json
import sys

from qgis.core import (
    NULL,
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRenderContext,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def symbols(layer):
    """Of each point: label of its category."""
    renderer = layer.renderer().clone()
    context = QgsRenderContext()
    renderer.startRender(context, layer.fields())
    categories = {c.symbol().dump(): c.label() for c in layer.renderer().categories()}
    found = {}
    for f in layer.getFeatures():
        context.expressionContext().setFeature(f)
        symbol = renderer.symbolForFeature(f, context)
        found[str(f["id"])] = categories[symbol.dump()] if symbol else None
    renderer.stopRender(context)
    return found


def draw(layer, path):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setBackgroundColor(QColor("white"))
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent().buffered(20))
    settings.setOutputSize(QSize(400, 300))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


def main(path, truth):
    app = QgsApplication([], True)
    app.initQgis()
    layer = QgsVectorLayer(f"{path}|layername=points", "points", "ogr")
    field = layer.fields().indexOf("truth")
    widget = layer.editorWidgetSetup(field)
    first = next(layer.getFeatures())
    found = {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "fields": layer.fields().names(),
        "sublayers": [s.split("!!::!!")[1] for s in layer.dataProvider().subLayers()],
        "unfilled": first["truth"] == NULL,
        "widget": widget.type(),
        "values": widget.config().get("map"),
        "read_only": [
            layer.editFormConfig().readOnly(layer.fields().indexOf(n)) for n in ("id", "truth")
        ],
        "categories": [(c.value(), c.label()) for c in layer.renderer().categories()],
    }
    layer.startEditing()
    layer.changeAttributeValue(first.id(), field, truth)
    found["committed"] = layer.commitChanges()
    found["drawn"] = symbols(layer)
    draw(layer, path.replace(".gpkg", ".png"))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


main(sys.argv[1], sys.argv[2])
