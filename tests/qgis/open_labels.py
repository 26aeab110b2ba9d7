"""Open a check of labels, or aligned labels, in QGIS and say what is seen (/usr/bin/python3).

usage: open_labels.py FILE.gpkg LAYER...; prints JSON, writes LAYER.png beside the file
"""

import sys
from pathlib import Path

from in_qgis import draw, tell
from qgis.core import QgsVectorLayer


def seen(layer):
    found = {"valid": layer.isValid(), "crs": layer.crs().authid()}
    found |= {"count": layer.featureCount(), "fields": layer.fields().names()}
    renderer = layer.renderer()
    found["renderer"] = renderer.type()
    if found["renderer"] == "categorizedSymbol":
        found["attribute"] = renderer.classAttribute()
        found["legend"] = {c.value(): c.symbol().color().name() for c in renderer.categories()}
    return found


def main(path, *layers):
    found = {}
    for name in layers:
        layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
        found[name] = seen(layer)
        draw([layer], Path(path).with_name(f"{name}.png"))
    return found


tell(main, *sys.argv[1:])
