"""The files of a map bundle, by name."""

from geopipe.mapping import Budget, Engine
from geopipe.workflow.bundle import MapOptions

PLAIN = {
    "classes.tif",
    "classes.tif.aux.xml",
    "classes.qml",
    "item.json",
    "layers.qlr",
    "report.html",
    "report.json",
    "report.md",
}

FEATURES = {"features.gpkg", "features.html", "features.parquet"}

ALL = MapOptions(Engine("cpu", budget=Budget(256)), scores=True, vectors=True)


def names(folder):
    return {p.name for p in folder.iterdir()}
