"""The whole chain on tiny tiles: it runs once, goes on where it was, and says what is wrong."""

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
import torch
from tiny_place import LEFT, TOP, draw_place, fingerprints

from geopipe.checkpoint import Checkpoint
from geopipe.classes import load_scheme
from geopipe.errors import ConfigError, GeopipeError, LabelError, SceneError
from geopipe.workflow import sources
from geopipe.workflow.run import plan_workflow, run_workflow
from geopipe.workflow.schema import LabelledScene, SceneSettings, load_workflow
from geopipe.workflow.sources import label_files, scene_files

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = [
    "labels-train",
    "labels-enhance",
    "labels-test",
    "base",
    "refinement",
    "map-test",
    "evaluation",
]


def run_in(folder, **settings):
    """Run the workflow in `folder` with ``table__key=value``; returns its outcome."""
    overrides = {k.replace("__", "."): str(v) for k, v in settings.items()}
    return run_workflow(load_workflow(folder / "tiny.toml", overrides))


@pytest.fixture
def tiles(drawn, tmp_path):
    """A copy of the drawn tiles."""
    return Path(shutil.copytree(drawn, tmp_path / "tiles"))


@pytest.fixture
def run(tiles):
    return partial(run_in, tiles)


@pytest.fixture(scope="module")
def kept(drawn, tmp_path_factory, one_thread):
    """Tiles in which the workflow was run, and a copy of them."""
    folder, copy = (tmp_path_factory.mktemp("kept") / n for n in ("tiles", "copy"))
    shutil.copytree(drawn, folder)
    run_in(folder)
    shutil.copytree(folder, copy)
    return folder, copy


@pytest.fixture(scope="module")
def finished(kept):
    """``made/`` of an uninterrupted run, only to look at."""
    return kept[1] / "made"


@pytest.fixture
def made(kept):
    """``made/`` of that run where it ran (records hold whole paths), each test's own."""
    folder, copy = kept
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    return folder / "made"


def step_runs(made):
    """Step -> when its record was written."""
    return {p.stem: p.stat().st_mtime_ns for p in (made / ".steps").glob("*.json")}


def outputs(made):
    """Fingerprints of everything but the report, which is written by every run."""
    return {k: v for k, v in fingerprints(made).items() if "/report/" not in k}


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
from geopipe.workflow import sources
from geopipe.workflow.run import plan_workflow, run_workflow
from geopipe.workflow.schema import LabelledScene, SceneSettings, load_workflow
from geopipe.workflow.sources import label_files, scene_files

torch.set_num_threads(1)
fit.SAVE_EVERY_S, fit.RECORD_EVERY = -1.0, 1
saved, (workflow, name, left) = fit._save, sys.argv[1:]

def save_and_die(net, optimizer, path, *rest):
    global left
    saved(net, optimizer, path, *rest)
    if name in path.name:
        left = int(left) - 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

fit._save = save_and_die
run_workflow(load_workflow(Path(workflow)))
"""


@pytest.mark.parametrize(("name", "steps"), [("base", 2), ("refined", 3)])
def test_a_killed_training_goes_on_to_the_same_model(run, tiles, finished, name, steps):
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(tiles / "tiny.toml"), name, str(steps)],
        capture_output=True,
        check=False,
    )
    made = tiles / "made"
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (made / f"{name}.safetensors.resume").exists()
    assert not (made / f"{name}.safetensors").exists()
    run()
    assert json.loads((made / f"{name}.json").read_text())["resumed_at"] == steps
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
    assert "outlines are blunt" in caplog.text
    report = json.loads(outcome.report.with_suffix(".json").read_text())
    assert "remains unknown" in " ".join(report["summary"])
    assert report["metrics"] == {}
    assert sorted(step_runs(tiles / "made")) == ["base", "labels-train", "map-train"]


def test_without_enhancement_the_test_judges_the_coarse_net(run, tiles):
    without(tiles, "enhance")
    outcome = run()
    assert len(outcome.mean_iou) == 1
    report = json.loads(outcome.report.with_suffix(".json").read_text())
    assert list(report["metrics"]) == ["CNN"]


def test_a_u_net_that_is_fine_tuned_is_judged_before_and_after(run):
    outcome = run(base__net="unet", base__steps="4", refinement__kind="finetune")
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


def test_the_map_that_is_evaluated_is_the_one_that_is_delivered(run, finished):
    outcome = run(map__min_area="60")
    evaluated = outcome.model.parent / "evaluation" / "classes-2.tif"
    arrays = []
    for path in (evaluated, outcome.maps[0] / "classes.tif", finished / "map/test/classes.tif"):
        with rasterio.open(path) as src:
            arrays.append(src.read(1))
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert (arrays[0] != arrays[2]).any(), "areas below 60 m2 are gone"


def test_without_a_test_the_refined_net_maps(run, tiles):
    without(tiles, "test")
    outcome = run(map__scores="true")
    assert outcome.mean_iou == ()
    assert (outcome.maps[0] / "scores.tif").is_file()


def test_several_scenes_are_mapped_each_into_its_folder(run, tiles):
    two = f"['{tiles}/test.tif', '{tiles}/enhance.tif']"
    outcome = run(map__scenes=two)
    assert [p.name for p in outcome.maps] == ["test", "enhance"]
    assert all((p / "classes.tif").is_file() for p in outcome.maps)


def test_two_scenes_of_one_name_are_refused(run, tiles):
    (tiles / "sub").mkdir()
    shutil.copy(tiles / "test.tif", tiles / "sub/test.tif")
    two = f"['{tiles}/test.tif', '{tiles}/sub/test.tif']"
    with pytest.raises(ConfigError, match=r"two scenes to map are called 'test'"):
        run(map__scenes=two)
    assert not (tiles / "made").exists()


# -- what is told before hours are spent


def test_a_test_region_that_is_trained_on_is_refused(run, tiles):
    scene, _ = draw_place(tiles, "near", (170, 150), east=50, seed=2)
    with pytest.raises(ConfigError, match=r"% of the \[test\] region is part of \[train\] too"):
        run(test__scene=scene, test__labels=tiles / "near.gpkg")
    copy = shutil.copy(tiles / "enhance.tif", tiles / "twin.tif")
    with pytest.raises(ConfigError, match=r"100 % of the \[test\] region is part of \[enhance\]"):
        run(test__scene=copy, test__labels=tiles / "enhance.gpkg")
    assert not (tiles / "made").exists()


def areas(tiles, **boxes):
    """Polygons in metres east and south of the corner."""
    for name, (left, top, right, bottom) in boxes.items():
        box = shapely.box(LEFT + left, TOP - bottom, LEFT + right, TOP - top)
        frame = gpd.GeoDataFrame(geometry=[box], crs="EPSG:2154").to_crs("EPSG:4326")
        frame.to_file(tiles / f"{name}.geojson")


def test_one_scene_trains_and_tests_in_areas_that_are_apart(run, tiles):
    draw_place(tiles, "wide", (180, 400))
    areas(tiles, west=(0, 0, 100, 90), east=(110, 0, 200, 90), middle=(90, 0, 130, 90))
    scene = {"scene": tiles / "wide.tif", "labels": tiles / "wide.gpkg"}
    settings = {f"{t}__{k}": v for t in ("train", "test") for k, v in scene.items()}
    settings |= {"train__area": tiles / "west.geojson", "test__area": tiles / "east.geojson"}
    outcome = run(**settings)
    assert len(outcome.mean_iou) == 3
    with rasterio.open(tiles / "made/labels/test.tif") as src:
        ids = src.read(1)
    assert (ids[:, :218] == 255).all()
    assert (ids[:, 222:398] != 255).all()
    settings["test__area"] = tiles / "middle.geojson"
    with pytest.raises(ConfigError, match=r"25 % of the \[test\] region is part of \[train\]"):
        run(**settings)


def test_a_training_scene_at_the_other_end_of_the_earth_is_apart(run, tiles):
    with rasterio.open(tiles / "train.tif") as src:
        data, profile = src.read(), src.profile
    far = {**profile, "crs": "EPSG:32719"}  # Chile
    far["transform"] = rasterio.transform.from_origin(300_000, 6_200_000, 0.5, 0.5)
    with rasterio.open(tiles / "far.tif", "w", **far) as out:
        out.write(data)
    box = shapely.box(300_010, 6_199_930, 300_030, 6_199_960)
    line = shapely.LineString([(300_000, 6_199_990), (300_090, 6_199_990)])
    frame = gpd.GeoDataFrame(
        {"class": ["building", "road"]}, geometry=[box, line], crs="EPSG:32719"
    )
    frame.to_file(tiles / "far.gpkg")
    outcome = run(train__scene=tiles / "far.tif", train__labels=tiles / "far.gpkg")
    assert len(outcome.mean_iou) == 3


def test_a_class_without_a_label_is_named(run, tiles):
    frame = gpd.read_file(tiles / "train.gpkg")
    frame[frame["building"].notna()].to_file(tiles / "houses.gpkg")
    with pytest.raises(
        LabelError,
        match=r"the train labels .*houses.gpkg have no pixel of class "
        r"road on .*train.tif",
    ) as caught:
        run(train__labels=tiles / "houses.gpkg")
    assert "a class scheme without it" in caught.value.hint
    assert not (tiles / "made/base.safetensors").exists()
    outcome = run(
        train__labels=tiles / "houses.gpkg",
        enhance__labels=tiles / "enhance.gpkg",
        classes="buildings",
    )
    assert len(outcome.mean_iou) == 3


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"train__scene": "none.tif"}, SceneError, "there is no file .*none.tif"),
        ({"map__scenes": "none.tif"}, SceneError, "there is no file .*none.tif"),
        ({"enhance__bands": "[1]"}, SceneError, r"enhance.tif gives 1 bands, the training .* 3"),
        ({"map__bands": "[1, 2]"}, SceneError, r"test.tif gives 2 bands, the training .* 3"),
        ({"device": "cuda:7"}, ConfigError, "no device cuda:7"),
        ({"classes": "nonsense"}, ConfigError, "no class scheme 'nonsense'"),
        ({"test__bands": "[1, 2, 9]"}, SceneError, "bands 1 to 3, not 9"),
        ({"map__tile_size": 300}, GeopipeError, "a tile size of 300 is not a multiple of 256"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(run, tiles, settings, kind, text):
    with pytest.raises(kind, match=text):
        run(**settings)
    assert not (tiles / "made").exists()


@pytest.mark.parametrize("role", ["train", "enhance"])
def test_a_scene_smaller_than_a_patch_is_told(run, tiles, role):
    scene, osm = draw_place(tiles, "small", (120, 200), east=500)
    with pytest.raises(SceneError, match=rf"the {role} scene .* 60 x 100 px .* patch of 64 x 64"):
        run(**{f"{role}__scene": scene, f"{role}__labels": osm})
    assert not (tiles / "made").exists()


def test_labels_that_are_not_there_are_told_before_training(run, tiles):
    with pytest.raises(LabelError, match=r"there is no file .*none.gpkg"):
        run(test__labels="none.gpkg")
    assert not (tiles / "made/base.safetensors").exists()


def test_a_step_that_writes_at_a_place_that_cannot_be(run, tiles):
    (tiles / "file").write_text("")
    with pytest.raises(SceneError, match="cannot write into"):
        run(out=tiles / "file" / "made")


def test_an_out_folder_with_files_of_ones_own_is_refused(run, tiles):
    mine = tiles / "home"
    (mine / "labels").mkdir(parents=True)
    (mine / "labels/train.tif").write_text("drawn by hand")
    with pytest.raises(ConfigError, match="holds files that no workflow made"):
        run(out=mine)
    assert (mine / "labels/train.tif").read_text() == "drawn by hand"


def test_the_source_of_a_vrt_is_an_input(tiles):
    source = tiles / "train.tif"
    vrt = tiles / "train.vrt"
    rasterio.shutil.copy(str(source), str(vrt), driver="VRT")
    files = scene_files(SceneSettings(scene=str(vrt)))
    assert {vrt.resolve(), source.resolve()} <= {f.resolve() for f in files}


def test_what_belongs_to_a_shapefile_is_an_input(tiles):
    for suffix in (".shp", ".dbf", ".prj"):
        (tiles / f"labels{suffix}").touch()
    choice = LabelledScene(scene=str(tiles / "train.tif"), labels=tiles / "labels.shp")
    names = {f.name for f in label_files(choice, load_scheme("buildings-roads"))}
    assert names == {"labels.shp", "labels.dbf", "labels.prj"}


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


# -- what a run would do


def test_a_plan_names_the_steps_and_writes_nothing(tiles):
    before = fingerprints(tiles)
    plan = plan_workflow(load_workflow(tiles / "tiny.toml"))
    assert plan.steps == tuple((name, False) for name in STEPS)
    assert plan.estimate is None  # a few steps are not worth measuring
    assert fingerprints(tiles) == before


def test_a_plan_knows_what_is_unchanged(made):
    plan = plan_workflow(load_workflow(made.parent / "tiny.toml", {"map.vectors": "true"}))
    assert dict(plan.steps) == {name: name != "map-test" for name in STEPS}


def test_labels_of_every_role_are_opened_before_any_is_aligned(run, tiles, monkeypatch):
    (tiles / "enhance.gpkg").write_bytes(b"nothing")
    monkeypatch.setattr(sources, "aligned", lambda *_: pytest.fail("aligned before"))
    with pytest.raises(LabelError, match="enhance"):
        run()


def test_scenes_that_cannot_be_read_are_left_out_where_that_is_allowed(tiles):
    scenes = f'["{tiles / "test.tif"}", "{tiles / "gone.tif"}"]'
    with pytest.raises(SceneError, match=r"gone\.tif"):
        plan_workflow(load_workflow(tiles / "tiny.toml", {"map.scenes": scenes}))
    settings = {"map.scenes": scenes, "map.skip_bad": "true"}
    plan = plan_workflow(load_workflow(tiles / "tiny.toml", settings))
    assert [name for name, _ in plan.steps if name.startswith("map-")] == ["map-test"]
    assert list(plan.left_out) == [str(tiles / "gone.tif")]
    none = {"map.scenes": f'["{tiles / "gone.tif"}"]', "map.skip_bad": "true"}
    with pytest.raises(SceneError, match="no scene is left"):
        plan_workflow(load_workflow(tiles / "tiny.toml", none))


def test_options_of_map_are_keys(tiles):
    settings = {"map.ram": "4GB", "map.threads": "3", "map.orthogonalize": "false"}
    chosen = load_workflow(tiles / "tiny.toml", settings).map
    assert (chosen.ram, chosen.threads, chosen.orthogonalize) == (4000, 3, False)
    with pytest.raises(ConfigError, match="4GB or 800MB"):
        load_workflow(tiles / "tiny.toml", {"map.ram": "much"})
