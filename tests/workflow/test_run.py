"""The whole chain on tiny tiles: it runs once, goes on where it was, and says what is wrong."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from run_world import STEPS, outputs, run_in, step_runs

from geopipe.checkpoint import Checkpoint
from geopipe.errors import ConfigError, LabelError
from geopipe.workflow import sources

pytestmark = pytest.mark.usefixtures("one_thread")


# -- a whole run


def test_a_run_leaves_models_maps_and_a_report(finished):
    assert sorted(step_runs(finished)) == sorted(STEPS)
    assert not list(finished.rglob("*.part")) + list(finished.rglob("*.resume"))
    assert not list(finished.rglob("*.tmp.tif"))
    model = Checkpoint.load(finished / "refined.safetensors")
    assert (model.net.iterations, model.gsd, model.dtype) == (2, 1.0, "uint8")
    assert model.provenance["base"]["steps"] == 4
    assert "OpenStreetMap" in model.provenance["credit"]
    report = json.loads((finished / "report/report.json").read_text())
    assert report["title"] == "tiny"
    assert list(report["metrics"]) == ["CNN", "CNN+RNN"]
    assert len(report["iterations"]) == 3
    assert list(report["timings"]) == STEPS
    assert {c["title"].split(":")[0] for c in report["curves"]} == {
        "Training the base network",
        "Training the refinement",
    }


def test_the_map_is_the_one_that_is_judged(finished):
    with rasterio.open(finished / "map/test/classes.tif") as src:
        mapped = src.read(1)
    with rasterio.open(finished / "evaluation/classes-2.tif") as src:
        np.testing.assert_array_equal(src.read(1), mapped)


def test_labels_are_on_the_scenes_pixels_and_ignore_its_hole(finished, drawn):
    with rasterio.open(finished / "labels/train.tif") as labels:
        with rasterio.open(drawn / "train.tif") as scene:
            assert (labels.shape, labels.transform) == (scene.shape, scene.transform)
        ids = labels.read(1)
    assert (ids[:24, :24] == 255).all()
    assert set(np.unique(ids)) == {0, 1, 2, 255}


def test_the_outcome_is_what_the_report_says(made):
    outcome = run_in(made.parent)
    report = json.loads((made / "report/report.json").read_text())
    assert outcome.maps == (made / "map/test",)
    assert outcome.model == made / "refined.safetensors"
    assert outcome.report == made / "report/report.html"
    np.testing.assert_allclose(
        outcome.mean_iou, [m["mean_iou"] for m in report["iterations"]], atol=1e-9
    )


def test_two_runs_give_the_same_bytes(run, tiles, finished):
    run()
    for name in (
        "base.safetensors",
        "refined.safetensors",
        "map/test/classes.tif",
        "labels/train.tif",
        "evaluation/classes-2.tif",
        "base.json",
    ):
        assert (tiles / "made" / name).read_bytes() == (finished / name).read_bytes(), name


# -- what runs again


def test_a_second_run_touches_nothing(made):
    before, when = outputs(made), step_runs(made)
    report = (made / "report/report.json").read_bytes()
    run_in(made.parent)
    assert outputs(made) == before
    assert step_runs(made) == when
    assert (made / "report/report.json").read_bytes() == report


def paint(tiles):
    with rasterio.open(tiles / "test.tif", "r+") as out:
        out.write(out.read() // 2 + 1)


def redraw(folder, name):
    """Take a house out of the labels of a tile."""
    frame = gpd.read_file(folder / f"{name}.gpkg")
    (folder / f"{name}.gpkg").unlink()
    frame.drop(frame.index[frame["building"].notna()][7]).to_file(folder / f"{name}.gpkg")


LATER = ["map-test", "evaluation"]

TEST_LABELS = ["labels-test", "evaluation"]


@pytest.mark.parametrize(
    ("settings", "change", "again"),
    [
        ({"report__closeups": 0}, None, []),
        ({"name": "other"}, None, []),
        ({"map__vectors": "true"}, None, ["map-test"]),
        ({"refinement__steps": 2}, None, ["refinement", *LATER]),
        ({"refinement__iterations": 1}, None, ["refinement", *LATER]),
        ({"base__lr": 0.02}, None, ["base", "refinement", *LATER]),
        ({"seed": 1}, None, ["base", "refinement", *LATER]),
        # No pixel has that value, so the same model comes out and what follows is current.
        ({"train__nodata": 7}, None, ["labels-train", "base"]),
        ({}, lambda t: (t / "made/base.safetensors").unlink(), ["base"]),
        ({}, lambda t: (t / "made/refined.json").write_text("{}"), ["refinement"]),
        ({}, lambda t: (t / "made/map/test/classes.qml").unlink(), ["map-test"]),
        ({}, lambda t: (t / "made/labels/train.tif").write_bytes(b""), ["labels-train"]),
        ({}, lambda t: (t / "made/evaluation/classes-0.tif").unlink(), ["evaluation"]),
        ({}, lambda t: shutil.copy(t / "enhance.gpkg", t / "test.gpkg"), None),
        ({}, paint, ["labels-test", *LATER]),
        ({}, lambda t: redraw(t, "train"), ["labels-train", "base", "refinement", *LATER]),
        ({}, lambda t: redraw(t, "enhance"), ["labels-enhance", "refinement", *LATER]),
        ({}, lambda t: redraw(t, "test"), ["labels-test", "evaluation"]),
    ],
)
def test_only_what_depends_on_a_change_runs_again(made, settings, change, again):
    if change:
        change(made.parent)
    before = step_runs(made)
    if again is None:  # the labels of another place
        with pytest.raises(LabelError):
            run_in(made.parent)
        after = step_runs(made)
        assert set(before) == set(after)  # refused before a step begins
        again = []
    else:
        run_in(made.parent, **settings)
        after = step_runs(made)
        assert set(after) == set(before)
    assert sorted(k for k in after if after[k] != before[k]) == sorted(again)


# -- a killed run goes on

KILL = """
import os, signal, sys
from pathlib import Path
import torch
from geopipe.learn import loop as fit
from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import load_workflow

torch.set_num_threads(1)
fit.SAVE_EVERY_S, fit.RECORD_EVERY = -1.0, 1
saved, jobs = fit._save, sys.argv[1:]
torch.optim.SGD([torch.zeros(1)])  # loads what every training loads

def train(workflow, name, left):
    def save_and_die(net, optimizer, path, *rest):
        nonlocal left
        saved(net, optimizer, path, *rest)
        if name in path.name:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    fit._save = save_and_die
    run_workflow(load_workflow(Path(workflow)))

while jobs:
    workflow, name, left, *jobs = jobs
    pid = os.fork()
    if not pid:
        train(workflow, name, int(left))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
KILLED_AT = {"base": 2, "refined": 3}
"""Training -> the step after which it is killed."""


@pytest.fixture(scope="module")
def killed(drawn, tmp_path_factory):
    """Training -> tiles whose workflow was killed in it."""
    folder, places, words = tmp_path_factory.mktemp("killed"), {}, []
    for name, step in KILLED_AT.items():
        places[name] = Path(shutil.copytree(drawn, folder / name))
        words += [places[name] / "tiny.toml", name, step]
    done = subprocess.run(
        [sys.executable, "-c", KILL, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(places), done.stderr
    return places


@pytest.mark.parametrize("name", KILLED_AT)
def test_a_killed_training_goes_on_to_the_same_model(killed, finished, name):
    made = killed[name] / "made"
    assert (made / f"{name}.safetensors.resume").exists()
    assert not (made / f"{name}.safetensors").exists()
    run_in(killed[name])
    assert json.loads((made / f"{name}.json").read_text())["resumed_at"] == KILLED_AT[name]
    assert not list(made.rglob("*.resume"))
    for model in ("base", "refined"):
        file = f"{model}.safetensors"
        assert (made / file).read_bytes() == (finished / file).read_bytes()
    maps = [(m / "map/test/classes.tif").read_bytes() for m in (made, finished)]
    assert maps[0] == maps[1]


# -- smaller workflows


def without(tiles, *tables):
    """Take tables out of the workflow file."""
    text = (tiles / "tiny.toml").read_text()
    parts = text.split("\n[")
    kept = [p for p in parts if p.split("]")[0] not in tables]
    (tiles / "tiny.toml").write_text("\n[".join(kept))


def test_without_enhancement_and_test_the_coarse_net_maps(run, tiles, caplog):
    without(tiles, "enhance", "test", "map")
    outcome = run()
    assert outcome.model == tiles / "made/base.safetensors"
    assert outcome.maps == (tiles / "made/map/train",)
    assert outcome.mean_iou == ()
    assert "outlines are less exact" in caplog.text
    report = json.loads(outcome.report.with_suffix(".json").read_text())
    assert "remains unknown" in " ".join(report["summary"])
    assert report["metrics"] == {}
    assert sorted(step_runs(tiles / "made")) == ["base", "labels-train", "map-train"]


def test_without_enhancement_the_test_judges_the_coarse_net(made):
    without(made.parent, "enhance")
    outcome = run_in(made.parent)
    assert len(outcome.mean_iou) == 1
    report = json.loads(outcome.report.with_suffix(".json").read_text())
    assert list(report["metrics"]) == ["CNN"]


def test_a_u_net_that_is_fine_tuned_is_judged_before_and_after(run):
    few = {f"{part}__{k}": 2 for part in ("base", "refinement") for k in ("steps", "batch")}
    outcome = run(base__net="unet", refinement__kind="finetune", **few)
    report = json.loads(outcome.report.with_suffix(".json").read_text())
    assert list(report["metrics"]) == ["U-Net", "U-Net fine-tuned"]
    assert report["facts"]["training labels"] == "train.gpkg, aligned to the image"
    assert len(outcome.mean_iou) == 2
    before, after = (
        Checkpoint.load(outcome.model.with_name(n))
        for n in ("base.safetensors", "refined.safetensors")
    )
    assert after.net.postprocessor is None
    changed = [
        not torch.equal(a, b)
        for a, b in zip(before.net.parameters(), after.net.parameters(), strict=True)
    ]
    assert all(changed)
    assert (before.temperature, after.provenance["calibration"]["temperature"]) == (
        1,
        pytest.approx(after.temperature, abs=1e-4),
    )
    assert after.temperature != 1
    assert sum(report["reliability"]["pixels"]) == np.sum(
        report["metrics"]["U-Net fine-tuned"]["matrix"]
    )
    assert "Expected calibration error" in outcome.report.with_suffix(".md").read_text()
    assert not [p for p in (outcome.model.parent / ".steps").iterdir() if p.is_dir()]
    with rasterio.open(outcome.maps[0] / "classes.tif") as src:
        mapped = src.read(1)
    with rasterio.open(outcome.model.parent / "evaluation/classes-1.tif") as src:
        np.testing.assert_array_equal(src.read(1), mapped)


def test_auto_works_on_the_pixels_of_a_scene_of_half_a_metre(run, monkeypatch, caplog):
    monkeypatch.setattr(sources, "_COARSE_M", 0.4)
    once = {"steps": "1", "batch": "1"}
    chosen = {f"{part}__{k}": v for part in ("base", "refinement") for k, v in once.items()}
    outcome = run(gsd="auto", base__net="auto", refinement__kind="auto", **chosen)
    assert "pixels of 0.5 m: houses" in caplog.text
    model = Checkpoint.load(outcome.model)
    assert model.gsd == pytest.approx(0.5, rel=0.01)
    assert model.net.base.architecture == {"net": "lite-unet", "cores": True}
    assert (outcome.model.parent / "labels/train-cores.tif").is_file()
    assert not (outcome.model.parent / "labels/test-cores.tif").exists()
    assert model.provenance["finetuning"]["steps"] == 1
    with rasterio.open(outcome.maps[0] / "classes.tif") as src:
        assert src.shape == (170, 150)


def test_the_map_that_is_evaluated_is_the_one_that_is_delivered(made, finished):
    outcome = run_in(made.parent, map__min_area="60")
    evaluated = outcome.model.parent / "evaluation" / "classes-2.tif"
    arrays = []
    for path in (evaluated, outcome.maps[0] / "classes.tif", finished / "map/test/classes.tif"):
        with rasterio.open(path) as src:
            arrays.append(src.read(1))
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert (arrays[0] != arrays[2]).any(), "areas below 60 m2 are gone"


def test_without_a_test_the_refined_net_maps(made):
    without(made.parent, "test")
    outcome = run_in(made.parent, map__scores="true")
    assert outcome.mean_iou == ()
    assert (outcome.maps[0] / "scores.tif").is_file()


def test_several_scenes_are_mapped_each_into_its_folder(made):
    tiles = made.parent
    two = f"['{tiles}/test.tif', '{tiles}/enhance.tif']"
    outcome = run_in(tiles, map__scenes=two)
    assert [p.name for p in outcome.maps] == ["test", "enhance"]
    assert all((p / "classes.tif").is_file() for p in outcome.maps)


def test_two_scenes_of_one_name_are_refused(run, tiles):
    (tiles / "sub").mkdir()
    shutil.copy(tiles / "test.tif", tiles / "sub/test.tif")
    two = f"['{tiles}/test.tif', '{tiles}/sub/test.tif']"
    with pytest.raises(ConfigError, match=r"two scenes to map are called 'test'"):
        run(map__scenes=two)
    assert not (tiles / "made").exists()


def test_files_of_a_delivery_make_one_map(kept, made):
    folder, halves = kept[0], []
    with rasterio.open(folder / "test.tif") as src:
        for name, col, width in (("left", 0, 70), ("right", 70, src.width - 70)):
            window = rasterio.windows.Window(col, 0, width, src.height)
            place = {"width": width, "transform": src.window_transform(window)}
            halves.append(str(folder / f"{name}.tif"))
            with rasterio.open(halves[-1], "w", **(src.profile | place)) as out:
                out.write(src.read(window=window))
    try:
        result = run_in(folder, map__scenes=json.dumps(halves), map__mosaic="true")
        assert result.maps == (made / "map" / "mosaic",)
        maps = [rasterio.open(made / "map" / n / "classes.tif") for n in ("test", "mosaic")]
        with maps[0], maps[1]:
            np.testing.assert_array_equal(*(m.read() for m in maps))
        before = step_runs(made)
        run_in(folder, map__scenes=json.dumps(halves), map__mosaic="true")
        assert step_runs(made) == before
        with rasterio.open(halves[1], "r+") as src:
            src.write(255 - src.read())
        run_in(folder, map__scenes=json.dumps(halves), map__mosaic="true")
        changed = {k for k, v in step_runs(made).items() if v != before[k]}
        assert changed == {"map-mosaic"}
    finally:
        for half in halves:
            Path(half).unlink()
