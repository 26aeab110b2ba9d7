"""Open the hits of an index in QGIS and say what is seen (/usr/bin/python3).

usage: open_hits.py HITS.gpkg; prints JSON, writes HITS.png
"""

import sys

from in_qgis import categories, draw, tell
from qgis.core import QgsVectorLayer


def main(path):
    hits, asked = (
        QgsVectorLayer(f"{path}|layername={name}", name, "ogr") for name in ("hits", "query")
    )
    labeling = hits.labeling()
    found = {
        "valid": hits.isValid() and asked.isValid(),
        "crs": hits.crs().authid(),
        "features": [hits.featureCount(), asked.featureCount()],
        "categories": [c.label() for c in hits.renderer().categories()],
        "drawn": categories(hits, "rank"),
        "labels": bool(hits.labelsEnabled() and labeling),
        "field": labeling.settings().fieldName if labeling else None,
        "query": [c.label() for c in asked.renderer().categories()],
    }
    draw([asked, hits], path.replace(".gpkg", ".png"), margin=20)
    return found


tell(main, *sys.argv[1:])
