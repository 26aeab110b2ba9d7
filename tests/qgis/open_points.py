"""Open planned points in QGIS, fill one in as an analyst does, say what is seen (/usr/bin/python3).

usage: open_points.py POINTS.gpkg TRUTH; prints JSON, writes POINTS.png
"""

import sys

from in_qgis import categories, draw, tell
from qgis.core import NULL, QgsVectorLayer


def main(path, truth):
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
    found["drawn"] = categories(layer, "id")
    draw([layer], path.replace(".gpkg", ".png"), margin=20)
    return found


tell(main, *sys.argv[1:])
