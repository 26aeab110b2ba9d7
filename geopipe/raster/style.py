"""QGIS styles: a legend with exactly the classes of a scheme.

A ``.qml`` of the same base name is applied when QGIS opens the layer; without one a colour table
gives 256 legend rows. The elements are the ones QGIS 3.22 writes, less what it fills in by itself.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from geopipe.classes import ClassScheme

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_ATTRIBUTE = "class_id"


def write_qml(path: Path, scheme: ClassScheme) -> None:
    """Write the style of a class map: a paletted renderer, one legend row per class."""
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    # Nearest neighbour both ways: a blend of two class colours would be a third class.
    provider = ET.SubElement(pipe, "provider")
    ET.SubElement(
        provider,
        "resampling",
        enabled="false",
        zoomedInResamplingMethod="nearestNeighbour",
        zoomedOutResamplingMethod="nearestNeighbour",
        maxOversampling="2",
    )
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    ET.SubElement(renderer, "rasterTransparency")
    palette = ET.SubElement(renderer, "colorPalette")
    for value, c in enumerate(scheme.classes):
        row = {"value": str(value), "color": c.color, "alpha": "255", "label": c.name}
        ET.SubElement(palette, "paletteEntry", row)
    ET.SubElement(root, "blendMode").text = "0"
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(_document(root), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def vector_qml(scheme: ClassScheme, *, background: bool = True) -> str:
    """The style of the polygon layer: filled by `class_id`, outlined in a darker shade.

    Without `background` the first class has no row in the legend.
    """
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=_ATTRIBUTE, symbollevels="0"
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for value, c in enumerate(scheme.classes):
        if value == 0 and not background:
            continue
        row = {"value": str(value), "symbol": str(value), "label": c.name, "render": "true"}
        ET.SubElement(categories, "category", row)
        symbol = ET.SubElement(symbols, "symbol", name=str(value), type="fill", alpha="1")
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0"})
        properties = {
            "color": _rgba(c.rgb),
            "style": "solid",
            "outline_color": _rgba(tuple(round(0.6 * x) for x in c.rgb)),
            "outline_style": "solid",
            "outline_width": "0.1",
            "outline_width_unit": "MM",
        }
        options = ET.SubElement(layer, "Option", type="Map")
        for key, text in properties.items():
            ET.SubElement(options, "Option", name=key, value=text, type="QString")
            ET.SubElement(layer, "prop", k=key, v=text)  # QGIS before 3.20 reads these
    ET.SubElement(root, "layerOpacity").text = "1"
    return _document(root)


def _rgba(rgb: tuple[int, ...]) -> str:
    return ",".join(str(x) for x in (*rgb, 255))


def _document(root: ET.Element) -> str:
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"
