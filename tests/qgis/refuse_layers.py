"""Give the plugin layers that geopipe cannot read as they are shown (/usr/bin/python3).

usage: refuse_layers.py FOLDER, which has scene.tif, osm.gpkg, t.csv, and without a CRS bare.tif and
bare.gpkg, and the program newer
"""

import os
import sys
from pathlib import Path

from in_qgis import tell
from provider_in_qgis import run, start
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)


def main(folder):
    processing = start("/bin/true")
    raster, vector = str(Path(folder, "scene.tif")), f"{folder}/osm.gpkg|layername=osm"

    def vectors(name, source=vector, provider="ogr"):
        layer = QgsVectorLayer(source, name, provider)
        QgsProject.instance().addMapLayer(layer)
        return layer

    edited = vectors("edited")
    edited.startEditing()
    edited.addFeature(QgsFeature(edited.fields()))
    filtered = vectors("filtered")
    filtered.setSubsetString("building = 'house'")
    moved = vectors("moved")
    moved.setCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    memory = vectors("memory", "Polygon?crs=EPSG:2154", "memory")
    table = vectors("table", Path(folder, "t.csv").as_uri() + "?xField=x&yField=y&crs=EPSG:2154",
                    "delimitedtext")  # fmt: skip
    scene = QgsRasterLayer(raster, "scene")
    QgsProject.instance().addMapLayer(scene)
    bare = vectors("bare", f"{folder}/bare.gpkg|layername=osm")
    answers = {}
    for layer in (edited, filtered, moved, memory, table, bare):
        parameters = {"SCENE": scene, "LABELS": layer, "OUTPUT": f"{folder}/out.gpkg"}
        answers[layer.name()] = run(processing, "labels_align", parameters)["error"]
    edited.rollBack()
    QgsProject.instance().removeMapLayer(filtered.id())
    QgsProject.instance().removeMapLayer(moved.id())
    tiles = "type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png&zmax=18&zmin=0"
    for name, source, provider in (
        ("bare scene", f"{folder}/bare.tif", "gdal"),
        ("service", tiles, "wms"),
    ):
        layer = QgsRasterLayer(source, name, provider)
        QgsProject.instance().addMapLayer(layer)
        parameters = {"SCENE": layer, "OUTPUT": f"{folder}/map"}
        answers[name] = run(processing, "map", parameters)["error"]
    parameters = {"SCENE": scene, "LABELS": vector, "OUTPUT": f"{folder}/out.gpkg"}
    answers["program"] = run(processing, "labels_align", parameters)["error"]
    start.plugin.unload()
    processing = start(f"{folder}/newer")
    found = run(processing, "labels_align", parameters)
    answers["newer"] = "\n".join([*found["log"], found["error"]])
    start.plugin.unload()
    os.environ["PATH"], os.environ["HOME"] = "/nowhere", "/nowhere"
    processing = start("")
    algorithm = QgsApplication.processingRegistry().algorithmById("geopipe:map")
    answers["missing"] = algorithm.canExecute()[1]
    return answers


tell(main, *sys.argv[1:])
