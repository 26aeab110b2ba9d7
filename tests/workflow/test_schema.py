"""Workflow files: what they may say, and how a slip is told."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from geopipe.errors import ConfigError
from geopipe.workflow.schema import FETCH, Workflow, load_workflow

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SMALL = """
name = "small"
out = "made"
[train]
scene = "train.tif"
labels = "osm.gpkg"
"""
LARGE = (
    SMALL
    + """
[enhance]
scene = "sub/enhance.tif"
labels = "truth.gpkg"
area = "drawn.geojson"
[test]
scene = "https://example.org/test.tif"
labels = "/data/truth.tif"
[map]
scenes = ["one.tif", "/vsicurl/https://example.org/two.tif", "/data/three.tif"]
[base]
steps = 7
"""
)


@pytest.fixture
def load(tmp_path):
    """``load(text, key=value...)``: `text` as a workflow file in a folder of its own."""

    def loaded(text=SMALL, /, **settings):
        path = tmp_path / "own" / "w.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return load_workflow(path, {k.replace("__", "."): v for k, v in settings.items()})

    return loaded


def test_a_small_file_has_the_papers_values(load):
    w = load()
    assert (w.gsd, w.seed, w.device, w.workers) == (1.0, 0, "auto", 0)
    assert (w.base.momentum, w.base.weight_decay) == (0.9, 2e-4)
    assert w.refinement.iterations == 5
    assert w.enhance is w.test is None


def test_relative_paths_start_at_the_file_and_addresses_stay(load, tmp_path):
    w, own = load(LARGE), tmp_path / "own"
    assert w.out == own / "made"
    assert w.train.scene == str(own / "train.tif")
    assert w.enhance.scene == str(own / "sub/enhance.tif")
    assert w.enhance.area == own / "drawn.geojson"
    assert w.test.scene == "https://example.org/test.tif"
    assert w.test.labels == Path("/data/truth.tif")
    assert w.map.scenes == (
        str(own / "one.tif"),
        "/vsicurl/https://example.org/two.tif",
        "/data/three.tif",
    )


def test_a_scene_is_mapped_with_the_bands_and_holes_of_its_training(load):
    text = (
        SMALL
        + """bands = [3, 2, 1]
nodata = 255
[map]
scenes = ["train.tif", "other.tif"]
"""
    )
    assert [(c.bands, c.nodata) for c in load(text).map_scenes()] == [((3, 2, 1), 255)] * 2
    other = load(text, map__bands="[1, 2, 3]", map__nodata="0").map_scenes()
    assert [(c.bands, c.nodata) for c in other] == [((1, 2, 3), 0)] * 2


def test_fetch_is_no_path(load):
    assert str(load(SMALL.replace("osm.gpkg", "fetch")).train.labels) == FETCH
    assert str(load(train__labels="fetch").train.labels) == FETCH


def test_a_scheme_is_a_name_or_a_file_beside_the_workflow(load, tmp_path):
    named, filed = (f'classes = "{c}"{SMALL}' for c in ("buildings", "my.toml"))
    assert load(named).classes == "buildings"
    assert load(filed).classes == str(tmp_path / "own" / "my.toml")


def test_settings_get_their_types_and_their_paths_start_here(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    w = load(
        LARGE,
        base__steps="5",
        base__lr="1e-3",
        refinement__recurrent="false",
        map__scores="true",
        train__scene="mine.tif",
        out="elsewhere",
        seed="3",
        train__nodata="255",
    )
    assert (w.base.steps, w.base.lr, w.refinement.recurrent) == (5, 1e-3, False)
    assert (w.map.scores, w.seed, w.train.nodata) == (True, 3, 255.0)
    assert w.train.scene == str(tmp_path / "mine.tif")
    assert w.out == tmp_path / "elsewhere"
    assert w.enhance.scene == str(tmp_path / "own/sub/enhance.tif"), "of the file, as before"


def test_lists_are_written_as_in_the_file_and_one_scene_alone(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    w = load(LARGE, map__scenes="a.tif", train__bands="[3, 2, 1]", map__bands="[4]")
    assert w.map.scenes == (str(tmp_path / "a.tif"),)
    assert (w.train.bands, w.map.bands) == ((3, 2, 1), (4,))
    two = load(map__scenes="['a.tif', 'https://example.org/b.tif']").map.scenes
    assert two == (str(tmp_path / "a.tif"), "https://example.org/b.tif")
    alone = SMALL + "[map]\nscenes = 'one.tif'\n"
    assert load(alone).map.scenes == (str(tmp_path / "own" / "one.tif"),)


@pytest.mark.parametrize("text", ["2024", "2024-05-31", "true", "1e3", "x = [", "{}", "a\nb = 1"])
def test_text_that_looks_like_another_type_stays_text(load, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    w = load(name=text, out=text, train__layer=text)
    assert (w.name, w.out, w.train.layer) == (text, tmp_path / text, text)


def test_quoted_text_loses_its_quotes(load):
    assert load(name="'my \"own\" scene'").name == 'my "own" scene'
    assert load(name="[unclosed").name == "[unclosed"


def test_settings_make_tables_that_the_file_does_not_have(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    w = load(enhance__scene="e.tif", enhance__labels="t.gpkg")
    assert w.enhance.scene == str(tmp_path / "e.tif")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base__step": "5"}, ["unknown key 'base.step'", "did you mean 'steps'?"]),
        ({"sed": "5"}, ["unknown key 'sed'", "did you mean 'seed'?"]),
        ({"enhance__scen": "x"}, ["'enhance.scen'", "did you mean 'scene'?"]),
        ({"refinement__xyzzy": "1"}, ["'refinement.xyzzy'", "known keys: kind, steps"]),
        ({"base__steps": "many"}, ["base.steps", "valid integer", "'many'"]),
        ({"base__steps": "0"}, ["base.steps", "greater than 0"]),
        ({"base__momentum": "1"}, ["base.momentum", "less than 1"]),
        ({"map__scores": "perhaps"}, ["map.scores", "boolean", "'perhaps'"]),
        ({"base__precision": "half"}, ["base.precision", "'float32'", "'half'"]),
        ({"map__bands": "[3, 'x']"}, ["map.bands.1", "integer"]),
        ({"name__first": "x"}, ["--set name.first", "'name' is a value, not a table"]),
        ({"train": "x"}, ["train", "got"]),
        ({"name": ""}, ["name", "at least 1 character"]),
        ({"gsd": "0"}, ["gsd", "greater than or equal to 0.001"]),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_wrong_setting_names_itself_and_the_way_out(load, settings, words):
    with pytest.raises(ConfigError) as caught:
        load(**settings)
    assert all(w in str(caught.value) for w in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty", "new-scene.toml"]),
        ("# only a word\n", ["is empty"]),
        ("name = ", ["not valid TOML", "Invalid value"]),
        ("[train]\nscene = 'a'\n[train]\n", ["not valid TOML", "train"]),
        ("name = 'x'\nout = 'y'\n", ["key 'train' is missing"]),
        ("out = 'y'\n[train]\nscene = 'a'\n", ["'name' is missing", "'train.labels' is missing"]),
        (SMALL + "[base]\nsteps = 1.5\n", ["base.steps", "1.5"]),
        (SMALL + "[map]\nscenes = 3\n", ["map.scenes", "got 3"]),
        (SMALL + "[refinment]\nsteps = 3\n", ["'refinment'", "did you mean 'refinement'?"]),
        (SMALL + "[test]\nscene = 'train.tif'\nlabels = 'x.gpkg'\n", ["trained on", "area"]),
    ],
)
def test_a_wrong_file_names_what_is_wrong(load, text, words):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert "w.toml" in str(caught.value)
    assert all(w in str(caught.value) for w in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_or_is_not_there(tmp_path):
    (tmp_path / "w.toml").write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(ConfigError, match="is not a text file"):
        load_workflow(tmp_path / "w.toml")
    with pytest.raises(ConfigError, match=r"there is no file .*none.toml"):
        load_workflow(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        load_workflow(tmp_path)


def test_one_scene_may_train_and_test_in_two_areas(load):
    area = "[test]\nscene = 'train.tif'\nlabels = 'x.gpkg'\narea = 'east.geojson'\n"
    w = load(SMALL + "area = 'west.geojson'\n" + area)
    assert w.test.scene == w.train.scene


def test_what_is_mapped_is_the_test_scene_or_else_the_training_scene(load, tmp_path):
    own = tmp_path / "own"
    assert [c.scene for c in load().map_scenes()] == [str(own / "train.tif")]
    assert load(train__bands="[3, 2, 1]").map_scenes()[0].bands == (3, 2, 1)
    tested = load(LARGE.replace("scenes = ", "# "))
    assert [c.scene for c in tested.map_scenes()] == ["https://example.org/test.tif"]
    chosen = load(LARGE, map__bands="[1]", map__nodata="0").map_scenes()
    assert [(c.bands, c.nodata) for c in chosen] == [((1,), 0.0)] * 3


def test_auto_is_the_best_network_trained_on_with_the_tile(load):
    auto = {"gsd": "auto", "base__net": "auto", "refinement__kind": "auto"}
    w = load(**auto)
    assert w.gsd is None
    assert (w.base.net, w.refinement.kind) == ("lite-unet", "finetune")
    assert load(**{**auto, "base__net": "cnn"}).refinement.kind == "rnn"
    assert load(**{**auto, "base__net": "unet"}).refinement.kind == "finetune"
    assert load(refinement__kind="rnn", base__net="auto").refinement.kind == "rnn"


def test_a_newcomer_gets_auto_and_forez_the_papers_networks():
    new, forez = (load_workflow(WORKFLOWS / f"{name}.toml") for name in ("new-scene", "forez"))
    assert (new.gsd, new.base.net, new.refinement.kind) == (None, "lite-unet", "finetune")
    assert (forez.gsd, forez.base.net, forez.refinement.kind) == (1.0, "cnn", "rnn")


def test_a_workflow_does_not_change(load):
    with pytest.raises(ValidationError):
        load().seed = 4


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.toml")), ids=lambda p: p.stem)
def test_workflows_that_ship_are_valid(path):
    assert isinstance(load_workflow(path), Workflow)


def test_the_commented_lines_of_the_template_are_keys(tmp_path):
    """Each ``# key = value`` of new-scene.toml, uncommented, is accepted."""
    lines = (WORKFLOWS / "new-scene.toml").read_text().splitlines()
    text = "\n".join(
        line[2:] if line.startswith("# [") or (line.startswith("# ") and " = " in line) else line
        for line in lines
        if not line.startswith(("# Copy", "# or", "# Ground"))
    )
    (tmp_path / "w.toml").write_text(text)
    w = load_workflow(tmp_path / "w.toml")
    assert (w.train.layer, w.train.bands, w.train.nodata) == ("buildings", (3, 2, 1), 255)
    assert w.enhance.scene.endswith("tile.tif")
    assert w.test.labels.name == "test.gpkg"
