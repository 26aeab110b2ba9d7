"""Run algorithms of the plugin one after the other and say what came (/usr/bin/python3).

usage: run_provider.py EXECUTABLE STEPS.json; a step is {"run": name, "with": parameters}, with
"layer:PATH" for a layer of the project, or {"fill": points, "truth": class}.
"""

import json
import sys
import threading
import time
from pathlib import Path

from in_qgis import tell
from provider_in_qgis import run, start
from qgis.core import QgsProcessingFeedback, QgsProject, QgsRasterLayer, QgsVectorLayer


def layer_of(value):
    """The layer of the project that `value` names, or `value`."""
    if not str(value).startswith("layer:"):
        return value
    source = value[len("layer:") :]
    layer = (
        QgsRasterLayer(source, "in project")
        if source.endswith(".tif")
        else QgsVectorLayer(source, "in project", "ogr")
    )
    assert layer.isValid(), source
    QgsProject.instance().addMapLayer(layer)
    return layer.id()


def fill(points, truth):
    """As an analyst fills in the points."""
    layer = QgsVectorLayer(f"{points}|layername=points", "points", "ogr")
    layer.startEditing()
    field = layer.fields().lookupField("truth")
    for feature in layer.getFeatures():
        layer.changeAttributeValue(feature.id(), field, truth)
    return {"saved": layer.commitChanges()}


def seen(source):
    """How a result would be drawn."""
    is_raster = source.endswith(".tif")
    layer = QgsRasterLayer(source, "r") if is_raster else QgsVectorLayer(source, "v", "ogr")
    renderer = layer.renderer()  # none of a table without geometries
    return [layer.isValid(), renderer and renderer.type()]


def cancel_later(feedback, tiles):
    """Press Cancel once three tiles are done: lines of a journal, or files in a folder."""
    while not (
        tiles.exists()
        and (len(list(tiles.iterdir())) if tiles.is_dir() else tiles.read_text().count("\n")) > 3
    ):
        time.sleep(0.05)
    feedback.cancel()


def one(processing, step):
    if "fill" in step:
        return fill(step["fill"], step["truth"])
    feedback = QgsProcessingFeedback(False)
    if "cancel" in step:
        watch = (feedback, Path(step["cancel"]))
        threading.Thread(target=cancel_later, args=watch, daemon=True).start()
    parameters = {name: layer_of(value) for name, value in step["with"].items()}
    found = run(processing, step["run"], parameters, feedback)
    return found | {"seen": {Path(s).name: seen(s) for s in found["loads"]}}


def main(executable, steps):
    processing = start(executable)
    return [one(processing, step) for step in json.loads(Path(steps).read_text())]


tell(main, *sys.argv[1:])
