"""Styles of rasters of numbers, and the layers of a map in one file for QGIS."""

import xml.etree.ElementTree as ET

from geopipe.classes import load_scheme
from geopipe.raster.layerdefinition import write_layer_definition
from geopipe.raster.style import HEAT, class_qml, ramp_qml, write_qml, write_ramp_qml

SCHEME = load_scheme("buildings-roads")


def parsed(qml):
    return ET.fromstring(qml.partition("\n")[2])


def test_the_background_is_transparent_and_what_has_none_is_opaque():
    def alphas(scheme):
        return [e.get("alpha") for e in parsed(class_qml(scheme)).iter("paletteEntry")]

    assert alphas(SCHEME) == ["0", "255", "255"]
    assert set(alphas(load_scheme("land-cover"))) == {"255"}


def test_a_ramp_goes_from_low_to_high():
    root = parsed(ramp_qml(2, 0.25, 0.75, ramp=HEAT))
    assert root.find("pipe/rasterrenderer").get("band") == "2"
    items = [(e.get("value"), e.get("color"), e.get("alpha")) for e in root.iter("item")]
    assert [float(value) for value, _, _ in items] == [0.25, 0.375, 0.5, 0.625, 0.75]
    assert tuple(color for _, color, _ in items) == HEAT
    assert [alpha for _, _, alpha in items] == ["0", "128", "255", "255", "255"]


def test_layers_are_named_after_scene_and_class(tmp_path):
    for stem in ("classes", "scores"):
        (tmp_path / f"{stem}.tif").touch()
    write_qml(tmp_path / "classes.qml", SCHEME)
    write_ramp_qml(tmp_path / "scores.qml", 2, 0, 1, ramp=HEAT)
    path = write_layer_definition(tmp_path, "town <1>", SCHEME)
    root = ET.fromstring(path.read_text().partition("\n")[2])
    tree = root.find("layer-tree-group")
    assert tree.get("name") == "town <1>"
    names = [(e.get("name"), e.get("source"), e.get("checked")) for e in tree]
    assert names == [
        ("town <1> classes", "./classes.tif", "Qt::Checked"),
        ("town <1> probability of building", "./scores.tif", "Qt::Unchecked"),
    ]
    layers = root.findall("maplayers/maplayer")
    assert [e.find("datasource").text for e in layers] == ["./classes.tif", "./scores.tif"]
    assert layers[0].find("pipe/rasterrenderer").get("type") == "paletted"
    assert layers[1].find("pipe/rasterrenderer").get("type") == "singlebandpseudocolor"
