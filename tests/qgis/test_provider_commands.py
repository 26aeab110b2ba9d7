"""The plugin's tables against geopipe's own commands, and the zip."""

import ast
import configparser
import io
import sys
import zipfile
from pathlib import Path

import click
import make_zip
import pytest
from geopipe_provider.algorithms import COMMANDS
from geopipe_provider.commands import KINDS, LAYER_KINDS, POSITIONAL, Source
from geopipe_provider.runner import MADE_FOR

from geopipe import __version__
from geopipe.cli.main import main

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "qgis" / "geopipe_provider"
BY_NAME = {c.name: c for c in COMMANDS}
each_command = pytest.mark.parametrize("command", COMMANDS, ids=BY_NAME)


def click_command(words):
    found = main
    for word in words.split():
        found = found.commands[word]
    return found


def options(words):
    params = (p for p in click_command(words).params if isinstance(p, click.Option))
    return {flag: p for p in params for flag in (*p.opts, *p.secondary_opts)}


@each_command
def test_every_option_exists(command):
    known = options(command.words)
    flags = {"--json"}
    for p in command.parameters:
        flags |= {p.flag, p.off_flag, p.layer_flag}
        flags |= {w.split("=")[0] for w in (*p.if_empty, *p.companions) if w.startswith("--")}
    assert flags - {POSITIONAL, None} <= set(known)


@each_command
def test_positional_arguments_in_their_order(command):
    arguments = [p for p in click_command(command.words).params if isinstance(p, click.Argument)]
    positional = [p for p in command.parameters if p.flag == POSITIONAL]
    if command.words == "map":  # one scene, and perhaps a model
        assert [(p.name, p.required) for p in positional] == [("SCENE", True), ("MODEL", False)]
        assert [(p.name, p.nargs) for p in arguments] == [("scenes", -1)]
        return
    assert len(positional) == len(arguments) or command.words == "index query"
    for mine, its in zip(positional, arguments, strict=True):
        assert mine.required or mine.if_empty or not its.required, mine.name


@each_command
def test_values_are_those_that_geopipe_allows_and_begins_with(command):
    known = options(command.words)
    for p in command.parameters:
        assert p.kind in KINDS
        option = known.get(p.flag)
        if option is None:
            continue
        if p.kind == "choice":
            assert p.choices == tuple(option.type.choices), p.name
        if p.kind == "flag":
            assert option.is_flag, p.name
            assert bool(p.default) == (option.default is True), p.name
        elif p.kind not in ("point", "extent"):
            default = None if not option.to_info_dict()["default"] else option.default
            assert (p.default or None) == default, p.name
        if isinstance(option.type, (click.IntRange, click.FloatRange)):
            low = option.type.min or 0
            assert p.minimum is not None, p.name
            assert p.minimum >= low, p.name
            assert option.type.max == p.maximum, p.name


@each_command
def test_names_are_unique_and_outputs_are_loaded_from_one(command):
    names = [p.name for p in command.parameters]
    assert len(names) == len(set(names))
    assert names[-1] == "OUTPUT"


@each_command
def test_the_guide_shows_its_dialog(command):
    picture = f"images/qgis-{command.name.replace('_', '-')}.png"
    assert f"![{command.title}]({picture})" in (ROOT / "docs" / "qgis.md").read_text("utf-8")
    assert (ROOT / "docs" / picture).is_file()


def parsed(command, values):
    """What geopipe's own parser makes of the arguments."""
    words = command.arguments(values)
    n = len(command.words.split())
    assert words[:n] == command.words.split()
    return click_command(command.words).make_context("geopipe", words[n:]).params


def test_labels_of_one_table():
    values = {"SCENE": Source("-s.tif"), "LABELS": Source("o.gpkg", "roads"), "OUTPUT": "c.gpkg"}
    given = parsed(BY_NAME["labels_check"], {**values, "QC_TILE": 100.0, "OVERWRITE": True})
    assert (given["scene"], given["labels"], given["layer"]) == ("-s.tif", Path("o.gpkg"), "roads")
    assert (given["qc_tile"], given["overwrite"], given["as_json"]) == (100, True, True)


@pytest.mark.parametrize(("name", "expected"), [("labels_align", "fetch"), ("train", None)])
def test_without_labels_openstreetmap_is_fetched(name, expected):
    given = parsed(BY_NAME[name], {"SCENE": Source("s.tif"), "OUTPUT": "o", "LABELS": None})
    assert given["labels"] == (Path(expected) if expected else None)
    assert given.get("fetch", False) == (expected is None)


def test_a_flag_with_a_word_for_no():
    values = {"SCENE": Source("s.tif"), "LABELS": Source("o.gpkg"), "OUTPUT": "m"}
    assert parsed(BY_NAME["train"], {**values, "ALIGN": False})["align"] is False
    assert parsed(BY_NAME["train"], {**values, "ALIGN": True})["align"] is True


def test_a_map_is_compared_with_a_table_of_openstreetmap():
    values = {"MAP": Source("m/features.gpkg", "roads"), "OSM": Source("o.gpkg", "osm")}
    values |= {"FDR": 0.2, "TRUTH": Source("t.gpkg"), "TRUTH_AREA": Source("a.gpkg", "a")}
    values |= {"ALIGN": False, "OUTPUT": "c.gpkg", "JOSM": ""}
    given = parsed(BY_NAME["compare"], values)
    assert (given["class_map"], given["reference"]) == (Path("m/features.gpkg"), Path("o.gpkg"))
    assert (given["layer"], given["fdr"], given["align"]) == ("osm", 0.2, False)
    assert (given["truth"], given["truth_area"]) == (Path("t.gpkg"), Path("a.gpkg"))
    assert (given["out"], given["josm"]) == (Path("c.gpkg"), None)
    assert parsed(BY_NAME["compare"], {**values, "JOSM": "c.osm"})["josm"] == Path("c.osm")


def test_a_place_is_a_box_in_longitude_and_latitude():
    values = {"INDEX": "i", "POINT": (-3.5, 45.0, -3.25, 45.5), "SIDE": 64.0, "K": 5}
    given = parsed(BY_NAME["index_query"], {**values, "LIKE": "3, 4", "OUTPUT": "h.gpkg"})
    assert given["box"] == (-3.5, 45, -3.25, 45.5)
    assert (given["box_crs"], given["k"], given["like"]) == ("lonlat", 5, ("3", "4"))
    image = parsed(BY_NAME["index_query"], {"INDEX": "i", "IMAGE": "a.png"})
    assert (image["image"], image["box"], image["box_crs"]) == ("a.png", None, "scene")


def test_an_extent_is_the_bounds_of_a_scene():
    values = {"URL": "https://h/{z}/{x}/{y}", "BOUNDS": (-3.5, 45.0, -3.25, 45.5), "GSD": 0.5}
    given = parsed(BY_NAME["scene_xyz"], {**values, "TMS": True, "OUTPUT": "s.tif"})
    assert (given["url"], given["bounds"]) == (values["URL"], values["BOUNDS"])
    assert (given["gsd"], given["tms"], given["out"]) == (0.5, True, Path("s.tif"))
    values = {"URL": "https://h/wms", "LAYER": "-A", "BOUNDS": (1.0, 2.0, 3.0, 4.0), "GSD": 0.2}
    assert parsed(BY_NAME["scene_wms"], {**values, "OUTPUT": "s.tif"})["layer"] == "-A"
    assert parsed(BY_NAME["scene_wms"], {**values, "LAYER": "", "OUTPUT": "s.tif"})["layer"] is None


# -- the package


def imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)


def test_it_depends_on_nothing_but_qgis():
    allowed = {*sys.stdlib_module_names, "qgis", "processing"}
    for path in PLUGIN.rglob("*.py"):
        assert set(imports(path)) <= allowed, path.name


def test_what_is_tested_here_imports_no_qgis():
    for name in ("commands", "runner", "results", "places", "__init__"):
        assert "qgis" not in set(imports(PLUGIN / f"{name}.py"))
    for path in (PLUGIN / "algorithms").glob("*.py"):
        assert "qgis" not in set(imports(path))


def test_its_version_is_that_of_geopipe():
    metadata = configparser.ConfigParser()
    metadata.read(PLUGIN / "metadata.txt", encoding="utf-8")
    assert metadata["general"]["version"] == __version__
    assert metadata["general"]["hasProcessingProvider"] == "yes"
    assert __version__.rpartition(".")[0] == MADE_FOR


def test_the_zip_is_whole_and_always_the_same(tmp_path):
    packed = []
    for name in ("a.zip", "b.zip"):
        make_zip.write_zip(tmp_path / name)
        packed.append((tmp_path / name).read_bytes())
    assert packed[0] == packed[1]
    with zipfile.ZipFile(io.BytesIO(packed[0])) as archive:
        names = archive.namelist()
    assert {f"geopipe_provider/{n}" for n in ("metadata.txt", "__init__.py", "LICENSE")} <= {*names}
    assert "geopipe_provider/algorithms/mapping.py" in names
    assert not [n for n in names if "__pycache__" in n]


def test_layers_are_inputs_only():
    for command in COMMANDS:
        for p in command.parameters:
            assert p.kind in LAYER_KINDS or not p.layer_flag
