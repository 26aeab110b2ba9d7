"""QGIS styles: a legend with exactly the classes of a scheme.

A ``.qml`` of the same base name is applied when QGIS opens the layer; without one a colour table
gives 256 legend rows. The elements are the ones QGIS 3.22 writes, less what it fills in by itself.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from geopipe.classes import ClassScheme
from geopipe.files import atomic_file

LayerKind = Literal["fill", "object", "line"]
Ramp = tuple[str, ...]
"""Colours ``#rrggbb`` from low to high."""
HEAT: Ramp = ("#2c1e5c", "#8a2a75", "#d8503f", "#f5a13b", "#fcf3a0")
"""Of similarity: dark to bright, also for those who see no red or green."""
CERTAINTY: Ramp = ("#b2182b", "#f4a582", "#f7f7f7", "#92c5de", "#2166ac")
"""Of confidence: red where the map is unsure."""
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_ATTRIBUTE = "class_id"
_TRUTH = "truth"
_WHITE = "255,255,255,255"
_TO_DO, _DONE = "230,0,0,255", "0,150,60,255"
_NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
"""What QGIS writes for NULL among the values of a list."""


def write_qml(path: Path, scheme: ClassScheme) -> None:
    """Write the style of a class map; see `class_qml`."""
    _write(path, class_qml(scheme))


def class_qml(scheme: ClassScheme) -> str:
    """The style of a class map: a paletted renderer, one legend row per class.

    The background is transparent, so that the scene below shows.
    """
    root, pipe = _raster_style()
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    ET.SubElement(renderer, "rasterTransparency")
    palette = ET.SubElement(renderer, "colorPalette")
    for value, c in enumerate(scheme.classes):
        alpha = "0" if value == scheme.background else "255"
        row = {"value": str(value), "color": c.color, "alpha": alpha, "label": c.name}
        ET.SubElement(palette, "paletteEntry", row)
    ET.SubElement(root, "blendMode").text = "0"
    return _document(root)


def write_ramp_qml(
    path: Path, band: int, low: float, high: float, *, ramp: Ramp, transparent: bool = True
) -> None:
    """Write the style of a raster of numbers; see `ramp_qml`."""
    _write(path, ramp_qml(band, low, high, ramp=ramp, transparent=transparent))


def ramp_qml(band: int, low: float, high: float, *, ramp: Ramp, transparent: bool = True) -> str:
    """The style of a raster of numbers: the colours of `ramp` from `low` to `high` of a band.

    `transparent`: opacity rises along the first half, so that the scene shows where values are low.
    """
    root, pipe = _raster_style()
    renderer = ET.SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band=str(band),
        opacity="1",
        alphaBand="-1",
        classificationMin=f"{low:g}",
        classificationMax=f"{high:g}",
    )
    ET.SubElement(renderer, "rasterTransparency")
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="2",
        clip="0",
        minimumValue=f"{low:g}",
        maximumValue=f"{high:g}",
    )
    for i, color in enumerate(ramp):
        share = i / (len(ramp) - 1)
        value = low + share * (high - low)
        alpha = round(255 * min(1.0, 2 * share)) if transparent else 255
        row = {
            "value": f"{value:.6g}",
            "color": color,
            "alpha": str(alpha),
            "label": f"{value:.3g}",
        }
        ET.SubElement(shader, "item", row)
    ET.SubElement(root, "blendMode").text = "0"
    return _document(root)


def _raster_style() -> tuple[ET.Element, ET.Element]:
    """The root of a raster's style, and its pipe."""
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
    return root, pipe


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


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
        properties = {
            "color": _rgba(c.rgb),
            "style": "solid",
            "outline_color": _rgba(tuple(round(0.6 * x) for x in c.rgb)),
            "outline_style": "solid",
            "outline_width": "0.1",
            "outline_width_unit": "MM",
        }
        _symbol_layer(symbol, "SimpleFill", properties)
    ET.SubElement(root, "layerOpacity").text = "1"
    return _document(root)


def points_qml(scheme: ClassScheme) -> str:
    """The style of points whose text field `truth` an analyst fills in from a list of classes.

    Filled points are dots in the colour of their class; all others, mistyped ones too, are red
    rings. `id` cannot be edited.
    """
    class_symbols = [
        (c.name, c.name, _dot(_rgba(c.rgb), "30,30,30,255", "2.4", "0.3")) for c in scheme.classes
    ]
    # A category without a value stands for all others. Rings leave the pixel itself in sight.
    to_do = ("", "to do", _dot("255,0,0,0", _TO_DO, "5", "0.6"))
    return _truth_style(scheme, "marker", [*class_symbols, to_do])


def cells_qml(scheme: ClassScheme) -> str:
    """The style of cells (polygons) whose field `truth` is filled in as that of `points_qml`.

    Outlines only, so that the image shows: magenta to do, filled ones in the colour of their class.
    """
    class_symbols = [(c.name, c.name, _outline(_rgba(c.rgb), "1")) for c in scheme.classes]
    return _truth_style(
        scheme, "fill", [*class_symbols, ("", "to do", _outline("255,0,255,255", "0.6"))]
    )


def _truth_style(
    scheme: ClassScheme, kind: str, rows: Sequence[tuple[str, str, dict[str, str]]]
) -> str:
    """Categories by `truth`: value, label and symbol each; and the form that fills it in."""
    root = _category_root(_TRUTH, kind, rows)
    names = [("(to do)", _NULL), *((c.name, c.name) for c in scheme.classes)]
    _value_form(root, {"id": ("TextEdit", ()), _TRUTH: ("ValueMap", names)}, ("fid", "id"))
    return _document(root)


def _category_root(
    attribute: str, kind: str, rows: Sequence[tuple[str, str, dict[str, str]]]
) -> ET.Element:
    """A style with a form: value, label and symbol of each category of `attribute`."""
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0"
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, (value, label, properties) in enumerate(rows):
        row = {"value": value, "symbol": str(number), "label": label, "render": "true"}
        ET.SubElement(categories, "category", {**row, "type": "string"})
        symbol = ET.SubElement(symbols, "symbol", name=str(number), type=kind, alpha="1")
        _symbol_layer(symbol, "SimpleMarker" if kind == "marker" else "SimpleFill", properties)
    return root


def _dot(fill: str, outline: str, size: str, width: str) -> dict[str, str]:
    return {
        "name": "circle",
        "color": fill,
        "outline_color": outline,
        "outline_width": width,
        "outline_width_unit": "MM",
        "size": size,
        "size_unit": "MM",
    }


def _outline(color: str, width: str) -> dict[str, str]:
    """A polygon without a fill."""
    return {
        "color": "0,0,0,0",
        "style": "no",
        "outline_color": color,
        "outline_style": "solid",
        "outline_width": width,
        "outline_width_unit": "MM",
    }


def _value_form(
    root: ET.Element,
    widgets: Mapping[str, tuple[str, Sequence[tuple[str, str]]]],
    fixed: Sequence[str],
    default: tuple[str, str] | None = None,
) -> None:
    """How fields are edited: field -> kind of widget and its values (label, value).

    The fields `fixed` cannot be edited; `default`: a field and the value it starts with.
    """
    fields = ET.SubElement(root, "fieldConfiguration")
    for name, (kind, rows) in widgets.items():
        field = ET.SubElement(fields, "field", name=name, configurationFlags="None")
        config = ET.SubElement(ET.SubElement(field, "editWidget", type=kind), "config")
        options = ET.SubElement(config, "Option", type="Map")
        if kind == "ValueMap":
            values = ET.SubElement(options, "Option", name="map", type="List")
            for label, value in rows:
                row = ET.SubElement(values, "Option", type="Map")
                ET.SubElement(row, "Option", name=label, value=value, type="QString")
    if default:
        name, value = default
        quoted = value.replace("'", "''")
        defaults = ET.SubElement(root, "defaults")
        ET.SubElement(defaults, "default", field=name, expression=f"'{quoted}'", applyOnUpdate="0")
    editable = ET.SubElement(root, "editable")
    for name in fixed:
        ET.SubElement(editable, "field", name=name, editable="0")
    for name in (n for n in widgets if n not in fixed):
        ET.SubElement(editable, "field", name=name, editable="1")


def _symbol_layer(symbol: ET.Element, kind: str, properties: dict[str, str]) -> None:
    layer = ET.SubElement(symbol, "layer", {"class": kind, "enabled": "1", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for key, text in properties.items():
        ET.SubElement(options, "Option", name=key, value=text, type="QString")
        ET.SubElement(layer, "prop", k=key, v=text)  # QGIS before 3.20 reads these


def _rgba(rgb: tuple[int, ...], alpha: int = 255) -> str:
    return ",".join(str(x) for x in (*rgb, alpha))


def _document(root: ET.Element) -> str:
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def category_qml(attribute: str, colours: Mapping[str, str], kind: LayerKind = "fill") -> str:
    """The style of a layer told apart by a text column: value -> colour ``#rrggbb``, in this order.

    `kind`: ``fill`` (areas, half transparent, so that the image shows), ``object`` (areas with an
    outline of their colour on a white one) or ``line`` (on a white one).
    """
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0"
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, (value, colour) in enumerate(colours.items()):
        row = {"value": value, "symbol": str(number), "label": value, "render": "true"}
        ET.SubElement(categories, "category", {**row, "type": "string"})
        symbol = ET.SubElement(
            symbols,
            "symbol",
            name=str(number),
            type="line" if kind == "line" else "fill",
            alpha="0.5" if kind == "fill" else "1",
        )
        rgb = tuple(bytes.fromhex(colour[1:]))
        # The white line below keeps a line in sight on a roof or a road of its own colour.
        if kind == "line":
            for line_colour, width in ((_WHITE, "1.1"), (_rgba(rgb), "0.6")):
                line = {"line_color": line_colour, "line_width": width, "line_width_unit": "MM"}
                _symbol_layer(symbol, "SimpleLine", line)
        elif kind == "fill":
            area = {"color": _rgba(rgb), "style": "solid"}
            _symbol_layer(symbol, "SimpleFill", _outline("60,60,60,255", "0.2") | area)
        else:
            area = {"color": _rgba(rgb, 90), "style": "solid"}
            _symbol_layer(symbol, "SimpleFill", _outline(_WHITE, "0.7") | area)
            _symbol_layer(symbol, "SimpleFill", _outline(_rgba(rgb), "0.35"))
    return _document(root)


def windows_qml() -> str:
    """The style of windows in which to draw: red until their field `drawn` is true, then green."""
    rows = [(v, v, _outline(c, "0.8")) for v, c in (("to draw", _TO_DO), ("drawn", _DONE))]
    # Text, since QGIS compares a boolean with no value of a file.
    root = _category_root("if(\"drawn\", 'drawn', 'to draw')", "fill", rows)
    _value_form(
        root,
        {"drawn": ("CheckBox", ())},
        ("fid", "rank", "gain_m2", "uncertainty", "out_of_domain"),
    )
    return _document(root)


def outlines_qml(scheme: ClassScheme) -> str:
    """The style of outlines that are drawn, whose field `class` is chosen from a list."""
    objects = [c for i, c in enumerate(scheme.classes) if i != scheme.background]
    rows = [(c.name, c.name, _outline(_rgba(c.rgb), "0.6")) for c in objects]
    root = _category_root("class", "fill", [*rows, ("", "no class", _outline(_TO_DO, "0.6"))])
    names = [(c.name, c.name) for c in objects]
    _value_form(root, {"class": ("ValueMap", names)}, ("fid",), default=("class", names[0][0]))
    return _document(root)
