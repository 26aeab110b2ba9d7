"""The plugin in QGIS itself: what it makes is what the command line makes."""

import json
import sys
from pathlib import Path

import pyogrio
import pytest
from click.testing import CliRunner
from qgis_process import NEEDS_QGIS, said
from tiny_place import draw_place, lively

from geopipe.cli.main import main
from geopipe.mapping import unfinished

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
pytestmark = NEEDS_QGIS
SLOW = (
    "import time; from geopipe.mapping.journal import Journal; add = Journal.add;"
    "Journal.add = lambda *a: (add(*a), time.sleep(0.3));"
)
"""A tile takes long enough for Cancel to come in time."""


def executable(path, before=""):
    """A program geopipe that runs this checkout, and keeps the environment that it was given."""
    code = f"{before}from geopipe.cli import main; main()"
    path.write_text(
        f'#!/bin/sh\nenv > "$0.env"\nPYTHONPATH={ROOT} OMP_NUM_THREADS=1 '
        f"exec {sys.executable} -c '{code}' \"$@\"\n"
    )
    path.chmod(0o755)
    return path


def in_qgis(folder, steps, before=""):
    plan = folder / "steps.json"
    plan.write_text(json.dumps(steps))
    return said(
        HERE / "run_provider.py", folder, executable(folder / "geopipe", before), plan, seconds=400
    )


def command(*words):
    """What the command line prints."""
    done = CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("provider")
    scene, osm = draw_place(folder, "scene", (180, 200))
    lively(make_model(seed=3)).save(folder / "model.safetensors")
    (folder / "cli").mkdir()
    return folder, scene, osm, folder / "model.safetensors"


@pytest.fixture(scope="module")
def done(place):
    """Each step in one QGIS; its name -> what came of it."""
    folder, scene, osm, model = place
    labels, layer = f"layer:{osm}|layername=osm", f"layer:{scene}"
    mapped, points = folder / "map" / "classes.tif", folder / "points.gpkg"
    given = {
        "labels_check": {"SCENE": layer, "LABELS": labels, "BLOCK": 50},
        "labels_align": {"SCENE": layer, "LABELS": labels},
        "train": {"SCENE": layer, "LABELS": labels, "STEPS": 1, "SCHEDULE": "paper", "ALIGN": False,
                  "OUTPUT": str(folder / "trained.safetensors")},
        "map": {"SCENE": layer, "MODEL": str(model), "VECTORS": True,
                "OUTPUT": str(folder / "map")},
        "evaluate": {"MAP": f"layer:{mapped}", "TRUTH": labels,
                     "OUTPUT": str(folder / "figures.json")},
        "assess_plan": {"MAP": f"layer:{mapped}", "PER_CLASS": 3, "OUTPUT": str(points)},
        "assess_report": {"MAP": f"layer:{mapped}", "POINTS": f"layer:{points}|layername=points",
                          "OUTPUT": str(folder / "report.md")},
        "index_build": {"SCENE": layer, "SIZE": 32, "OUTPUT": str(folder / "index")},
        "index_query": {"INDEX": str(folder / "index"), "K": 4,
                        "EXTENT": "789010,789040,6500930,6500960 [EPSG:2154]"},
    }  # fmt: skip
    for name in ("labels_check", "labels_align", "index_query"):
        given[name]["OUTPUT"] = str(folder / f"{name}.gpkg")
    steps = [{"run": name, "with": parameters} for name, parameters in given.items()]
    steps.insert(6, {"fill": str(points), "truth": "road"})
    steps[6], filled = steps[6], 6
    found = in_qgis(folder, steps)
    assert found.pop(filled)["saved"]
    return dict(zip(given, found, strict=True))


def test_nothing_failed(done):
    assert {name: d["error"] for name, d in done.items()} == dict.fromkeys(done, "")
    assert {name: json.loads(d["results"]["JSON"]) != {} for name, d in done.items()}


def test_a_map_has_the_bytes_of_the_command_line(place, done):
    folder, scene, _, model = place
    command("map", scene, model, "-o", folder / "cli" / "map", "--vectors")
    ours, theirs = folder / "map", folder / "cli" / "map"
    names = {p.name for p in theirs.iterdir()}
    assert {p.name for p in ours.iterdir()} >= names
    for name in ("classes.tif", "classes.qml"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert done["map"]["seen"]["classes"] == [True, "paletted"]
    assert done["map"]["results"]["PAGE"] == str(ours / "report.html")


def same_tables(a, b):
    layers = pyogrio.list_layers(a)[:, 0].tolist()
    assert layers == pyogrio.list_layers(b)[:, 0].tolist()
    for layer in layers:
        if layer != "layer_styles":  # it has the time
            mine, other = (pyogrio.read_dataframe(p, layer=layer) for p in (a, b))
            assert mine.equals(other), layer


@pytest.mark.parametrize("name", ["labels_check", "labels_align"])
def test_label_files_are_those_of_the_command_line(place, done, name):
    folder, scene, osm, _ = place
    out = folder / "cli" / f"{name}.gpkg"
    block = ["--block", 50] if name == "labels_check" else []
    command(*name.split("_"), scene, osm, "-o", out, *block)
    same_tables(folder / f"{name}.gpkg", out)
    assert done[name]["seen"]
    assert all(valid for valid, _ in done[name]["seen"].values())
    if name == "labels_check":
        assert done[name]["seen"]["building"] == [True, "categorizedSymbol"]


def test_a_model_has_the_bytes_of_the_command_line(place, done):
    folder, scene, osm, _ = place
    out = folder / "cli" / "trained.safetensors"
    options = ["--steps", 1, "--schedule", "paper", "--no-align"]
    command("train", scene, osm, "-o", out, *options)
    assert (folder / "trained.safetensors").read_bytes() == out.read_bytes()


def test_accuracy_is_that_of_the_command_line(place, done):
    folder, _, osm, _ = place
    mapped, points = folder / "map" / "classes.tif", folder / "points.gpkg"
    expected = command("evaluate", mapped, osm, "--json")
    assert (folder / "figures.json").read_text() == expected
    assert done["evaluate"]["results"]["JSON"] == expected.strip()
    assert any(line.startswith("kappa: ") for line in done["evaluate"]["log"])
    out = folder / "cli" / "report.md"
    report = command("assess", "report", mapped, points, "-o", out, "--json")
    assert json.loads(done["assess_report"]["results"]["JSON"]) == json.loads(report)
    assert (folder / "report.md").read_bytes() == out.read_bytes()


def test_hits_are_those_of_the_command_line(place, done):
    folder = place[0]
    words = done["index_query"]["log"]
    box = next(w for line in words for w in line.split() if w.startswith("--box="))
    expected = command("index", "query", folder / "index", box, "--box-crs", "lonlat", "-k", 4,
                       "--json")  # fmt: skip
    mine = json.loads(done["index_query"]["results"]["JSON"])
    assert mine["hits"] == json.loads(expected)["hits"]
    assert len(mine["hits"]) == 4
    assert done["index_query"]["seen"]["hits"] == [True, "categorizedSymbol"]


def test_geopipe_sees_nothing_of_qgis(place, done):
    names = {line.split("=")[0] for line in (place[0] / "geopipe.env").read_text().splitlines()}
    assert not [n for n in names if n.startswith(("QT_", "QGIS", "GDAL_", "PROJ_", "PYTHONP"))]
    assert "HOME" in names


def test_cancel_keeps_the_tiles_and_the_next_run_goes_on(place):
    folder, scene, _, model = place
    out = folder / "again"
    parameters = {"SCENE": str(scene), "MODEL": str(model), "OUTPUT": str(out), "TILE_SIZE": 64}
    step = {"run": "map", "with": parameters, "cancel": f"{out}.part/journal.jsonl"}
    (stopped,) = in_qgis(folder, [step], SLOW)
    assert unfinished(Path(f"{out}.part"))
    assert not out.exists()
    assert stopped["log"][-1] == "Stopped. The same run, with the same output, goes on."
    (finished,) = in_qgis(folder, [{"run": "map", "with": parameters}])
    assert finished["error"] == ""
    command("map", scene, model, "-o", folder / "cli" / "again", "--tile-size", 64)
    expected = (folder / "cli" / "again" / "classes.tif").read_bytes()
    assert (out / "classes.tif").read_bytes() == expected


def test_what_geopipe_would_read_otherwise_is_refused(place):
    folder = place[0]
    (folder / "t.csv").write_text("x,y\n789010,6500950\n")
    answers = said(HERE / "refuse_layers.py", folder, folder)
    expected = {
        "edited": "has unsaved edits",
        "filtered": "has a filter",
        "moved": "was set to EPSG:3857 in this project, but its file says EPSG:2154",
        "memory": "exists in memory only",
        "table": "comes from the provider 'delimitedtext'",
        "program": "/bin/true is not geopipe",
        "missing": "geopipe was not found on the PATH or in ~/.local/bin",
    }
    assert answers.keys() == expected.keys()
    for name, text in expected.items():
        assert text in answers[name], name
