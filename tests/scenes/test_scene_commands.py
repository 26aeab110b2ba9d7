"""From a folder of chips to a table, a map, an evaluation and heat maps, by what users type."""

import json
import os
import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from PIL import Image
from scene_world import NAMES, PX, ground, write_chips

from geopipe.checkpoint import Checkpoint
from geopipe.cli.main import main
from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster.cog import read_scheme
from geopipe.workflow.scenes import classify, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ["--weights", "random:0", "--side", "64", "--device", "cpu"]
FROZEN = ["--model", "finetune:alexnet", "--frozen", *TINY]


def run(*words, ok=True):
    done = CliRunner().invoke(main, ["scenes", *map(str, words)])
    assert (done.exit_code == 0) == ok, done.output
    return done


@pytest.fixture(scope="module")
def model(chips, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "land.model"
    run("train", chips, "--out", out, *FROZEN, "--gsd", 2)
    assert [p.name for p in out.parent.iterdir()] == ["land.model"]
    return out


@pytest.fixture(scope="module")
def mapped(model, mosaic, tmp_path_factory):
    out = tmp_path_factory.mktemp("map") / "map"
    done = run("classify", model, mosaic[0], "--out", out, "--device", "cpu", "--json")
    return out, json.loads(done.stdout)


def test_a_model_says_what_it_was_made_from(model):
    made = Checkpoint.load(model)
    assert made.scheme.names == NAMES
    assert made.gsd == 2
    net = made.net.coarse
    assert (net.chip, net.stride, net.side) == (PX, PX, 64)
    assert made.provenance["chips"] == dict.fromkeys(NAMES, 8)
    assert len(made.provenance["pretrained"]["alexnet"]) == 64


@pytest.mark.parametrize("kind", ["fusion:alexnet+alexnet.pool5", "ddrl-am", "finetune:alexnet"])
def test_every_kind_is_trained_saved_and_used(kind, chips, tmp_path):
    out = tmp_path / "m.model"
    done = run("train", chips, "--out", out, "--model", kind, *TINY, "--epochs", 1, "--batch", 8,
               "--hold-out", 0.25, "--json")  # fmt: skip
    assert json.loads(done.stdout)["held_out"]["pixels"] == 8
    table = tmp_path / "t"
    run("classify", out, chips / "tank", "--out", table, "--device", "cpu")
    found = pd.read_csv(table / "chips.csv")
    columns = found[[f"p:{n}" for n in NAMES]]
    assert np.allclose(columns.sum(axis=1), 1, atol=1e-3)
    assert (columns.idxmax(axis=1).str[2:] == found["class"]).all()
    run("heat", out, chips / "tank" / "tank0.png", "--out", tmp_path / "h", "--device", "cpu")
    assert Image.open(tmp_path / "h" / "tank0.png").size == (PX, PX)


def test_a_model_is_replaced_where_that_is_asked_for(chips, tmp_path):
    out = tmp_path / "m.model"
    out.write_bytes(b"an older one")
    assert "exists already" in run("train", chips, "--out", out, *FROZEN, ok=False).stderr
    assert out.read_bytes() == b"an older one"
    run("train", chips, "--out", out, *FROZEN, "--overwrite")
    assert Checkpoint.load(out).scheme.names == NAMES


def test_a_training_in_the_cache_is_not_taken_for_another_model(chips, tmp_path):
    words = ["--model", "finetune:alexnet", *TINY, "--epochs", 1, "--cache", tmp_path / "cache"]
    run("train", chips, "--out", tmp_path / "a", *words, "--gsd", 2)
    renamed = tmp_path / "other"
    shutil.copytree(chips, renamed)
    (renamed / "field").rename(renamed / "acre")  # still the first
    run("train", renamed, "--out", tmp_path / "b", *words, "--gsd", 3)
    assert len(list((tmp_path / "cache").glob("trained-*"))) == 1
    made = Checkpoint.load(tmp_path / "b")
    assert (made.gsd, made.scheme.names[0]) == (3, "acre")


# -- chips


def test_a_folder_of_chips_becomes_a_table(model, chips, tmp_path):
    out = tmp_path / "t"
    done = run("classify", model, chips, "--out", out, "--device", "cpu", "--json")
    assert sum(json.loads(done.stdout)["classes"].values()) == 32
    table, places = pd.read_csv(out / "chips.csv"), gpd.read_parquet(out / "chips.parquet")
    assert (table["class"] == table["folder"]).mean() > 0.9
    assert list(table["chip"]) == list(places["chip"])
    assert places.geometry.isna().all()
    assert sorted(p.name for p in out.iterdir()) == ["chips.csv", "chips.parquet"]
    assert "exists already" in run("classify", model, chips, "--out", out, ok=False).stderr
    run("classify", model, chips, "--out", out, "--device", "cpu", "--overwrite")


def test_chips_with_a_place_have_their_outline(model, tmp_path, make_raster):
    rng = np.random.default_rng(5)
    for n in range(3):
        pixels = ground(n, rng).transpose(2, 0, 1)
        place = Affine(2, 0, 500_000 + 80 * n, 0, -2, 4_700_000)
        make_raster(pixels, f"{n}.tif", crs="EPSG:32631", transform=place)
    Image.fromarray(ground(0, rng)).save(tmp_path / "z.png")
    run("classify", model, tmp_path, "--out", tmp_path / "t", "--device", "cpu")
    table = gpd.read_parquet(tmp_path / "t" / "chips.parquet")
    assert table.crs.to_epsg() == 32631
    assert table.geometry[1].bounds == (500_080, 4_700_000 - 80, 500_160, 4_700_000)
    assert table.geometry.isna().tolist() == [False, False, False, True]


# -- a scene


def test_a_scene_becomes_a_bundle_and_its_chips(mapped, mosaic):
    out, said = mapped
    _, ids = mosaic
    assert {"classes.tif", "classes.qml", "confidence.tif", "item.json", "chips.gpkg"} <= {
        p.name for p in out.iterdir()
    }
    assert read_scheme(out / "classes.tif").names == NAMES
    assets = json.loads((out / "item.json").read_text())["assets"]
    assert assets["chips"]["href"] == "./chips.gpkg"
    chips = gpd.read_file(out / "chips.gpkg")
    assert len(chips) == 30 == sum(said["classes"].values())
    assert (chips["class_id"].to_numpy() == ids.ravel()).mean() > 0.9
    assert chips.crs.to_epsg() == 32631
    assert chips.total_bounds.tolist() == [
        500_000,
        4_700_000 - 2 * 188,
        500_000 + 2 * 230,
        4_700_000,
    ]


def test_the_raster_equals_the_table_of_chips(mapped, model):
    out, _ = mapped
    chips = gpd.read_file(out / "chips.gpkg")
    with rasterio.open(out / "classes.tif") as a, rasterio.open(out / "confidence.tif") as b:
        ids, sure = a.read(1), b.read(1)
    drawn = np.full_like(ids, 255)
    for chip in chips.itertuples():
        rows = slice(chip.row * PX, chip.row * PX + PX)
        cols = slice(chip.column * PX, chip.column * PX + PX)
        drawn[rows, cols] = chip.class_id
        assert (ids[rows, cols] == chip.class_id).all()
        assert np.allclose(sure[rows, cols] / 250, chip.probability, atol=0.003)
        assert chip.valid == 1
    assert np.array_equal(drawn, ids)


def test_a_map_agrees_with_the_chips_cut_from_the_scene(mapped, model, mosaic, tmp_path):
    with rasterio.open(mosaic[0]) as src:
        pixels = src.read()
    (tmp_path / "cut").mkdir()
    for row in range(4):
        for col in range(5):
            cut = pixels[(slice(None), *Window(row * PX, col * PX, PX, PX).slices)]
            Image.fromarray(cut.transpose(1, 2, 0)).save(tmp_path / "cut" / f"{row}-{col}.png")
    run("classify", model, tmp_path / "cut", "--out", tmp_path / "t", "--device", "cpu")
    table = pd.read_csv(tmp_path / "t" / "chips.csv").set_index("chip")
    chips = gpd.read_file(mapped[0] / "chips.gpkg").set_index(["row", "column"])
    for name, chip in table.iterrows():
        row, col = map(int, name[:-4].split("-"))
        same = chips.loc[(row, col)]
        # The map's chips are not rounded to whole values after they are resized.
        assert abs(same["probability"] - chip["probability"]) < 0.05
        assert same["class"] == chip["class"] or chip["probability"] < 0.55


def test_other_steps_and_metres_are_for_use(model, mosaic, tmp_path):
    done = run("classify", model, mosaic[0], "--out", tmp_path / "a", "--step", 20, "--device",
               "cpu", "--json")  # fmt: skip
    assert sum(json.loads(done.stdout)["classes"].values()) == 10 * 12
    run("classify", model, mosaic[0], "--out", tmp_path / "b", "--gsd", 3, "--device", "cpu")
    assert len(gpd.read_file(tmp_path / "b" / "chips.gpkg")) == 4 * 4
    wrong = run("classify", model, mosaic[0], "--out", tmp_path / "c", "--step", 39, ok=False)
    assert "chips of 40 px every 39 px" in wrong.stderr
    assert not (tmp_path / "c").exists()


def test_killed_before_its_chips_are_written_there_is_no_map_and_it_goes_on(
    mapped, model, mosaic, tmp_path, monkeypatch
):
    out = tmp_path / "map"
    write = classify.write_footprints

    def dying(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(classify, "write_footprints", dying)
    run("classify", model, mosaic[0], "--out", out, "--device", "cpu", ok=False)
    assert not out.exists()
    monkeypatch.setattr(classify, "write_footprints", write)
    run("classify", model, mosaic[0], "--out", out, "--device", "cpu")
    ours, theirs = (gpd.read_file(p / "chips.gpkg") for p in (out, mapped[0]))
    assert ours.equals(theirs)
    again = run("classify", model, mosaic[0], "--out", out, "--device", "cpu", ok=False)
    assert "exists already" in again.stderr


def test_of_holes_nothing_is_told(model, tmp_path, make_raster):
    rng = np.random.default_rng(2)
    pixels = np.tile(ground(1, rng).transpose(2, 0, 1), (1, 2, 2))
    valid = np.ones(pixels.shape[1:], bool)
    valid[:PX, :PX] = False
    valid[PX : PX + 30, :PX] = False
    place = Affine(2, 0, 500_000, 0, -2, 4_700_000)
    path = make_raster(pixels, mask=valid, crs="EPSG:32631", transform=place)
    run("classify", model, path, "--out", tmp_path / "m", "--device", "cpu")
    chips = gpd.read_file(tmp_path / "m" / "chips.gpkg")
    assert list(zip(chips["row"], chips["column"], strict=True)) == [(0, 1), (1, 0), (1, 1)]
    assert chips["valid"].tolist() == [1, 0.25, 1]


# -- evaluation


def test_an_evaluation_tells_what_was_right(chips, tmp_path):
    out = tmp_path / "e"
    done = run("evaluate", chips, "--out", out, *FROZEN, "--folds", 4, "--json")
    said = json.loads(done.stdout)
    told = json.loads((out / "evaluation.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == [
        "classes.png", "confusion.png", "evaluation.json", "evaluation.md", "predictions.csv",
        "tsne.png",
    ]  # fmt: skip
    found = pd.read_csv(out / "predictions.csv")
    right = (found["class"] == found["predicted"]).groupby(found["fold"]).mean()
    assert np.allclose(right, told["overall_accuracy"]["folds"])
    assert said["overall_accuracy"] == pytest.approx(right.mean())
    assert told["overall_accuracy"]["deviation"] == pytest.approx(right.std(ddof=1))
    assert sorted(found["chip"]) == sorted(set(found["chip"]))
    assert np.sum(told["matrix"]) == 32
    from sklearn.metrics import confusion_matrix

    assert told["matrix"] == confusion_matrix(found["class"], found["predicted"]).tolist()
    page = (out / "evaluation.md").read_text()
    assert f"{100 * right.mean():.2f} ±" in page
    assert list(tmp_path.iterdir()) == [out]


def test_killed_it_goes_on_with_its_fold_and_gives_the_same(chips, tmp_path, monkeypatch):
    words = ["evaluate", chips, *FROZEN, "--share", 0.75, "--repeats", 3, "--no-tsne"]
    run(*words, "--out", tmp_path / "whole")
    judge, done = evaluate.predict, []

    def dying(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return judge(*args)

    monkeypatch.setattr(evaluate, "predict", dying)
    run(*words, "--out", tmp_path / "e", ok=False)
    assert not (tmp_path / "e").exists()
    assert len(list((tmp_path / "e.work").glob("fold-*"))) == 2
    done[:] = [1]
    run(*words, "--out", tmp_path / "e")
    assert len(done) == 2  # only the last split was computed
    for name in ("evaluation.json", "predictions.csv"):
        assert (tmp_path / "e" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "e.work").exists()


def test_an_error_costs_no_fold_that_is_done(chips, tmp_path, monkeypatch, caplog):
    words = ["evaluate", chips, "--out", tmp_path / "e", *FROZEN, "--folds", 2, "--no-tsne"]
    judge, done = evaluate.predict, []

    def failing(*args):
        if done:
            raise SceneError("cannot write", "is the disk full?")
        done.append(1)
        return judge(*args)

    monkeypatch.setattr(evaluate, "predict", failing)
    assert "cannot write" in run(*words, ok=False).stderr
    assert "e.work keeps what is done" in caplog.text
    monkeypatch.setattr(evaluate, "predict", lambda *args: done.append(2) or judge(*args))
    run(*words)
    assert done == [1, 2]  # the first fold was there


def test_with_a_center_loss_features_are_drawn_without_it_too(chips, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(evaluate, "scatter", lambda path, points, *_: drawn.update(points))
    run("evaluate", chips, "--out", tmp_path / "e", "--model", "finetune:alexnet", *TINY,
        "--share", 0.5, "--repeats", 1, "--epochs", 1, "--center-loss", 0.5)  # fmt: skip
    assert list(drawn) == ["without center loss", "with center loss"]
    assert drawn["with center loss"].shape == (16, 2)


# -- heat maps


def test_heat_lies_over_the_chip_and_in_its_place(model, chips, tmp_path, make_raster):
    rng = np.random.default_rng(5)
    place = Affine(2, 0, 500_000, 0, -2, 4_700_000)
    placed = make_raster(
        ground(2, rng).transpose(2, 0, 1), "tank0.tif", crs="EPSG:32631", transform=place
    )
    out = tmp_path / "h"
    plain = chips / "tank" / "tank0.png"
    done = run("heat", model, plain, placed, "--out", out, "--class", "tank", "--device", "cpu")
    assert done.stdout.count("tank ") == 2
    rasters = list(out.glob("*.tif"))
    assert len(rasters) == 1
    assert len(list(out.glob("*.png"))) == 2
    with rasterio.open(rasters[0]) as src:
        assert (src.crs.to_epsg(), src.transform, src.shape) == (32631, place, (PX, PX))
        heat = src.read(1)
    assert heat.min() >= 0
    assert 0 < heat.max() <= 1


# -- bad input


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: [shutil.rmtree(root / n) for n in NAMES[1:]], "one class, field"),
        (lambda root: shutil.copy(root / "water" / "water0.png", root), "lie in"),
        (lambda root: (root / "water" / "bad.png").write_bytes(b""), "bad.png"),
        (lambda root: [p.unlink() for p in (root / "tank").glob("*[1-7].*")], "tank (1)"),
        (lambda root: Image.fromarray(np.zeros((9, 9), np.uint16)).save(root / "tank" / "w.png"),
         "uint16"),
        (lambda root: [shutil.rmtree(root / n) for n in NAMES], "no image"),
    ],
)  # fmt: skip
def test_bad_folders_are_told_in_one_line_and_nothing_is_left(spoil, says, tmp_path):
    root = write_chips(tmp_path / "c")
    spoil(root)
    done = run("evaluate", root, "--out", tmp_path / "e", *FROZEN, "--folds", 2, ok=False)
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_odd_names_are_names(tmp_path):
    names = ("Städte | $x$", "日本", 'a,b"c', "é\u0301")
    root = write_chips(tmp_path / "c", each=4, names=names)
    out = tmp_path / "e"
    run("evaluate", root, "--out", out, *FROZEN, "--folds", 2)
    told = json.loads((out / "evaluation.json").read_text())
    assert "日本" in told["classes"]
    assert set(pd.read_csv(out / "predictions.csv")["class"]) == set(told["classes"])
    run("train", root, "--out", tmp_path / "m", *FROZEN)
    assert "日本" in Checkpoint.load(tmp_path / "m").scheme.names


def test_files_whose_names_are_no_text_are_named_all_the_same(tmp_path):
    root = write_chips(tmp_path / "c", each=4)
    odd = os.fsdecode(b"odd\xff.png")
    (root / "water" / "water0.png").rename(root / "water" / odd)
    words = [root, "--out", tmp_path / "e", *FROZEN, "--folds", 2]
    assert "odd\ufffd.png is no text" in run("evaluate", *words, ok=False).stderr
    run("evaluate", *words, "--skip-bad")
    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert [why for why in told["left_out"] if "odd\ufffd.png is no text" in why]


def test_folders_of_one_name_are_one_class_and_their_chips_stay_apart(chips, tmp_path):
    for half in ("north", "south"):
        shutil.copytree(chips, tmp_path / "c" / half)
    run("evaluate", tmp_path / "c", "--out", tmp_path / "e", *FROZEN, "--folds", 2)
    found = pd.read_csv(tmp_path / "e" / "predictions.csv")
    assert len(set(found["chip"])) == 64
    assert set(found["class"]) == set(NAMES)


def test_more_classes_than_a_map_can_hold_are_told(tmp_path):
    for n in range(256):
        (tmp_path / "c" / f"{n:03d}").mkdir(parents=True)
        (tmp_path / "c" / f"{n:03d}" / "x.png").write_bytes(b"")
    said = run("train", tmp_path / "c", "--out", tmp_path / "m", *FROZEN, ok=False)
    assert "256 classes - at most 255" in said.stderr


def test_a_bad_chip_is_left_out_where_that_is_asked_for(model, chips, tmp_path):
    root = tmp_path / "c"
    shutil.copytree(chips, root)
    (root / "water" / "bad.png").write_bytes(b"no image")
    assert "bad.png" in run("classify", model, root, "--out", tmp_path / "t", ok=False).stderr
    run("classify", model, root, "--out", tmp_path / "t", "--skip-bad", "--device", "cpu")
    assert len(pd.read_csv(tmp_path / "t" / "chips.csv")) == 32


def test_other_bands_and_other_models_are_refused(model, chips, mosaic, tmp_path, make_raster,
                                                  make_model):  # fmt: skip
    five = make_raster(np.zeros((5, 40, 40), np.uint8), crs="EPSG:32631")
    (tmp_path / "five").mkdir()
    shutil.move(five, tmp_path / "five" / "x.tif")
    said = run("classify", model, tmp_path / "five", "--out", tmp_path / "t", ok=False).stderr
    assert "5 bands, 3 are needed" in said
    said = run("classify", model, mosaic[0], "--out", tmp_path / "t", "--bands", "1", ok=False)
    assert "takes 3 bands" in said.stderr
    make_model().save(tmp_path / "p.model")
    said = run("classify", tmp_path / "p.model", chips, "--out", tmp_path / "t", ok=False)
    assert "does not classify scenes" in said.stderr
    said = run("classify", tmp_path / "no.model", chips, "--out", tmp_path / "t", ok=False)
    assert "geopipe scenes train" in said.stderr
    assert not (tmp_path / "t").exists()


def test_a_model_without_metres_asks_for_them(chips, mosaic, tmp_path):
    out = tmp_path / "m.model"
    run("train", chips, "--out", out, *FROZEN)
    said = run("classify", out, mosaic[0], "--out", tmp_path / "t", ok=False).stderr
    assert "give --gsd" in said
    run("classify", out, mosaic[0], "--out", tmp_path / "t", "--gsd", 2, "--device", "cpu")
    assert len(gpd.read_file(tmp_path / "t" / "chips.gpkg")) == 30


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "fusion:alexnet"], "finetune:resnet18"),
        (["--weights", "nothing.pth"], "nothing.pth"),
        (["--weights", "vgg16=random:0"], "has no such"),
        (["--model", "ddrl-am", "--frozen"], "cannot stay frozen"),
        (["--frozen", "--attention", "true"], "cannot stay frozen"),
        (["--flat"], "--flat is for ddrl-am"),
        (["--weights", "random:0", "--weights", "random:1"], "NET=SOURCE"),
        (["--model", "ddrl-am:googlenet"], "gives no such"),
        (["--step", 300], "every 300 px"),
        (["--pretrained-lr", -1], "nothing negative"),
    ],
)
def test_wrong_options_are_told_in_one_line(words, says, chips, tmp_path):
    done = run("train", chips, "--out", tmp_path / "m", *TINY, "--model", "finetune:alexnet",
               *words, ok=False)  # fmt: skip
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_repeats_are_of_random_splits(chips, tmp_path):
    done = run("evaluate", chips, "--out", tmp_path / "e", *FROZEN, "--repeats", 3, ok=False)
    assert done.exit_code == 2
    assert "--repeats is for --share" in done.stderr
