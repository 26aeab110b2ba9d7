"""The plugin in QGIS itself: what it makes is what the command line makes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from plugin_runs import HERE, command, in_qgis, results
from qgis_process import NEEDS_QGIS, said
from tiny_place import draw_place, lively, write_scene

from geopipe.mapping import unfinished

pytestmark = [*NEEDS_QGIS, pytest.mark.timeout(900)]
SCHEME = "buildings-roads"
SLOW = (
    "import time; from geopipe.mapping.journal import Journal; add = Journal.add;"
    "Journal.add = lambda *a: (add(*a), time.sleep(0.3));"
)
"""A tile takes long enough for Cancel to come in time."""


@dataclass(frozen=True)
class Place:
    folder: Path
    scene: Path
    osm: Path
    model: Path

    @property
    def scene_layer(self):
        return f"layer:{self.scene}"

    @property
    def osm_layer(self):
        return f"layer:{self.osm}|layername=osm"


def make_old(path, out):
    """A GeoPackage of which Debian's GDAL, which is older, does not warn."""
    table, old = pyogrio.read_dataframe(path), {"VERSION": "1.2"}
    pyogrio.write_dataframe(table, out, layer="osm", driver="GPKG", dataset_options=old)


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("provider")
    scene, drawn = draw_place(folder, "scene", (180, 200))
    osm = folder / "osm.gpkg"
    make_old(drawn, osm)
    lively(make_model(seed=3)).save(folder / "model.safetensors")
    (folder / "cli").mkdir()
    return Place(folder, scene, osm, folder / "model.safetensors")


# -- a map and its accuracy


@pytest.fixture(scope="module")
def mapped(place):
    """A map made in QGIS; its folder and what came of the run."""
    out = place.folder / "map"
    parameters = {"SCENE": place.scene_layer, "MODEL": str(place.model), "VECTORS": True}
    return out, results(place.folder, {"map": {**parameters, "OUTPUT": str(out)}})["map"]


def test_a_map_has_the_bytes_of_the_command_line(place, mapped):
    out, found = mapped
    theirs = place.folder / "cli" / "map"
    command("map", place.scene, place.model, "-o", theirs, "--vectors")
    assert {p.name for p in out.iterdir()} >= {p.name for p in theirs.iterdir()}
    for name in ("classes.tif", "classes.qml"):
        assert (out / name).read_bytes() == (theirs / name).read_bytes(), name
    same_tables(out / "features.gpkg", theirs / "features.gpkg")
    assert found["seen"] == {
        "classes.tif": [True, "paletted"],
        "confidence.tif": [True, "singlebandpseudocolor"],
        "features.gpkg|layername=buildings": [True, "categorizedSymbol"],
        "features.gpkg|layername=roads": [True, "categorizedSymbol"],
    }
    assert found["results"]["PAGE"] == str(out / "report.html")


def test_a_map_is_verified_or_it_is_said_why_not(place, mapped):
    classes = f"layer:{mapped[0] / 'classes.tif'}"
    other, _ = draw_place(place.folder, "other", (180, 200), seed=5)
    steps = [{"SEED": 1}, {"SCENE": f"layer:{other}"}, {"MODEL": str(place.folder / "no.file")}]
    good, changed, moved = in_qgis(
        place.folder, [{"run": "verify", "with": {"MAP": classes, **more}} for more in steps]
    )
    assert good["error"] == ""
    assert json.loads(good["results"]["JSON"])["ok"]
    assert "ok: True" in good["log"]
    assert "other.tif changed since the map was made: sha256 is" in changed["error"]
    assert "no.file" in moved["error"]


def test_a_model_is_exported_or_it_is_said_why_not(place):
    pytest.importorskip("onnxruntime")
    out, theirs = place.folder / "model.onnx", place.folder / "cli" / "model.onnx"
    steps = [{"OUTPUT": str(out)}, {"OPSET": 99, "OUTPUT": f"{place.folder}/new.onnx"}]
    good, refused = in_qgis(
        place.folder,
        [{"run": "export", "with": {"MODEL": str(place.model), **more}} for more in steps],
    )
    assert good["error"] == ""
    command("export", place.model, "-o", theirs)
    assert out.read_bytes() == theirs.read_bytes()
    assert refused["error"] == "opset 99 is not supported - give --opset 13 to 20"


def test_geopipe_sees_nothing_of_qgis(place, mapped):
    names = {line.split("=")[0] for line in (place.folder / "geopipe.env").read_text().split("\n")}
    assert not [n for n in names if n.startswith(("QT_", "QGIS", "GDAL_", "PROJ_", "PYTHONP"))]
    assert "HOME" in names


def test_changes_are_those_of_the_command_line(place, mapped):
    out, josm = place.folder / "changes.gpkg", place.folder / "changes.osm"
    features, theirs = mapped[0] / "features.gpkg", place.folder / "cli" / "changes.gpkg"
    parameters = {"MAP": f"layer:{features}|layername=buildings", "OSM": place.osm_layer}
    more = {"ALIGN": False, "OUTPUT": str(out), "JOSM": str(josm)}
    found = results(place.folder, {"compare": {**parameters, **more}})["compare"]
    command("compare", features, place.osm, "-o", theirs, "--no-align", "--layer", "osm")
    same_tables(out, theirs)
    assert josm.read_text().startswith("<?xml")
    assert found["results"]["JOSM"] == str(josm)
    assert found["seen"] == {
        "changes.gpkg|layername=buildings": [True, "categorizedSymbol"],
        "changes.gpkg|layername=roads": [True, "categorizedSymbol"],
    }


def test_accuracy_is_that_of_the_command_line(place, mapped):
    folder = place.folder
    classes, points = folder / "map" / "classes.tif", folder / "points.gpkg"
    figures, report = folder / "figures.json", folder / "report.md"
    steps = {
        "evaluate": {"TRUTH": place.osm_layer, "CLASSES": SCHEME, "OUTPUT": str(figures)},
        "assess_plan": {"PER_CLASS": 3, "OUTPUT": str(points)},
        "fill": {"fill": str(points), "truth": "road"},
        "assess_report": {"POINTS": f"layer:{points}|layername=points", "OUTPUT": str(report)},
    }
    found = in_qgis(
        folder,
        [
            step if "fill" in step else {"run": name, "with": {"MAP": f"layer:{classes}", **step}}
            for name, step in steps.items()
        ],
    )
    evaluated, planned, filled, reported = found
    assert [f["error"] for f in (evaluated, planned, reported)] == [""] * 3
    assert filled["saved"]
    assert planned["seen"] == {"points.gpkg|layername=points": [True, "categorizedSymbol"]}
    expected = command("evaluate", classes, place.osm, "--classes", SCHEME, "--json")
    assert figures.read_text() == expected
    assert any(line.startswith("kappa: ") for line in evaluated["log"])
    theirs = folder / "cli" / "report.md"
    expected = command("assess", "report", classes, points, "-o", theirs, "--json")
    assert reported["results"]["JSON"] == expected.strip()
    assert report.read_bytes() == theirs.read_bytes()


def test_cancel_keeps_the_tiles_and_the_next_run_goes_on(place):
    out, theirs = place.folder / "again", place.folder / "cli" / "again"
    wide, _ = draw_place(place.folder, "wide", (260, 1100))  # ten tiles
    parameters = {"SCENE": str(wide), "MODEL": str(place.model), "OUTPUT": str(out)}
    parameters["TILE_SIZE"] = 256
    step = {"run": "map", "with": parameters, "cancel": f"{out}.part/journal.jsonl"}
    (stopped,) = in_qgis(place.folder, [step], SLOW)
    assert stopped["error"] == ""
    assert unfinished(Path(f"{out}.part"))
    assert not out.exists()
    assert "Stopped. The same run, with the same output, goes on." in stopped["log"]
    results(place.folder, {"map": parameters})
    command("map", wide, place.model, "-o", theirs, "--tile-size", 256)
    assert (out / "classes.tif").read_bytes() == (theirs / "classes.tif").read_bytes()


# -- labels, models, search


def same_tables(a, b):
    layers = pyogrio.list_layers(a)[:, 0].tolist()
    assert layers == pyogrio.list_layers(b)[:, 0].tolist()
    for layer in layers:
        if layer != "layer_styles":  # it has the time
            mine, other = (pyogrio.read_dataframe(p, layer=layer) for p in (a, b))
            assert mine.equals(other), layer


@pytest.mark.parametrize("name", ["labels_check", "labels_align"])
def test_label_files_are_those_of_the_command_line(place, name):
    out, theirs = place.folder / f"{name}.gpkg", place.folder / "cli" / f"{name}.gpkg"
    parameters = {"SCENE": place.scene_layer, "LABELS": place.osm_layer, "OUTPUT": str(out)}
    found = results(place.folder, {name: parameters})[name]
    command(*name.split("_"), place.scene, place.osm, "-o", theirs)
    same_tables(out, theirs)
    assert found["seen"]
    assert all(valid for valid, _ in found["seen"].values())
    if name == "labels_check":
        assert found["seen"]["labels_check.gpkg|layername=building"] == [True, "categorizedSymbol"]


def test_a_model_has_the_bytes_of_the_command_line(place):
    out, theirs = place.folder / "trained.safetensors", place.folder / "cli" / "trained.safetensors"
    values = {"STEPS": 1, "SCHEDULE": "paper", "ALIGN": False, "OUTPUT": str(out)}
    results(
        place.folder, {"train": {"SCENE": place.scene_layer, "LABELS": place.osm_layer, **values}}
    )
    options = ["--steps", 1, "--schedule", "paper", "--no-align"]
    command("train", place.scene, place.osm, "-o", theirs, *options)
    assert out.read_bytes() == theirs.read_bytes()


def test_hits_are_those_of_the_command_line(place):
    folder = place.folder
    index = str(folder / "index")
    extent = "789010,789040,6500930,6500960 [EPSG:2154]"
    out = str(folder / "hits.gpkg")
    found = results(
        place.folder,
        {
            "index_build": {"SCENE": place.scene_layer, "SIZE": 32, "OUTPUT": index},
            "index_query": {"INDEX": index, "K": 4, "EXTENT": extent, "OUTPUT": out},
        },
    )["index_query"]
    words = (word for line in found["log"] for word in line.split())
    box = next(word for word in words if word.startswith("--box="))
    options = ["--box-crs", "lonlat", "-k", 4, "--json"]
    expected = json.loads(command("index", "query", index, box, *options))
    mine = json.loads(found["results"]["JSON"])
    assert mine["hits"] == expected["hits"]
    assert len(mine["hits"]) == 4
    assert found["seen"]["hits.gpkg|layername=hits"] == [True, "categorizedSymbol"]


# -- what cannot be


def test_what_geopipe_would_read_otherwise_is_refused(tmp_path):
    draw_place(tmp_path, "scene", (40, 40))
    make_old(tmp_path / "scene.gpkg", tmp_path / "osm.gpkg")
    (tmp_path / "t.csv").write_text("x,y\n789010,6500950\n")
    shapes = pyogrio.read_dataframe(tmp_path / "osm.gpkg").set_crs(None, allow_override=True)
    old = {"VERSION": "1.2"}
    pyogrio.write_dataframe(shapes, tmp_path / "bare.gpkg", layer="osm", dataset_options=old)
    write_scene(tmp_path / "bare.tif", np.zeros((3, 40, 40), np.uint8), crs=None)
    newer = tmp_path / "newer"
    newer.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && { echo "geopipe, version 9.9.0"; exit 0; }\n'
        'echo "Error: No such option: --json" >&2; exit 2\n'
    )
    newer.chmod(0o755)
    answers = said(HERE / "refuse_layers.py", tmp_path, tmp_path)
    expected = {
        "edited": "has unsaved edits",
        "filtered": "has a filter",
        "moved": "was set to EPSG:3857 in this project, but its file says EPSG:2154",
        "memory": "exists in memory only",
        "table": "comes from the provider 'delimitedtext'",
        "bare": "has no CRS: give its file one",
        "bare scene": "has no CRS: give its file one",
        "service": "comes from a web service, geopipe reads files: download the part",
        "program": "/bin/true is not geopipe",
        "newer": "is geopipe, version 9.9.0; this plugin was made for 0.1: update the older one",
        "missing": "geopipe was not found on the PATH or in ~/.local/bin",
    }
    assert answers.keys() == expected.keys()
    if (HERE.parents[1] / ".venv" / "bin" / "geopipe").exists():  # found beside the plugin
        del expected["missing"]
    for name, text in expected.items():
        assert text in answers[name], name
