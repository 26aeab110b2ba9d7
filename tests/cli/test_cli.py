"""Every command on its happy way: results on stdout, progress on stderr, exit code 0."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tiny_place import ROLES, draw_place, fingerprints

import geopipe as package

pytestmark = pytest.mark.usefixtures("one_thread")

WORKFLOW = (
    ROLES
    + """
[base]
steps = 2
batch = 3
[refinement]
steps = 2
batch = 3
iterations = 2
"""
)


@pytest.fixture
def tiles(tmp_path):
    for i, name in enumerate(("train", "enhance", "test")):
        draw_place(tmp_path, name, (140, 150), east=1000 * i, seed=i)
    (tmp_path / "tiny.toml").write_text(WORKFLOW)
    return tmp_path


@pytest.fixture(scope="session")
def made(drawn, tmp_path_factory):
    """A bundle, made in another process: no test of this one pays for a warm cache."""
    folder = tmp_path_factory.mktemp("made") / "map"
    words = ["map", drawn.scene, drawn.model, "-o", folder, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", "from geopipe.cli import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("mapping: ") for line in done.stderr.splitlines()), done.stderr
    return folder


# -- the program


def test_help_is_light():
    """Neither torch nor dask nor rasterio nor osmnx, for the program and for every command."""
    code = """
import sys
from click.testing import CliRunner
from geopipe.cli import main
for words in (["--help"], ["--version"], *([name, "--help"] for name in main.commands)):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, words
heavy = {"torch", "dask", "distributed", "rasterio", "osmnx", "geopandas", "numpy", "pydantic"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_package_is_light():
    code = "import geopipe, sys; print(sorted({'torch', 'dask', 'osmnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_the_commands(geopipe):
    for word in ("--help", "-h"):
        said = geopipe(word)
        assert (said.code, said.err) == (0, "")
        assert all(f"\n  {name} " in said.out for name in ("labels", "map", "evaluate", "run"))
    assert geopipe("--version").out == f"geopipe, version {package.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["draw"],
        ["map"],
        ["map", "a", "b"],
        ["map", "a", "b", "-o", "c", "--colour", "red"],
        ["map", "a", "b", "-o", "c", "--tile-size", "many"],
        ["map", "a", "b", "-o", "c", "--bands", "red"],
        ["evaluate", "a"],
        ["labels", "a"],
        ["labels", "a", "b"],
        ["labels", "a", "-o", "b"],
        ["labels", "--fetch", "a"],
        ["labels", "--fetch", "a", "b", "-o", "c"],
        ["train", "a", "-o", "m"],
        ["train", "a", "b", "--fetch", "-o", "m"],
        ["train", "a", "b", "-o", "m", "--tile", "t"],
        ["train", "a", "b", "-o", "m", "--truth", "t"],
        ["train", "a", "b", "-o", "m", "--refinement-steps", "3"],
        ["run"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_shows_the_usage(geopipe, words):
    said = geopipe(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Usage: geopipe")
    assert "Error: " in said.err
    assert "Traceback" not in said.err


# -- labels


def test_labels_counts_the_pixels_of_each_class(geopipe, drawn, tmp_path):
    out = tmp_path / "labels.tif"
    said = geopipe("labels", drawn.scene, drawn.osm, "-o", out)
    assert (said.code, said.err) == (0, "")
    *rows, last = said.out.splitlines()
    assert last == str(out)
    told = {line[:16].strip(): int(line[16:].split()[0]) for line in rows}
    with rasterio.open(out) as src:
        ids = np.bincount(src.read(1).ravel(), minlength=256)
    assert told == {
        "background": ids[0],
        "building": ids[1],
        "road": ids[2],
        "not labelled": ids[255],
    }
    assert ids[255] == 24 * 24


def test_labels_in_json(geopipe, drawn, tmp_path):
    out = tmp_path / "labels.tif"
    said = geopipe("labels", drawn.scene, drawn.osm, "-o", out, "--json", "--classes", "buildings")
    told = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert told["out"] == str(out)
    assert list(told["pixels"]) == ["background", "building"]
    assert sum(told["pixels"].values()) + told["ignored"] == 180 * 200
    assert "OpenStreetMap" in told["credit"]
    assert told["skipped"] == {}


def test_labels_warns_of_a_class_without_a_pixel(geopipe, drawn, tmp_path):
    scheme = tmp_path / "water.toml"
    shipped = Path(package.__file__).parent / "schemes" / "buildings.toml"
    scheme.write_text(
        shipped.read_text() + '\n[[classes]]\nname = "water"\ncolor = "#0000ff"\n'
        '[[classes.rules]]\ngeometry = "polygon"\ntags = { natural = ["water"] }\n'
    )
    said = geopipe("labels", drawn.scene, drawn.osm, "-o", tmp_path / "l.tif", "--classes", scheme)
    assert said.code == 0
    assert said.err == "warning: no pixel of class water\n"


# -- map


def test_map_tells_areas_and_where_it_lies(geopipe, drawn, tmp_path, made):
    said = geopipe("map", drawn.scene, drawn.model, "-o", tmp_path / "map", "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    *areas, where, report = said.out.splitlines()
    assert where == f"map:    {tmp_path}/map/classes.tif"
    assert report == f"report: {tmp_path}/map/report.html"
    assert [a.split()[0] for a in areas] == ["background", "building", "road"]
    hectares = sum(float(a.split()[1]) for a in areas)
    assert hectares == pytest.approx((180 * 200 - 24 * 24) * 0.25 / 1e4, abs=0.02)
    assert (tmp_path / "map/classes.tif").read_bytes() == (made / "classes.tif").read_bytes()


def test_map_in_json_with_scores_and_vectors(geopipe, drawn, tmp_path):
    out = tmp_path / "map"
    said = geopipe(
        "map",
        drawn.scene,
        drawn.model,
        "-o",
        out,
        "--scores",
        "--vectors",
        "--json",
        "--tile-size",
        256,
        "--bands",
        "3,2,1",
        "--nodata",
        "200",
    )
    told = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert told["map"] == str(out / "classes.tif")
    assert Path(told["report"]).is_file()
    assert list(told["areas_m2"]) == ["background", "building", "road"]
    assert told["seconds"] > 0
    assert {"scores.tif", "features.gpkg"} <= {p.name for p in out.iterdir()}
    with rasterio.open(out / "classes.tif") as src:
        assert src.tags()["scene_bands"] == "3 2 1"


def test_a_dry_run_writes_nothing(geopipe, drawn, tmp_path):
    before = fingerprints(drawn.scene.parent)
    words = ["map", drawn.scene, drawn.model, "-o", tmp_path / "map", "--dry-run", "--scores"]
    said = geopipe(*words)
    assert (said.code, said.err) == (0, "")
    rows = {line[:20].strip(): line[21:] for line in said.out.splitlines()}
    assert rows["scene"] == "200 x 180 px, bands (1, 2, 3), uint8"
    assert rows["tiles"] == "1"
    told = json.loads(geopipe(*words, "--json").out)
    assert told["tiles"] == 1
    assert {"memory_mb", "disk_mb", "seconds", "halo_px"} <= set(told)
    assert not list(tmp_path.iterdir())
    assert fingerprints(drawn.scene.parent) == before


def test_overwrite_replaces_a_map(geopipe, drawn, tmp_path):
    words = ["map", drawn.scene, drawn.model, "-o", tmp_path / "map"]
    assert geopipe(*words, "--vectors").code == 0
    assert geopipe(*words).code == 1
    assert (tmp_path / "map/features.gpkg").exists()
    assert geopipe(*words, "--overwrite").code == 0
    assert not (tmp_path / "map/features.gpkg").exists()


# -- evaluate


def test_evaluate_of_labels_against_themselves_is_right_everywhere(geopipe, drawn, tmp_path):
    geopipe("labels", drawn.scene, drawn.osm, "-o", tmp_path / "l.tif")
    for truth in (tmp_path / "l.tif", drawn.osm):
        words = ["evaluate", tmp_path / "l.tif", truth, "--classes", "buildings-roads"]
        said = geopipe(*words, "--json")
        told = json.loads(said.out)
        assert (said.code, said.err) == (0, "")
        assert told["overall_accuracy"] == 1.0
        assert told["pixels"] == 180 * 200 - 24 * 24


def test_evaluate_prints_tables(geopipe, drawn, made):
    words = ["evaluate", made / "classes.tif", drawn.osm, "--classes", "buildings-roads"]
    said = geopipe(*words)
    assert (said.code, said.err) == (0, "")
    assert "| building |" in said.out
    told = json.loads(geopipe(*words, "--json").out)
    assert 0 < told["overall_accuracy"] < 1
    assert f"{100 * told['overall_accuracy']:.2f}" in said.out


# -- run


def test_run_tells_how_good_the_map_is_and_where_it_lies(geopipe, tiles):
    said = geopipe("run", tiles / "tiny.toml", "--set", "base.steps=1", "--json")
    told = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert told["maps"] == [str(tiles / "made/map/test")]
    assert told["model"] == str(tiles / "made/refined.safetensors")
    assert len(told["mean_iou"]) == 3
    again = geopipe("run", tiles / "tiny.toml", "--set", "base.steps=1")
    assert again.code == 0
    first, *paths = again.out.splitlines()
    assert first.startswith("mean IoU on the test scene, step by step: ")
    assert [p.split()[0] for p in paths] == ["map:", "model:", "report:"]
    assert all(Path(p.split()[1]).is_file() for p in paths)
    model = json.loads((tiles / "made/base.json").read_text())
    assert model["steps"] == [1]


def test_verbose_names_the_steps_on_stderr(geopipe, tiles):
    said = geopipe("-v", "run", tiles / "tiny.toml", "--json")
    json.loads(said.out)
    assert "INFO: base\n" in said.err
    assert "INFO: refinement\n" in said.err
    said = geopipe("-v", "run", tiles / "tiny.toml", "--json")
    assert "INFO: base: unchanged, skipped\n" in said.err


def test_progress_of_a_long_command_is_on_stderr(geopipe, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("geopipe.progress._QUIET_S", 0)
    said = geopipe("map", drawn.scene, drawn.model, "-o", tmp_path / "map", "--json")
    json.loads(said.out)
    assert said.err.startswith("mapping: 1/1, ")


def test_a_warning_is_on_stderr(geopipe, tiles):
    text = WORKFLOW.replace("[enhance]", "[x]").split("[x]")
    (tiles / "tiny.toml").write_text(text[0] + "[test]" + text[1].split("[test]")[1])
    said = geopipe("run", tiles / "tiny.toml", "--json", "--set", "refinement.steps=1")
    json.loads(said.out)
    assert said.code == 0
    assert said.err.startswith("WARNING: no [enhance] tile with accurate labels")
