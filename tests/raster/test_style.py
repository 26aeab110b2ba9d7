import xml.etree.ElementTree as ET

from geopipe.classes import ClassScheme
from geopipe.raster.style import category_qml, vector_qml, write_qml

SCHEME = ClassScheme.from_dict(
    {
        "name": "odd",
        "classes": [
            {"name": 'sol & <"terre">', "color": "#f1efe2"},
            {"name": "bâtiment", "color": "#c8371e"},
        ],
    }
)


def test_the_raster_style_names_exactly_the_classes(tmp_path):
    write_qml(tmp_path / "classes.qml", SCHEME)
    root = ET.parse(tmp_path / "classes.qml").getroot()
    assert root.find("pipe/rasterrenderer").attrib["type"] == "paletted"
    rows = [e.attrib for e in root.iter("paletteEntry")]
    assert [(r["value"], r["label"], r["color"], r["alpha"]) for r in rows] == [
        ("0", 'sol & <"terre">', "#f1efe2", "255"),
        ("1", "bâtiment", "#c8371e", "255"),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["classes.qml"]


def test_the_vector_style_names_exactly_the_classes():
    root = ET.fromstring(vector_qml(SCHEME))
    assert root.find("renderer-v2").attrib["attr"] == "class_id"
    rows = [(e.attrib["value"], e.attrib["label"]) for e in root.iter("category")]
    assert rows == [("0", 'sol & <"terre">'), ("1", "bâtiment")]
    bare = ET.fromstring(vector_qml(SCHEME, background=False))
    assert [e.attrib["label"] for e in bare.iter("category")] == ["bâtiment"]
    symbols = {e.attrib["name"]: e for e in root.iter("symbol")}
    assert list(symbols) == [e.attrib["symbol"] for e in root.iter("category")]
    fill = symbols["1"].find("layer/Option/Option[@name='color']")
    assert fill.attrib["value"] == "200,55,30,255"


def test_lines_of_a_category_lie_on_a_wider_white_one():
    root = ET.fromstring(category_qml("class", {"road": "#3c4a5c"}, "line"))
    both = [
        {
            option.attrib["name"]: option.attrib["value"]
            for option in layer.iter("Option")
            if "name" in option.attrib
        }
        for layer in root.findall("renderer-v2/symbols/symbol/layer")
    ]
    assert [x["line_color"] for x in both] == ["255,255,255,255", "60,74,92,255"]
    assert float(both[0]["line_width"]) > float(both[1]["line_width"])


def test_objects_of_a_category_have_a_line_of_their_colour_on_a_white_one():
    """So that a red outline shows on a red roof."""
    root = ET.fromstring(category_qml("class", {"building": "#c8371e"}, "object"))
    casing, line = root.findall("renderer-v2/symbols/symbol/layer")

    def value(layer, key):
        return layer.find(f"Option/Option[@name='{key}']").attrib["value"]

    assert value(casing, "outline_color") == "255,255,255,255"
    assert value(line, "outline_color") == "200,55,30,255"
    assert float(value(casing, "outline_width")) > float(value(line, "outline_width"))
    assert value(casing, "color").startswith("200,55,30,")
    assert value(line, "style") == "no"
