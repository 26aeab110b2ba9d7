"""Open an output folder in QGIS and say what an analyst would see (run by /usr/bin/python3).

usage: open_bundle.py FOLDER; prints JSON, writes FOLDER/classes.png and FOLDER/polygons.png
"""

import sys

from in_qgis import draw, tell
from qgis.core import QgsLayerTreeModel, QgsProject, QgsRasterLayer, QgsVectorLayer


def legend(layer):
    """(label, colour) of each row below the layer in the layer tree; [] without rows."""
    project = QgsProject.instance()
    project.addMapLayer(layer)
    tree = project.layerTreeRoot().findLayer(layer.id())
    model = QgsLayerTreeModel(project.layerTreeRoot())  # owns the rows
    rows = model.layerLegendNodes(tree)
    return [(row.data(0), icon_colour(row)) for row in rows]


def icon_colour(row):
    """The colour in the middle of a row's icon; None for a row of words."""
    icon = row.data(1)  # Qt.DecorationRole
    if hasattr(icon, "pixmap"):
        icon = icon.pixmap(16, 16)
    if not hasattr(icon, "toImage"):
        return None
    image = icon.toImage()
    return image.pixelColor(image.width() // 2, image.height() // 2).name()


def seen(layer, picture):
    """What the layer is, as plain values."""
    found = {"valid": layer.isValid(), "crs": layer.crs().authid()}
    if layer.isValid():
        e = layer.extent()
        found["extent"] = [e.xMinimum(), e.yMinimum(), e.xMaximum(), e.yMaximum()]
        found["legend"] = legend(layer)
        draw([layer], picture)
    return found


def main(folder):
    raster = QgsRasterLayer(f"{folder}/classes.tif", "classes")
    found = {"classes": seen(raster, f"{folder}/classes.png")}
    if raster.isValid():
        found["classes"]["renderer"] = raster.renderer().type()
        found["classes"]["type"] = raster.dataProvider().dataType(1)
        found["classes"]["nodata"] = raster.dataProvider().sourceNoDataValue(1)
        found["classes"]["band"] = raster.bandName(1)
    vectors = QgsVectorLayer(f"{folder}/features.gpkg|layername=buildings", "polygons", "ogr")
    found["polygons"] = seen(vectors, f"{folder}/polygons.png")
    if vectors.isValid():
        found["polygons"]["fields"] = vectors.fields().names()
        found["polygons"]["count"] = vectors.featureCount()
    return found


tell(main, *sys.argv[1:])
