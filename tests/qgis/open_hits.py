"""Open the hits of an index in QGIS and say what is seen (/usr/bin/python3).

usage: open_hits.py HITS.gpkg; prints JSON, writes HITS.png
"""

import json
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRenderContext,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def labels_of(layer):
    """Of each rank: label of its category and colour."""
    renderer = layer.renderer().clone()
    context = QgsRenderContext()
    renderer.startRender(context, layer.fields())
    categories = {c.symbol().dump(): c for c in layer.renderer().categories()}
    found = {}
    for f in layer.getFeatures():
        context.expressionContext().setFeature(f)
        symbol = renderer.symbolForFeature(f, context)
        category = categories[symbol.dump()] if symbol else None
        found[str(f["rank"])] = [category.label(), symbol.color().name()] if symbol else None
    renderer.stopRender(context)
    return found


def draw(layers, path):
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setBackgroundColor(QColor("white"))
    settings.setDestinationCrs(layers[0].crs())
    settings.setExtent(layers[-1].extent().buffered(20))
    settings.setOutputSize(QSize(400, 300))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


def main(path):
    app = QgsApplication([], True)
    app.initQgis()
    hits, asked = (
        QgsVectorLayer(f"{path}|layername={name}", name, "ogr") for name in ("hits", "asked")
    )
    labeling = hits.labeling()
    found = {
        "valid": hits.isValid() and asked.isValid(),
        "crs": hits.crs().authid(),
        "features": [hits.featureCount(), asked.featureCount()],
        "categories": [c.label() for c in hits.renderer().categories()],
        "drawn": labels_of(hits),
        "labels": bool(hits.labelsEnabled() and labeling),
        "field": labeling.settings().fieldName if labeling else None,
        "asked": [c.label() for c in asked.renderer().categories()],
    }
    draw([asked, hits], path.replace(".gpkg", ".png"))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


main(sys.argv[1])
