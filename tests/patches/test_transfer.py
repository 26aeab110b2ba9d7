"""From a place to another without labels of it, by the command that users type."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import rasterio
from patch_world import NAMES, QUICK, ground, run
from PIL import Image

from geopipe.checkpoint import Checkpoint


def in_four_bands(chips, root):
    """The chips as files of blue, green, red and infrared."""
    for path in chips.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)
        out = root / path.parent.name / f"{path.stem}.tif"
        out.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            out,
            "w",
            driver="GTiff",
            height=pixels.shape[1],
            width=pixels.shape[2],
            count=4,
            dtype="uint8",
            photometric="minisblack",
        ) as file:
            file.write(np.concatenate([pixels[::-1], 255 - pixels[:1]]))
    return root


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_of_chips_are_chosen_and_a_transfer_reads_them_so(transfer, chips, tmp_path):
    four, out = in_four_bands(chips, tmp_path / "four"), tmp_path / "m.model"
    assert "4 bands, 3" in run("patches", "train", four, "-o", out, *QUICK, ok=False).stderr
    words = [*QUICK, "--steps", 2, "--json"]
    done = run("patches", "train", four, "-o", out, *words, "--bands", "3,2,1")
    same = run("patches", "train", chips, "-o", tmp_path / "same.model", *words)
    assert json.loads(done.stdout)["held_out"] == json.loads(same.stdout)["held_out"]
    moved = transfer(out, four, chips, tmp_path / "n.model", "--json")
    assert json.loads(moved.stdout)["model"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Unlabelled chips of the same five kinds under another light."""
    root, rng = tmp_path_factory.mktemp("elsewhere"), np.random.default_rng(7)
    for number in range(20):
        image = ground(number % 5, (48, 48), rng).astype(float)
        Image.fromarray((image * 0.8 + 25).clip(0, 255).astype(np.uint8)).save(
            root / f"{number}.png"
        )
    return root


def carry(trained, chips, target, out, *words, cache=None, ok=True):
    words = [*words, "--cache", cache] if cache else words
    return run(
        "transfer",
        trained,
        "--source",
        chips,
        "--target",
        target,
        "-o",
        out,
        "--steps",
        3,
        "--threshold",
        0.3,
        "--neighbours",
        3,
        *words,
        ok=ok,
    )


@pytest.fixture(scope="module")
def transfer(tmp_path_factory):
    """`carry` that keeps features: what one test has computed serves the next ones."""
    return partial(carry, cache=tmp_path_factory.mktemp("features"))


def test_a_transfer_trains_or_keeps_the_model_and_says_why(trained, chips, elsewhere, tmp_path):
    out = tmp_path / "new.model"
    done = carry(trained[0], chips, elsewhere, out, "--json")
    said = json.loads(done.stdout)
    assert bool(said["reasons"]) == (said["trained"] == 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "new.model",
        "new.model.html",
        "new.model.json",
        "new.stac.json",
    ]
    sheet = (tmp_path / "new.model.html").read_text()
    assert all(name in sheet for name in NAMES)
    old, new = (Checkpoint.load(p).net.state_dict() for p in (trained[0], out))
    changed = [k for k in old if not np.array_equal(old[k].numpy(), new[k].numpy())]
    assert bool(changed) == bool(said["trained"])


def test_forced_it_trains_and_abstained_it_keeps(transfer, trained, chips, elsewhere, tmp_path):
    forced = transfer(trained[0], chips, elsewhere, tmp_path / "f.model", "--force", "--json")
    assert json.loads(forced.stdout)["trained"] == 1
    same = transfer(trained[0], chips, chips, tmp_path / "s.model", "--json")
    said = json.loads(same.stdout)
    assert said["trained"] == 0
    assert "and 0 kept samples are too few" in said["reasons"][0]
    (found,) = json.loads((tmp_path / "s.model.json").read_text())["rounds"]
    fates = found["samples"].values()
    assert sum(f["duplicate"] for f in fates) == sum(sum(f.values()) for f in fates) == 450
    kept = Checkpoint.load(tmp_path / "s.model").provenance["transfer"]
    assert kept["abstained"] == said["reasons"]
    assert (
        "No training: s.model is the old model, because:" in (tmp_path / "s.model.html").read_text()
    )
    words = transfer(trained[0], chips, chips, tmp_path / "s.model", "--overwrite").stdout
    assert "(weights as they were; --force trains all the same)" in words


def test_a_model_of_one_frozen_network_is_kept_unless_told(
    transfer, trained, chips, elsewhere, tmp_path
):
    model = Checkpoint.load(trained[0])
    made = {**model.provenance, "patches": {**model.provenance["patches"], "backbone_lr": 0.0}}
    frozen = tmp_path / "frozen.model"
    replace(model, provenance=made).save(frozen)
    kept = transfer(frozen, chips, elsewhere, tmp_path / "k.model", "--json")
    said = json.loads(kept.stdout)
    assert said["trained"] == 0
    assert "frozen features of one network" in said["reasons"][-1]
    words = ("--method", "align", "--force", "--json")
    aligned = transfer(frozen, chips, elsewhere, tmp_path / "a.model", *words)
    assert json.loads(aligned.stdout)["trained"] == 1
    old, new = (Checkpoint.load(p).net.state_dict() for p in (frozen, tmp_path / "a.model"))
    changed = {k for k in old if not np.array_equal(old[k].numpy(), new[k].numpy())}
    assert changed == {"base.head.weight", "base.head.bias"}


def test_a_small_target_is_told(transfer, trained, chips, elsewhere, tmp_path, caplog):
    (tmp_path / "t").mkdir()
    shutil.copy(elsewhere / "0.png", tmp_path / "t" / "0.png")
    done = transfer(trained[0], chips, tmp_path / "t", tmp_path / "s.model", "--json")
    assert json.loads(done.stdout)["trained"] == 0
    assert "the target is small: 9 cells of 16 px at 4 m" in caplog.text


def test_pseudo_labels_of_a_scene_are_labels_like_any(transfer, trained, chips, mosaic, tmp_path):
    path, ids = mosaic
    done = transfer(trained[0], chips, path, tmp_path / "n.model", "--json")
    (raster,) = json.loads(done.stdout)["pseudo_labels"]
    with rasterio.open(raster) as src:
        found = src.read(1)
        assert src.crs.to_epsg() == 32631
        assert found.shape == ids.shape
        to_pixels = ~src.transform
    sheet = (tmp_path / "n.model.html").read_text()
    shown = re.findall(rf"{path.name}: (\d+), (\d+)", sheet)
    assert shown
    for place in np.array(shown, float):
        middle = np.array(to_pixels * place)
        assert np.all((middle > 0) & (middle < found.shape[::-1]))
        assert np.abs(middle % 16 - 8).max() < 0.2, "the middle of a cell"
    known = found != 255
    assert known.any()
    assert not known.all()
    assert (found[known] == ids[known]).mean() > 0.8
    run(
        "patches",
        "train",
        path,
        "-o",
        tmp_path / "again.model",
        *QUICK,
        "--labels",
        raster,
        "--classes",
        "land-cover",
        "--steps",
        1,
        "--hold-out",
        0.3,
    )


def test_nothing_survives_the_threshold(transfer, trained, chips, elsewhere, tmp_path):
    out = tmp_path / "n.model"
    done = transfer(trained[0], chips, elsewhere, out, "--threshold", 1, "--force", ok=False)
    assert "no target sample is kept" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("bands", ["1", "1,2"])
def test_a_target_without_three_bands_is_refused(transfer, trained, chips, mosaic, tmp_path, bands):
    out = tmp_path / "n.model"
    done = transfer(trained[0], chips, mosaic[0], out, "--bands", bands, ok=False)
    assert "choose 3 with --bands" in done.stderr
    assert not out.exists()


def test_the_sheet_shows_what_was_learnt_last(
    transfer, trained, chips, elsewhere, tmp_path, monkeypatch
):
    from geopipe.learn.transfer import rounds

    real, caps = rounds.select, iter((12, 11))
    monkeypatch.setattr(
        rounds, "select", lambda *a: real(*a[:2], replace(a[2], cap=next(caps)), *a[3:])
    )
    out = tmp_path / "n.model"
    transfer(trained[0], chips, elsewhere, out, "--force", "--rounds", 2)
    told = json.loads((tmp_path / "n.model.json").read_text())["rounds"]
    kept = [sum(f["kept"] for f in r["samples"].values()) for r in told]
    assert kept[0] > kept[1]
    assert f"{kept[1]} of 180 target patches" in (tmp_path / "n.model.html").read_text()


def test_a_round_that_fails_leaves_nothing(
    transfer, trained, chips, elsewhere, tmp_path, monkeypatch
):
    from geopipe.errors import LabelError
    from geopipe.workflow import transfer as work

    real, calls = work.train_round, []

    def second_fails(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise LabelError("no more")
        return real(*arguments)

    monkeypatch.setattr(work, "train_round", second_fails)
    transfer(trained[0], chips, elsewhere, tmp_path / "n.model", "--force", "--rounds", 2, ok=False)
    assert len(calls) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_pixels_is_refused(transfer, chips, elsewhere, tmp_path):
    from geopipe.classes import load_scheme
    from geopipe.nets import SegmentationModel, build_base_network

    pixels = Checkpoint(
        SegmentationModel(build_base_network(3, 2).eval()),
        load_scheme("buildings"),
        (0.0,) * 3,
        (1.0,) * 3,
        "uint8",
    )
    pixels.save(tmp_path / "p.model")
    done = transfer(tmp_path / "p.model", chips, elsewhere, tmp_path / "n.model", ok=False)
    assert "is no classifier of patches" in done.stderr
