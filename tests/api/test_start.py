"""Trainings that go on from a model, and trainings on several scenes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner

import geopipe as gp
from geopipe.checkpoint import LABEL_AREAS, file_hash
from geopipe.checkpoint.starter import STARTER
from geopipe.classes import ClassScheme
from geopipe.cli import main
from geopipe.errors import CheckpointError, ConfigError, LabelError
from geopipe.learn.start import StartModel
from geopipe.workflow.schema import load_workflow, parse_workflow
from geopipe.workflow.sources import base_network_plan, fine_tuning_plan, open_scene, start_model

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = {"batch": 2, "schedule": "paper", "device": "cpu"}
COLOURS = {"background": "#000000", "building": "#ff0000", "road": "#00ff00", "water": "#0000ff"}


def scheme_of(*names):
    classes = [{"name": n, "color": COLOURS[n]} for n in names]
    return ClassScheme.from_dict({"name": "test", "classes": classes}, "test")


def mapped(model, scene):
    """Names of the classes on the scene, (h, w)."""
    return np.append(model.classes, "nodata")[np.minimum(gp.predict(model, scene), 3)]


def test_no_steps_leave_the_map_as_it_is(town, model):
    made = gp.train(town / "train.tif", town / "train.gpkg", start=model, steps=0, **FEW)
    before = gp.load_model(model.path)
    assert (made.gsd, made.checkpoint.mean) == (before.gsd, before.checkpoint.mean)
    base = replace(before.checkpoint, net=type(before.checkpoint.net)(before.checkpoint.net.base))
    base.save(model.path.with_name("base.safetensors"))
    kept = gp.load_model(model.path.with_name("base.safetensors"))
    expected, after = (
        gp.predict(m, town / "test.tif", output="scores").values for m in (kept, made)
    )
    np.testing.assert_array_equal(after, expected)
    assert len(np.unique(expected)) > 50
    origin = made.provenance["derived_from"]
    assert origin["sha256"] == file_hash(model.path)
    assert origin["classes_kept"] == ["background", "building", "road"]
    assert "OpenStreetMap" in made.provenance["credit"]


def test_classes_in_another_order_are_the_same_map(town, model, tmp_path):
    """The names of the labels' scheme decide; here they are those of a file."""
    file = tmp_path / "other.toml"
    rules = {
        "building": '[[classes.rules]]\ngeometry = "polygon"\ntags = {building = ["*"]}',
        "road": '[[classes.rules]]\ngeometry = "line"\ntags = {highway = ["*"]}',
        "background": "",
    }
    parts = [
        f'[[classes]]\nname = "{n}"\ncolor = "{COLOURS[n]}"\n{rules[n]}'
        for n in ("background", "road", "building")
    ]
    file.write_text('name = "other"\n' + "\n".join(parts))
    labels = gp.open_labels(town / "train.gpkg", file)
    made = gp.train(town / "train.tif", labels, start=model, steps=0, **FEW)
    same = gp.train(town / "train.tif", town / "train.gpkg", start=model, steps=0, **FEW)
    assert made.classes == ("background", "road", "building")
    there, expected = mapped(made, town / "test.tif"), mapped(same, town / "test.tif")
    assert (there == expected).mean() > 0.9999  # sums of other order may break a tie
    assert len(np.unique(expected)) >= 3


def test_a_new_class_starts_anew_and_the_others_keep_their_scores(model, caplog):
    start = StartModel.open(model.path)
    net = start.base_network(scheme_of("background", "water", "road"), seed=1)
    image = torch.randn(1, 3, 100, 100)
    with torch.no_grad():
        before, after = start.model.net.base(image), net(image)
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]])
    assert not torch.allclose(after[:, 1], before[:, 1], atol=0.01)
    assert "start anew: water" in caplog.text
    again = start.base_network(scheme_of("background", "water", "road"), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_areas_of_classes_that_are_kept_are_known(model, tmp_path):
    known = {LABEL_AREAS: {"building": 9.0, "road": 40.0}, "derived_from": {"sha256": "older"}}
    replace(model.checkpoint, provenance=known).save(tmp_path / "m.safetensors")
    told = StartModel.open(tmp_path / "m.safetensors").provenance(scheme_of("background", "road"))
    assert told[LABEL_AREAS] == {"road": 40.0}
    assert told["derived_from"]["derived_from"] == {"sha256": "older"}


def test_a_scene_in_other_units_is_normalised_by_its_own_values(model, caplog):
    start = StartModel.open(model.path)
    assert start.statistics("uint8") == (model.checkpoint.mean, model.checkpoint.std)
    assert start.statistics("uint16") is None
    assert "uint16" in caplog.text


def test_what_cannot_be_started_from(town, model, make_model, tmp_path):
    scene, labels = town / "train.tif", town / "train.gpkg"
    with pytest.raises(CheckpointError, match="has the base network cnn, the training asks for un"):
        gp.train(scene, labels, start=model, net="unet", **FEW)
    with pytest.raises(CheckpointError, match=r"takes 3 bands, .* gives 2"):
        gp.train(gp.open_scene(scene, bands=(1, 2)), labels, start=model, **FEW)
    with pytest.raises(CheckpointError, match="there is no model"):
        gp.train(scene, labels, start=tmp_path / "none.safetensors", **FEW)
    with pytest.raises(ConfigError, match="or a model to `start` from"):
        gp.train(scene, labels, steps=0, **FEW)


def starting(town, start="auto", net="lite-unet", schedule="short", gsd=0.5, classes="", **train):
    """A workflow, the model that it starts from, and the steps of its two trainings."""
    tables = {
        "name": "w",
        "out": "o",
        "gsd": gsd,
        "classes": str(classes or "buildings-roads"),
        "schedule": schedule,
        "train": {"scene": str(town / "train.tif"), "labels": "a", "start": start, **train},
        "enhance": {"scene": str(town / "enhance.tif"), "labels": "a", **train},
        "base": {"net": net},
        "refinement": {"kind": "finetune"},
    }
    w = parse_workflow(tables, "w")
    scene, tile = open_scene(w.train), open_scene(w.enhance)
    return start_model(w), base_network_plan(w, scene).steps, fine_tuning_plan(w, tile).steps


def test_a_lite_unet_goes_on_from_the_starter_model_where_it_suits(town, model, tmp_path):
    found, *steps = starting(town)
    assert (found.path, steps) == (STARTER, [300, 300])
    from_imagenet = (None, 400, 400)
    assert starting(town, bands=[1, 2]) == from_imagenet
    assert starting(town, gsd=1.0) == from_imagenet
    assert starting(town, start="imagenet") == from_imagenet
    with rasterio.open(town / "train.tif") as src:
        pixels, profile = src.read(), src.profile | {"dtype": "uint16"}
    with rasterio.open(tmp_path / "sixteen.tif", "w", **profile) as out:
        out.write(pixels.astype("uint16"))
    assert starting(town, scene=str(tmp_path / "sixteen.tif")) == from_imagenet
    water = tmp_path / "water.toml"
    rules = '[[classes.rules]]\ngeometry = "polygon"\ntags = {natural = ["water"]}\n'
    water.write_text(
        'name = "water"\n[[classes]]\nname = "background"\ncolor = "#000000"\n'
        f'[[classes]]\nname = "water"\ncolor = "#0000ff"\n{rules}'
    )
    assert starting(town, classes=water) == from_imagenet
    assert starting(town, net="unet") == (None, 600, 300)
    assert starting(town, schedule="paper") == (None, 200, 150)


def test_a_start_that_is_chosen_has_the_steps_of_its_schedule(town, model):
    assert starting(town, start="starter")[1:] == (300, 300)
    assert starting(town, start="starter", schedule="paper")[1:] == (200, 150)
    assert starting(town, start=model.path, net="cnn")[0].path == model.path
    with pytest.raises(ConfigError, match="only a lite-unet starts from weights of ImageNet"):
        starting(town, start="imagenet", net="cnn")
    with pytest.raises(ConfigError, match="start"):
        starting(town, start=5)


def test_a_default_start_is_credited_and_without_warnings(town, caplog):
    few = {"batch": 1, "steps": 1, "gsd": 0.6, "device": "cpu"}
    made = gp.train(town / "train.tif", town / "train.gpkg", **few)
    origin = made.provenance["derived_from"]
    assert origin["sha256"] == file_hash(STARTER)
    assert origin["classes_kept"] == ["background", "building"]
    assert "OpenAerialMap" in made.provenance["credit"]
    item = json.loads(made.path.with_suffix(".stac.json").read_text())["properties"]
    assert item["mlm:pretrained_source"].endswith(f"model of sha256 {origin['sha256']}")
    assert "starter" not in caplog.text  # nobody chose it: that roads start anew is no news
    other = gp.train(town / "train.tif", town / "train.gpkg", start="imagenet", **few)
    assert "derived_from" not in other.provenance
    chosen = StartModel.open(STARTER)
    chosen.base_network(scheme_of("background", "building", "road"), 0)
    assert "start anew: road" in caplog.text


def test_network_and_gsd_are_the_models_unless_set(town, model, make_model, tmp_path):
    replace(model.checkpoint, gsd=2.0).save(tmp_path / "m.safetensors")
    head = 'name = "w"\nout = "o"\nclasses = "buildings-roads"\n'
    rest = '[train]\nscene = "a.tif"\nlabels = "a.gpkg"\nstart = "m.safetensors"\n'
    file = tmp_path / "w.toml"

    def loaded(gsd="", net=""):
        file.write_text(head + gsd + rest + net)
        w = load_workflow(file)
        return w.gsd, w.base.net, w.refinement.kind

    auto = '[base]\nnet = "auto"\n[refinement]\nkind = "auto"'
    assert loaded() == (2.0, "cnn", "rnn")
    assert loaded('gsd = "auto"\n', auto) == (2.0, "cnn", "rnn")
    assert loaded("gsd = 0.5\n", auto) == (0.5, "cnn", "rnn")


def test_the_command_line_goes_on_from_a_model(town, model, tmp_path):
    out = tmp_path / "m.safetensors"
    words = ["train", town / "train.tif", town / "train.gpkg", "-o", out, "--from", model.path]
    words += ["--no-align", "--steps", 1, "--schedule", "paper", "--device", "cpu", "--json"]
    words += ["--also", town / "enhance.tif", town / "enhance.gpkg"]
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["model"] == str(out)
    made = gp.load_model(out)
    assert made.provenance["derived_from"]["sha256"] == model.sha256
    counts = [
        np.bincount(gp.open_labels(town / f"{n}.gpkg").to_xarray(town / f"{n}.tif").values.ravel())
        for n in ("train", "enhance")
    ]
    labelled = made.provenance["base"]["labelled_pixels"]
    assert sum(labelled) == pytest.approx(sum(c[:255].sum() for c in counts) / 4, rel=0.05)
    refused = CliRunner().invoke(main, [str(w) for w in [*words[:4], model.path, *words[5:]]])
    assert refused.exit_code == 1
    assert "is what it would be made from" in refused.stderr


def test_a_class_may_be_missing_in_one_scene_of_several_but_not_in_all(town, tmp_path):
    import geopandas as gpd

    roadless = tmp_path / "houses.gpkg"
    frame = gpd.read_file(town / "enhance.gpkg")
    frame[frame.building.notna()].to_file(roadless, layer="osm")
    pair = (town / "enhance.tif", roadless)
    made = gp.train(
        town / "train.tif", town / "train.gpkg", also=[pair], net="cnn", gsd=1.0, steps=1, **FEW
    )
    assert min(made.provenance["base"]["labelled_pixels"]) > 0
    with pytest.raises(LabelError, match=r"no pixel of class road"):
        gp.train(*pair, also=[pair], net="cnn", gsd=1.0, steps=1, **FEW)
    other = gp.open_labels(town / "enhance.gpkg", "buildings")
    with pytest.raises(ConfigError, match="with the same classes"):
        gp.train(town / "train.tif", town / "train.gpkg", also=[(town / "enhance.tif", other)])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [('"a.gpkg"', ["a.gpkg", "a.gpkg"]), ('["a.gpkg", "b.gpkg"]', ["a.gpkg", "b.gpkg"])],
)
def test_scenes_are_short_for_also(tmp_path, labels, expected):
    head = 'name = "w"\nout = "o"\n[train]\nscenes = ["a.tif", "b.tif"]\nnodata = 0\n'
    (tmp_path / "w.toml").write_text(f"{head}labels = {labels}\n")
    w = load_workflow(tmp_path / "w.toml")
    parts = w.train.parts
    assert [p.scene for p in parts] == [str(tmp_path / n) for n in ("a.tif", "b.tif")]
    assert [p.labels for p in parts] == [tmp_path / n for n in expected]
    assert {(p.nodata, p.align) for p in parts} == {(0, True)}
    long = '[[train.also]]\nscene = "b.tif"\nlabels = "b.gpkg"\nalign = false'
    short = head.replace('scenes = ["a.tif", "b.tif"]', 'scene = "a.tif"')
    (tmp_path / "w.toml").write_text(f'{short}labels = "a.gpkg"\n{long}')
    (other,) = load_workflow(tmp_path / "w.toml").train.also
    assert (other.scene, other.align) == (str(tmp_path / "b.tif"), False)
    (tmp_path / "w.toml").write_text(f'{head}labels = ["a.gpkg"]\n')
    with pytest.raises(ConfigError, match="2 scenes and 1 labels"):
        load_workflow(tmp_path / "w.toml")
