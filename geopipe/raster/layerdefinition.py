"""A QGIS layer definition: all layers of a map by one file, named after the scene and the class."""

import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from geopipe.classes import ClassScheme

NAME = "layers.qlr"
_RASTERS = {"classes": "classes", "scores": "scores", "confidence": "confidence"}
"""File without suffix -> what the layer is called."""
_SHOWN = ("classes", "features")


@dataclass(frozen=True)
class _Layer:
    id: str
    name: str
    source: str
    provider: str
    kind: str
    """``raster`` or ``vector``."""
    style: str
    """A QML document."""


def write_layer_definition(folder: Path, name: str, scheme: ClassScheme) -> Path:
    """Write ``layers.qlr`` for the files of a map that are in `folder`; returns its path.

    Sources are relative, so the folder may be moved. `name`: of the scene; it begins the name of
    each layer and is that of their group.
    """
    layers = [*_vectors(folder, name), *_rasters(folder, name, scheme)]
    root = ET.Element("qlr")
    group = ET.SubElement(root, "layer-tree-group", name=name, expanded="1", checked="Qt::Checked")
    definitions = ET.SubElement(root, "maplayers")
    for layer in layers:
        shown = layer.source.removeprefix("./").startswith(_SHOWN)
        entry = {
            "id": layer.id,
            "name": layer.name,
            "source": layer.source,
            "providerKey": layer.provider,
            "checked": "Qt::Checked" if shown else "Qt::Unchecked",
            "expanded": "1" if shown else "0",
        }
        ET.SubElement(group, "layer-tree-layer", entry)
        definitions.append(_definition(layer))
    ET.indent(root)
    path = folder / NAME
    text = "<!DOCTYPE qgis-layer-definition>\n" + ET.tostring(root, encoding="unicode") + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def _rasters(folder: Path, name: str, scheme: ClassScheme) -> Iterator[_Layer]:
    for stem, what in _RASTERS.items():
        style = folder / f"{stem}.qml"
        if (folder / f"{stem}.tif").exists() and style.exists():
            if stem == "scores":
                what = f"probability of {scheme.names[1 if scheme.background == 0 else 0]}"
            text = style.read_text(encoding="utf-8")
            yield _Layer(stem, f"{name} {what}", f"./{stem}.tif", "gdal", "raster", text)


def _vectors(folder: Path, name: str) -> Iterator[_Layer]:
    """The layers of ``features.gpkg`` with their default styles."""
    path = folder / "features.gpkg"
    if not path.exists():
        return
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault ORDER BY id"
        ).fetchall()
    for layer, style in rows:
        source = f"./features.gpkg|layername={layer}"
        yield _Layer(f"features_{layer}", f"{name} {layer}", source, "ogr", "vector", style)


def _definition(layer: _Layer) -> ET.Element:
    """The layer with its style, as QGIS writes a map layer."""
    element = ET.Element("maplayer", type=layer.kind, styleCategories="AllStyleCategories")
    if layer.kind == "vector":
        element.set("geometry", "Polygon")
    for tag, text in (
        ("id", layer.id),
        ("datasource", layer.source),
        ("layername", layer.name),
        ("provider", layer.provider),
    ):
        ET.SubElement(element, tag).text = text
    element.extend(ET.fromstring(layer.style.partition("\n")[2]))
    return element
