"""A map without a model of one's own: the starter model that comes with geopipe."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

import geopipe as gp
from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.starter import STARTER, model_path
from geopipe.cli.export import export
from geopipe.cli.labels import labels
from geopipe.cli.options import MODEL_PATH
from geopipe.cli.seams import verify_seams
from geopipe.learn.start import StartModel
from geopipe.workflow.schema import load_workflow

pytestmark = pytest.mark.usefixtures("one_thread")


def read(path):
    with rasterio.open(path) as src:
        return src.read(1), src.tags()


def test_it_comes_with_the_package_and_tells_what_it_learned_from():
    model = Checkpoint.load(STARTER)
    assert model.scheme.names == ("background", "building")
    assert STARTER.stat().st_size < 20e6
    assert "OpenStreetMap" in model.provenance["credit"]
    assert "CC BY 4.0" in model.provenance["starter"]
    assert model.domain is not None  # it knows which scenes are unlike those it learned from


def test_a_map_without_a_model_is_the_starters_and_says_so(geopipe, drawn, tmp_path):
    alone = geopipe("map", drawn.scene, "-o", tmp_path / "alone")
    named = geopipe("map", drawn.scene, "starter", "-o", tmp_path / "named")
    assert (alone.code, named.code) == (0, 0), alone.err
    ids, tags = read(tmp_path / "alone/classes.tif")
    np.testing.assert_array_equal(ids, read(tmp_path / "named/classes.tif")[0])
    assert tags["model_sha256"] == file_hash(STARTER)
    assert "mapped by the starter model" in alone.err
    assert "mapped by the starter model" in (tmp_path / "alone/report.html").read_text()


def test_a_model_of_ones_own_is_no_starter(geopipe, drawn, tmp_path):
    own = geopipe("map", drawn.scene, drawn.model, "-o", tmp_path / "own")
    assert own.code == 0
    assert "starter model" not in own.err
    assert read(tmp_path / "own/classes.tif")[1]["model_sha256"] == file_hash(drawn.model)


def test_several_scenes_need_no_model_either(geopipe, drawn, tmp_path):
    other = tmp_path / "other.tif"
    other.write_bytes(drawn.scene.read_bytes())
    done = geopipe("map", drawn.scene, other, "-o", tmp_path / "maps")
    assert done.code == 0, done.err
    assert sorted(p.name for p in (tmp_path / "maps").iterdir() if p.is_dir()) == [
        "other",
        drawn.scene.stem,
    ]


def test_the_word_names_it_wherever_a_model_is_asked_for(tmp_path, monkeypatch):
    assert gp.load_model("starter").path == STARTER
    assert StartModel.open(Path("starter")).sha256 == file_hash(STARTER)
    tables = '[train]\nscene = "s.tif"\nlabels = "l.gpkg"\nstart = "starter"\n'
    (tmp_path / "w.toml").write_text('name = "w"\nout = "made"\n' + tables)
    workflow = load_workflow(tmp_path / "w.toml")
    assert workflow.train.start == Path("starter")
    assert (workflow.base.net, workflow.gsd) == ("lite-unet", Checkpoint.load(STARTER).gsd)
    monkeypatch.chdir(tmp_path)
    Path("starter").touch()
    assert model_path("starter") == Path("starter")  # a file of the user's goes first


def test_what_is_trained_from_it_is_no_starter_model():
    start = StartModel.open(STARTER)
    after = start.provenance(start.model.scheme)
    assert "starter" not in after
    assert after["derived_from"]["sha256"] == file_hash(STARTER)


@pytest.mark.parametrize("command", [export, verify_seams, labels.commands["check"]])
def test_other_commands_take_its_name(command):
    assert any(option.type is MODEL_PATH for option in command.params)
    assert MODEL_PATH.convert("starter", None, None) == STARTER
    assert MODEL_PATH.convert("own.safetensors", None, None) == Path("own.safetensors")
