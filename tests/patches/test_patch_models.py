"""From a folder of chips to a map, and from a place to another, by the commands that users type."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from patch_world import NAMES, ground, untrained
from PIL import Image

from geopipe.checkpoint import Checkpoint
from geopipe.cli.main import main
from geopipe.raster.cog import read_scheme

QUICK = ["--weights", "random:0", "--sizes", "16,32", "--side", "32", "--gsd", "4"]


def run(*words, ok=True):
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert (done.exit_code == 0) == ok, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(chips, tmp_path_factory):
    """A model, and what its training said."""
    out = tmp_path_factory.mktemp("model") / "land.model"
    done = run(
        "patches",
        "train",
        chips,
        "-o",
        out,
        *QUICK,
        "--steps",
        25,
        "--no-segments",
        "--json",
        "--backbone-lr",
        "1e-3",
    )
    return out, json.loads(done.stdout)


def test_training_tells_how_good_it_is(trained):
    said = trained[1]["held_out"]
    assert set(said["sizes"]) == {"16", "32"}
    assert said["all"]["overall_accuracy"] > 0.8


def test_the_model_says_what_it_was_made_from(trained):
    model = Checkpoint.load(trained[0])
    assert model.scheme.names == NAMES
    made = model.provenance
    assert made["patches"]["steps"] == 25
    assert sum(made["patches"]["cells"].values()) == 50 * 9 * 0.8
    assert len(made["pretrained"]["sha256"]) == 64


def test_a_scene_is_mapped_into_a_bundle_with_its_confidence(trained, mosaic, tmp_path):
    path, ids = mosaic
    run("map", path, trained[0], "-o", tmp_path / "map", "--device", "cpu")
    with rasterio.open(tmp_path / "map" / "classes.tif") as src:
        assert src.crs.to_epsg() == 32631
        mapped = src.read(1)
    assert (mapped == ids).mean() > 0.8
    assert read_scheme(tmp_path / "map" / "classes.tif").names == NAMES
    with rasterio.open(tmp_path / "map" / "confidence.tif") as src:
        assert src.descriptions == ("confidence",)
        assert src.scales == (1 / 250,)
        sure = src.read(1)
    assert 50 <= sure.min() < sure.max() <= 250
    assets = json.loads((tmp_path / "map" / "item.json").read_text())["assets"]
    assert assets["confidence"]["bands"] == [{"name": "confidence"}]


def test_tiles_of_a_patch_model_show_no_seams(design, scheme, mosaic, tmp_path):
    """Four tiles, and four off the grid: larger ones would be the whole crop again."""
    large_cells = replace(design, sizes=(32, 64), cell=32)
    untrained(large_cells, scheme).save(tmp_path / "m.model")
    words = ["--tile-size", 256, "--crop", 272, "--json"]
    done = run("verify-seams", mosaic[0], tmp_path / "m.model", *words)
    said = json.loads(done.stdout)
    assert said["ok"]
    assert said["max_difference"] < 1e-4
    assert said["max_score"] > 0.1
    assert [way["tiles"] for way in said["tilings"]] == [1, 4, 4]


def test_labels_of_a_scene_train_too(mosaic, tmp_path, make_raster):
    path, ids = mosaic
    with rasterio.open(path) as src:
        truth = make_raster(ids[None], "ids.tif", crs=src.crs, transform=src.transform)
    scheme = tmp_path / "scheme.toml"
    scheme.write_text(
        'name = "five"\n'
        + "".join(
            f'[[classes]]\nname = "{n}"\ncolor = "#{i}{i}{i}{i}{i}{i}"\n'
            for i, n in enumerate(NAMES)
        )
    )
    out = tmp_path / "m.model"
    run(
        "patches",
        "train",
        path,
        "-o",
        out,
        *QUICK,
        "--labels",
        truth,
        "--classes",
        scheme,
        "--steps",
        2,
    )
    assert Checkpoint.load(out).net.postprocessor is not None


def test_a_class_without_a_cell_is_named_and_never_mapped(mosaic, tmp_path, make_raster, caplog):
    path, ids = mosaic
    with rasterio.open(path) as src:
        known = np.where(ids == 2, 255, ids).astype(np.uint8)
        truth = make_raster(known[None], "i.tif", crs=src.crs, transform=src.transform, nodata=255)
    out = tmp_path / "m.model"
    words = ["--labels", truth, "--classes", "land-cover", "--steps", 10, "--hold-out", 0.3]
    run("patches", "train", path, "-o", out, *QUICK, *words)
    lost = Checkpoint.load(out).scheme.names[2]
    assert f"no cell is of class {lost}: the model cannot tell it" in caplog.text


def test_chips_without_classes_are_told(chips, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copytree(chips / "water", tmp_path / "one" / "water")
    said = run("patches", "train", tmp_path / "one", "-o", tmp_path / "m", *QUICK, ok=False).stderr
    assert "all chips are of one class, water" in said
    said = run("patches", "train", chips / "water", "-o", tmp_path / "m", *QUICK, ok=False).stderr
    assert "give the folder above" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sizes", "16,31"], "even number of pixels larger"),
        (["--size-weights", "0,0"], "weights [0.0, 0.0] for 2 sizes"),
        (["--backbone", "lenet"], "efficientnet_lite0"),
        (["--weights", "no-such-file.pth"], "no-such-file.pth"),
        (["--classes", "buildings"], "no class of 'buildings'"),
    ],
)
def test_wrong_options_are_told_in_one_line(chips, tmp_path, words, says):
    done = run("patches", "train", chips, "-o", tmp_path / "m.model", *QUICK, *words, ok=False)
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_scenes_of_16_bits_are_refused(mosaic, tmp_path, make_raster):
    data = np.full((3, 64, 64), 900, np.uint16)
    path = make_raster(data, crs="EPSG:32631")
    truth = make_raster(np.zeros((1, 64, 64), np.uint8), "t.tif", crs="EPSG:32631")
    done = run(
        "patches",
        "train",
        path,
        "-o",
        tmp_path / "m.model",
        *QUICK,
        "--labels",
        truth,
        "--classes",
        "land-cover",
        ok=False,
    )
    assert "uint16" in done.stderr


def test_an_unreadable_chip_stops_it_or_is_left_out(chips, tmp_path):
    import shutil

    shutil.copytree(chips, tmp_path / "c")
    (tmp_path / "c" / "water" / "bad.png").write_bytes(b"no image")
    words = ["patches", "train", tmp_path / "c", "-o", tmp_path / "m.model", *QUICK, "--steps", 1]
    assert "bad.png" in run(*words, ok=False).stderr
    run(*words, "--skip-bad")


def scene_of(pixels, name, make_raster, like, **how):
    with rasterio.open(like) as src:
        return make_raster(pixels, name, crs=src.crs, transform=src.transform, **how)


def read(path):
    with rasterio.open(path) as src:
        return src.read()


@pytest.mark.parametrize("bands", [(1,), (1, 2)])
def test_scenes_without_three_bands_are_refused(mosaic, tmp_path, make_raster, bands):
    truth = scene_of(mosaic[1][None], "t.tif", make_raster, mosaic[0])
    words = ["--labels", truth, "--classes", "land-cover", "--bands", ",".join(map(str, bands))]
    done = run("patches", "train", mosaic[0], "-o", tmp_path / "m.model", *QUICK, *words, ok=False)
    assert f"gives {len(bands)} bands" in done.stderr
    assert "--bands" in done.stderr
    assert not (tmp_path / "m.model").exists()


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


def test_labels_belong_to_a_scene_and_not_to_chips(chips, mosaic, tmp_path):
    done = run(
        "patches",
        "train",
        chips,
        "-o",
        tmp_path / "m.model",
        *QUICK,
        "--labels",
        mosaic[0],
        ok=False,
    )
    assert "cannot belong to" in done.stderr
    assert "--masks" in done.stderr


def test_masks_are_found_beside_other_files_and_bad_ones_skipped(chips, tmp_path, caplog):
    masks = tmp_path / "masks"
    for path in sorted(chips.rglob("*.png")):
        out = masks / path.relative_to(chips).with_suffix(".tif")
        out.parent.mkdir(parents=True, exist_ok=True)
        side = Image.open(path).size[::-1]
        Image.fromarray(np.full(side, NAMES.index(path.parent.name), np.uint8)).save(out)
    (masks / "water" / "0.tif.aux.xml").write_text("<PAMDataset/>")
    out = tmp_path / "m.model"
    words = ["patches", "train", chips, "-o", out, *QUICK, "--masks", masks, "--steps", 1]
    run(*words)
    (masks / "water" / "1.tif").write_bytes(b"no image")
    assert "1.tif" in run(*words, "--overwrite", ok=False).stderr
    run(*words, "--overwrite", "--skip-bad")
    assert "1 of 50 chips left out" in caplog.text


def test_a_chip_of_16_bits_is_left_out_as_any_that_is_no_use(chips, tmp_path, caplog):
    import shutil

    shutil.copytree(chips, tmp_path / "c")
    Image.fromarray(np.full((48, 48), 900, np.uint16)).save(tmp_path / "c" / "water" / "deep.png")
    words = ["patches", "train", tmp_path / "c", "-o", tmp_path / "m.model", *QUICK, "--steps", 1]
    assert "deep.png is uint16" in run(*words, ok=False).stderr
    run(*words, "--skip-bad")
    assert "deep.png" in caplog.text


def test_a_class_may_be_written_in_two_ways(chips, tmp_path):
    from geopipe.learn.patches.model import PatchSource

    for a, b in (("one", "Water"), ("two", "water"), ("two", "x")):
        (tmp_path / a / b).mkdir(parents=True)
        (tmp_path / a / b / "0.png").write_bytes((chips / "water" / "0.png").read_bytes())
    scheme = PatchSource((str(tmp_path / "one"), str(tmp_path / "two"))).scheme()
    assert [n.casefold() for n in scheme.names] == ["water", "x"]


# -- transfer


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
