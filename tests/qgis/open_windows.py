"""Open a file of windows to draw in, and say what is seen (/usr/bin/python3).

usage: open_windows.py WINDOWS.gpkg; prints JSON, writes WINDOWS.png
"""

import sys

from in_qgis import draw, tell
from qgis.core import QgsRenderContext, QgsVectorLayer


def labels(layer):
    """The label of each feature's category, by rank."""
    renderer, context = layer.renderer().clone(), QgsRenderContext()
    outlines = {
        s.symbol().symbolLayer(0).strokeColor().name(): s.label()
        for s in layer.renderer().categories()
    }
    renderer.startRender(context, layer.fields())
    seen = {}
    for f in layer.getFeatures():
        context.expressionContext().setFeature(f)
        symbol = renderer.symbolForFeature(f, context)
        color = symbol.symbolLayer(0).strokeColor().name()
        seen[str(f["rank"])] = outlines.get(color)
    renderer.stopRender(context)
    return seen


def main(path):
    windows = QgsVectorLayer(f"{path}|layername=windows", "windows", "ogr")
    outlines = QgsVectorLayer(f"{path}|layername=outlines", "outlines", "ogr")
    drawn, kind = windows.fields().indexOf("drawn"), outlines.fields().indexOf("class")
    widget, form = outlines.editorWidgetSetup(kind), windows.editFormConfig()
    first = next(windows.getFeatures())
    windows.startEditing()
    windows.changeAttributeValue(first.id(), drawn, True)
    seen = {
        "valid": [windows.isValid(), outlines.isValid()],
        "committed": windows.commitChanges(),
        "labels": labels(windows),
        "widgets": [windows.editorWidgetSetup(drawn).type(), widget.type()],
        "classes": widget.config().get("map"),
        "default": outlines.defaultValueDefinition(kind).expression(),
        "read_only": [form.readOnly(i) for i in range(windows.fields().count())],
    }
    draw([windows, outlines], path.replace(".gpkg", ".png"), margin=20)
    return seen


tell(main, *sys.argv[1:])
