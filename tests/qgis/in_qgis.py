"""What every script that looks through QGIS does (run by /usr/bin/python3)."""

import json
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRenderContext,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def draw(layers, path, margin=0):
    """`layers`, the first on top, over the extent of the last and `margin` metres around it."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setBackgroundColor(QColor("white"))
    settings.setDestinationCrs(layers[0].crs())
    settings.setExtent(layers[-1].extent().buffered(margin))
    settings.setOutputSize(QSize(400, 300))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(path))


def categories(layer, field):
    """`field` of each feature as text -> (label, colour) of its category; None without one."""
    renderer = layer.renderer().clone()
    context = QgsRenderContext()
    renderer.startRender(context, layer.fields())
    labels = {c.symbol().dump(): c.label() for c in layer.renderer().categories()}
    found = {}
    for f in layer.getFeatures():
        context.expressionContext().setFeature(f)
        symbol = renderer.symbolForFeature(f, context)
        drawn = (labels[symbol.dump()], symbol.color().name()) if symbol else None
        found[str(f[field])] = drawn
    renderer.stopRender(context)
    return found


def tell(look, *arguments):
    """Print what ``look(*arguments)`` finds in a running QGIS, as a line of JSON."""
    app = QgsApplication([], True)
    app.initQgis()
    sys.stdout.write(json.dumps(look(*arguments)) + "\n")
    sys.stdout.flush()  # QGIS may crash while it shuts down
