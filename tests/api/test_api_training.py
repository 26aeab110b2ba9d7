"""`train`, `open_labels`, `align_labels`: the models and labels that the command line makes."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

import geopipe as gp
from geopipe.checkpoint import file_hash
from geopipe.cli import main
from geopipe.config import parse
from geopipe.errors import ConfigError, LabelError, OutputError, SceneError
from geopipe.workflow.run import train_workflow
from geopipe.workflow.schema import Workflow

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = {
    "steps": 2,
    "refinement_steps": 2,
    "batch": 2,
    "net": "cnn",
    "gsd": 1.0,
    "device": "cpu",
}


def ran(*words):
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def trained(town, tmp_path_factory):
    accurate = (gp.open_scene(town / "enhance.tif"), gp.open_labels(town / "enhance.gpkg"))
    out = tmp_path_factory.mktemp("trained") / "model.safetensors"
    return gp.train(town / "train.tif", town / "train.gpkg", accurate=accurate, out=out, **FEW)


def test_the_model_is_a_workflows_byte_by_byte(town, trained, tmp_path):
    few = {"steps": 2, "batch": 2}
    workflow = {
        "name": "as a file says",
        "out": tmp_path / "out",
        "device": "cpu",
        "train": {"scene": str(town / "train.tif"), "labels": town / "train.gpkg", "align": False},
        "enhance": {"scene": str(town / "enhance.tif"), "labels": town / "enhance.gpkg"},
        "base": few,
        "refinement": few,
    }
    made = train_workflow(parse(workflow, Workflow, "test"))
    assert file_hash(made) == trained.sha256
    assert trained.checkpoint.net.iterations == 5
    names = {trained.path.name, f"{trained.path.stem}.stac.json"}
    assert {p.name for p in trained.path.parent.iterdir()} == names


def test_without_an_accurate_tile_and_a_file_there_is_a_base_network(town, tmp_path):
    model = gp.train(town / "train.tif", town / "train.gpkg", **FEW)
    assert model.checkpoint.net.iterations == 0
    assert "not saved yet" in repr(model)
    temporary = model.path
    assert temporary.is_file()
    saved = model.save(tmp_path / "m.safetensors")
    del model
    assert not temporary.exists()
    assert gp.predict(saved, town / "test.tif").shape == (160, 170)


def test_settings_that_cannot_be(town, trained):
    scene, labels = town / "train.tif", town / "train.gpkg"
    with pytest.raises(OutputError, match="exists already"):
        gp.train(scene, labels, out=trained.path)
    with pytest.raises(ConfigError, match=r"base.steps: .*greater than 0"):
        gp.train(scene, labels, steps=0)
    with pytest.raises(ConfigError, match=r"base\.net"):
        gp.train(scene, labels, net="resnet")
    other = gp.open_labels(labels, "buildings")
    with pytest.raises(ConfigError, match="open both with the same classes"):
        gp.train(scene, labels, accurate=(town / "enhance.tif", other))
    with pytest.raises(SceneError, match="less than one training patch"):
        gp.train(scene, labels, gsd=4.0)


def test_labels_on_the_scenes_grid_are_the_command_lines(town, tmp_path):
    scene = gp.open_scene(town / "train.tif")
    labels = gp.open_labels(town / "train.gpkg", ignore_buffer=1.0)
    array = labels.to_xarray(scene)
    assert array.chunks is not None
    out = tmp_path / "l.tif"
    ran("labels", scene.path, labels.path, "-o", out, "--ignore-buffer", 1)
    with rasterio.open(out) as src:
        np.testing.assert_array_equal(array, src.read(1))
    assert set(np.unique(array)) == {0, 1, 2, 255}
    assert array.rio.nodata == 255
    assert array.attrs["flag_meanings"] == "background building road"


def test_aligned_labels_are_the_command_lines(town, tmp_path):
    """And live as long as they are used, where they were given no name."""
    scene, labels = town / "train.tif", gp.open_labels(town / "train.gpkg")
    aligned = gp.align_labels(labels, scene, max_shift=2)
    path = aligned.path
    ran("labels", "align", scene, labels.path, "-o", tmp_path / "cli.gpkg", "--max-shift", 2)
    assert gpd.read_file(path).equals(gpd.read_file(tmp_path / "cli.gpkg"))
    assert "aligned, not saved" in repr(aligned)
    del aligned
    assert not path.exists()
    with pytest.raises(OutputError, match=r"exists already .*set `overwrite`"):
        gp.align_labels(labels, scene, tmp_path / "cli.gpkg")


def test_labels_that_cannot_be(town, tmp_path):
    with pytest.raises(LabelError, match="there is no file"):
        gp.open_labels(tmp_path / "none.gpkg")
    with pytest.raises(LabelError, match="there is no file"):
        gp.open_labels(town / "train.gpkg", area=tmp_path / "none.gpkg")
    with pytest.raises(LabelError, match="ignore_buffer=90"):
        gp.open_labels(town / "train.gpkg", ignore_buffer=90)
    with pytest.raises(ConfigError, match="no class scheme 'houses'"):
        gp.open_labels(town / "train.gpkg", "houses")
    with pytest.raises(LabelError, match="does not overlap the scene"):
        gp.open_labels(town / "train.gpkg").to_xarray(town / "test.tif")
    with pytest.raises(LabelError, match="max_shift=90"):
        gp.align_labels(gp.open_labels(town / "train.gpkg"), town / "train.tif", max_shift=90)


def test_labels_say_what_they_hold(town):
    labels = gp.open_labels(town / "train.gpkg", ignore_buffer=1.5, layer="osm")
    count = len(gpd.read_file(town / "train.gpkg"))
    for part in (
        f"{count} features in layer osm",
        "0 background, 1 building, 2 road",
        "1.5 m along outlines",
    ):
        assert part in repr(labels)
        assert part in labels._repr_html_()
    assert "asked for a scene" in repr(gp.open_labels("fetch"))
