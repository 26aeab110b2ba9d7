"""What `geopipe chips` says of folders, files, models and options that cannot be."""

import json
import os
import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from scene_world import FROZEN, NAMES, TINY, run, write_chips

from geopipe.checkpoint import Checkpoint
from geopipe.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: [shutil.rmtree(root / n) for n in NAMES[1:]], "one class, field"),
        (lambda root: shutil.copy(root / "water" / "water0.png", root), "lie in"),
        (lambda root: (root / "water" / "bad.png").write_bytes(b""), "bad.png"),
        (lambda root: [p.unlink() for p in (root / "tank").glob("*[1-7].*")], "tank (1)"),
        (
            lambda root: Image.fromarray(np.zeros((9, 9), np.uint16)).save(root / "tank" / "w.png"),
            "uint16",
        ),
        (lambda root: [shutil.rmtree(root / n) for n in NAMES], "no image"),
    ],
)
def test_bad_folders_are_told_in_one_line_and_nothing_is_left(spoil, says, tmp_path):
    root = write_chips(tmp_path / "c")
    spoil(root)
    done = run("evaluate", root, "-o", tmp_path / "e", *FROZEN, "--folds", 2, ok=False)
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_odd_names_are_names(tmp_path):
    names = ("Städte | $x$", "日本", 'a,b"c', "é\u0301")
    root = write_chips(tmp_path / "c", each=4, names=names)
    out = tmp_path / "e"
    run("evaluate", root, "-o", out, *FROZEN, "--folds", 2)
    told = json.loads((out / "evaluation.json").read_text())
    assert "日本" in told["classes"]
    assert set(pd.read_csv(out / "predictions.csv")["class"]) == set(told["classes"])
    run("train", root, "-o", tmp_path / "m", *FROZEN)
    assert "日本" in Checkpoint.load(tmp_path / "m").scheme.names


def test_files_whose_names_are_no_text_are_named_all_the_same(tmp_path):
    root = write_chips(tmp_path / "c", each=4)
    odd = os.fsdecode(b"odd\xff.png")
    (root / "water" / "water0.png").rename(root / "water" / odd)
    words = [root, "-o", tmp_path / "e", *FROZEN, "--folds", 2]
    assert "odd\ufffd.png is no text" in run("evaluate", *words, ok=False).stderr
    run("evaluate", *words, "--skip-bad")
    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert [why for why in told["left_out"] if "odd\ufffd.png is no text" in why]


def test_folders_of_one_name_are_one_class_and_their_chips_stay_apart(chips, tmp_path):
    for half in ("north", "south"):
        shutil.copytree(chips, tmp_path / "c" / half)
    run("evaluate", tmp_path / "c", "-o", tmp_path / "e", *FROZEN, "--folds", 2)
    found = pd.read_csv(tmp_path / "e" / "predictions.csv")
    assert len(set(found["chip"])) == 64
    assert set(found["class"]) == set(NAMES)


def test_more_classes_than_a_map_can_hold_are_told(tmp_path):
    for n in range(256):
        (tmp_path / "c" / f"{n:03d}").mkdir(parents=True)
        (tmp_path / "c" / f"{n:03d}" / "x.png").write_bytes(b"")
    said = run("train", tmp_path / "c", "-o", tmp_path / "m", *FROZEN, ok=False)
    assert "256 classes - at most 255" in said.stderr


def test_a_bad_chip_is_left_out_where_that_is_asked_for(model, chips, tmp_path):
    root = tmp_path / "c"
    shutil.copytree(chips, root)
    (root / "water" / "bad.png").write_bytes(b"no image")
    assert "bad.png" in run("classify", model, root, "-o", tmp_path / "t", ok=False).stderr
    run("classify", model, root, "-o", tmp_path / "t", "--skip-bad", "--device", "cpu")
    assert len(pd.read_csv(tmp_path / "t" / "chips.csv")) == 32


def test_other_bands_and_other_models_are_refused(
    model, chips, mosaic, tmp_path, make_raster, make_model
):
    five = make_raster(np.zeros((5, 40, 40), np.uint8), crs="EPSG:32631")
    (tmp_path / "five").mkdir()
    shutil.move(five, tmp_path / "five" / "x.tif")
    said = run("classify", model, tmp_path / "five", "-o", tmp_path / "t", ok=False).stderr
    assert "5 bands, 3 are needed" in said
    said = run("classify", model, mosaic[0], "-o", tmp_path / "t", "--bands", "1", ok=False)
    assert "takes 3 bands" in said.stderr
    make_model().save(tmp_path / "p.model")
    said = run("classify", tmp_path / "p.model", chips, "-o", tmp_path / "t", ok=False)
    assert "does not classify scenes" in said.stderr
    said = run("classify", tmp_path / "no.model", chips, "-o", tmp_path / "t", ok=False)
    assert "geopipe chips train" in said.stderr
    assert not (tmp_path / "t").exists()


def test_a_model_without_metres_asks_for_them(chips, mosaic, tmp_path):
    out = tmp_path / "m.model"
    run("train", chips, "-o", out, *FROZEN)
    said = run("classify", out, mosaic[0], "-o", tmp_path / "t", ok=False).stderr
    assert "give its --gsd" in said
    run("classify", out, mosaic[0], "-o", tmp_path / "t", "--gsd", 2, "--device", "cpu")
    assert len(gpd.read_file(tmp_path / "t" / "chips.gpkg")) == 30
    said = CliRunner().invoke(main, ["map", str(mosaic[0]), str(out), "-o", str(tmp_path / "u")])
    assert (said.exit_code, "geopipe chips classify" in said.stderr) == (1, True)
    assert not (tmp_path / "u").exists()
    stored = Checkpoint.load(out).gsd  # a number that nobody told is not taken for theirs
    run("classify", out, mosaic[0], "-o", tmp_path / "v", "--gsd", stored, "--device", "cpu")


def test_a_scene_of_16_bits_is_refused(model, tmp_path, make_raster):
    path = make_raster(np.full((3, 80, 80), 900, np.uint16), crs="EPSG:32631")
    said = run("classify", model, path, "-o", tmp_path / "m", ok=False).stderr
    assert "uint16" in said
    assert "-ot Byte" in said
    assert not (tmp_path / "m").exists()


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
    done = run(
        "train",
        chips,
        "-o",
        tmp_path / "m",
        *TINY,
        "--model",
        "finetune:alexnet",
        *words,
        ok=False,
    )
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
