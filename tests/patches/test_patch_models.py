"""From a folder of chips to a map, and from a place to another, by the commands that users type."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from patch_world import NAMES, QUICK, run, untrained
from PIL import Image

from geopipe.checkpoint import Checkpoint
from geopipe.raster.cog import read_scheme


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
