"""geopipe train: the weights of a workflow, resumed where it stopped, bad input told first."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from geopipe.checkpoint import Checkpoint
from geopipe.cli import main
from geopipe.workflow import training_steps, workflow_steps
from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import Workflow, load_workflow

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ["--schedule", "paper", "--steps", 1, "--no-align", "--device", "cpu"]
TINY += ["--net", "cnn", "--gsd", 1]
WORKFLOW = """
name = "tiny"
out = "made"
device = "cpu"
schedule = "paper"
[train]
scene = "train.tif"
labels = "train.gpkg"
align = false # seconds less
[enhance]
scene = "enhance.tif"
labels = "enhance.gpkg"
[base]
steps = 1
[refinement]
steps = 1
"""


@pytest.fixture
def tiles(drawn, tmp_path, monkeypatch):
    """A copy of the drawn tiles, the working folder."""
    folder = Path(shutil.copytree(drawn, tmp_path / "tiles"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory, one_thread):
    """``made/`` of a workflow with the same settings."""
    folder = tmp_path_factory.mktemp("workflow") / "tiles"
    shutil.copytree(drawn, folder)
    (folder / "same.toml").write_text(WORKFLOW)
    run_workflow(load_workflow(folder / "same.toml"))
    return folder / "made"


def train(*words, labels="train.gpkg", code=0):
    line = ["train", "train.tif", labels, "-o", "m.safetensors", *words]
    done = CliRunner().invoke(main, [str(w) for w in line if w])
    assert done.exit_code == code, done.output
    return done


def accurate():
    return ["--tile", "enhance.tif", "--truth", "enhance.gpkg", "--refinement-steps", 1, *TINY]


def same_weights(path):
    """Asserts that ``m.safetensors`` has the weights of `path`; returns it."""
    model, same = Checkpoint.load(Path("m.safetensors")), Checkpoint.load(path)
    weights = model.net.state_dict()
    assert list(weights) == list(same.net.state_dict())
    for name, values in same.net.state_dict().items():
        assert torch.equal(weights[name], values), name
    return model


def test_the_model_is_the_one_of_the_workflow(tiles, finished):
    done = train(*accurate(), "--json")
    told = json.loads(done.stdout)
    assert told["model"] == "m.safetensors"
    assert told["classes"] == ["background", "building", "road"]
    assert same_weights(finished / "refined.safetensors").net.iterations == 5
    assert not Path("m.safetensors.work").exists()


def test_without_a_tile_it_is_the_base_network(tiles, finished, caplog):
    train(*TINY)
    assert "outlines are less exact" in caplog.text
    assert same_weights(finished / "base.safetensors").net.postprocessor is None


def test_a_training_that_was_stopped_goes_on(tiles, finished, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_steps, "train_refinement", stopped)
        train(*accurate(), code=130)
    assert not Path("m.safetensors").exists()
    assert Path("m.safetensors.work/base.safetensors").is_file()
    monkeypatch.setattr(training_steps, "train_base_network", None)  # not trained again
    train(*accurate())
    same_weights(finished / "refined.safetensors")
    assert not Path("m.safetensors.work").exists()


def test_every_option_reaches_the_workflow(tiles, drawn, monkeypatch, place):
    workflows = []

    def trained(workflow):
        workflows.append(workflow)
        return place.base

    monkeypatch.setattr("geopipe.workflow.train.train_workflow", trained)
    words = "--classes buildings --gsd 0.5 --net unet --refinement finetune --seed 3 --layer osm"
    words += " --max-shift 4 --ignore-buffer 1 --bands 3,2,1 --nodata 0 --area enhance.gpkg"
    train(*words.split(), "--tile", "enhance.tif", "--truth", "enhance.gpkg", "--steps", 7)
    train("--overwrite")
    asked, default = workflows
    assert (asked.classes, asked.gsd, asked.seed) == ("buildings", 0.5, 3)
    assert (asked.base.net, asked.base.steps) == ("unet", 7)
    assert (asked.refinement.kind, asked.refinement.steps) == ("finetune", None)
    scene = asked.train
    assert (scene.align, scene.max_shift, scene.ignore_buffer) == (True, 4, 1)
    assert (scene.layer, scene.area) == ("osm", Path("enhance.gpkg"))
    assert asked.enhance.scene == "enhance.tif"
    assert not asked.enhance.align
    for role in (scene, asked.enhance):
        assert (role.bands, role.nodata) == ((3, 2, 1), 0)
    plain = {"scene": "train.tif", "labels": "train.gpkg"}
    best = {"gsd": "auto", "base": {"net": "auto"}, "refinement": {"kind": "auto"}}
    usual = {"name": "training", "out": default.out, "train": plain, **best}
    assert default == Workflow.model_validate(usual), "the defaults are those of new-scene.toml"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "train.tif"], "train.tif is what it would be made from - give another name"),
        (["-o", "old"], "old exists already - give another name, or set --overwrite"),
        (["-o", "none/m"], "there is no folder none - make it first"),
        (["--tile", "none.tif", "--truth", "enhance.gpkg"], "there is no file none.tif"),
        (["--tile", "enhance.tif", "--truth", "no.gpkg"], "there is no file no.gpkg"),
        (["--area", "no.gpkg"], "there is no file no.gpkg"),
        (["--bands", "1,2,9"], "train.tif has bands 1 to 3, not 9"),
        (["--classes", "forests"], "no class scheme 'forests'"),
        (["--device", "tpu"], "device 'tpu' is not one of"),
        (["--schedule", "short", "--gsd", "4"], "less than one training patch"),
    ],
)
def test_bad_input_is_told_before_any_step(tiles, monkeypatch, words, says):
    Path("old").write_text("mine")
    before = sorted(tiles.rglob("*"))
    monkeypatch.setattr(workflow_steps, "run_step", None)
    done = train(*words, code=1)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tiles.rglob("*")) == before


def test_labels_that_do_not_fit_leave_nothing(tiles):
    before = sorted(tiles.rglob("*"))
    done = train(*TINY, labels="test.gpkg", code=1)
    assert "does not overlap the scene" in done.stderr
    assert sorted(tiles.rglob("*")) == before
