"""From a folder of chips to a table, a map, an evaluation and heat maps, by what users type."""

import json
import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from PIL import Image
from scene_world import FROZEN, NAMES, PX, TINY, ground, run

from geopipe.checkpoint import Checkpoint
from geopipe.grid import Window
from geopipe.raster.cog import read_scheme
from geopipe.workflow import classify_chips as classify

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def mapped(model, mosaic, tmp_path_factory):
    out = tmp_path_factory.mktemp("map") / "map"
    done = run("classify", model, mosaic[0], "-o", out, "--device", "cpu", "--json")
    return out, json.loads(done.stdout)


def test_a_model_says_what_it_was_made_from(model):
    made = Checkpoint.load(model)
    assert made.scheme.names == NAMES
    assert made.gsd == 2
    net = made.net.base
    assert (net.chip, net.stride, net.side) == (PX, PX, 64)
    assert made.provenance["chips"] == dict.fromkeys(NAMES, 8)
    assert len(made.provenance["pretrained"]["alexnet"]) == 64


@pytest.mark.parametrize("kind", ["fusion:alexnet+alexnet.pool5", "ddrl-am", "finetune:alexnet"])
def test_every_kind_is_trained_saved_and_used(kind, chips, tmp_path):
    out = tmp_path / "m.model"
    done = run(
        "train",
        chips,
        "-o",
        out,
        "--model",
        kind,
        *TINY,
        "--epochs",
        1,
        "--batch",
        8,
        "--hold-out",
        0.25,
        "--json",
    )
    assert json.loads(done.stdout)["held_out"]["pixels"] == 8
    table = tmp_path / "t"
    run("classify", out, chips / "tank", "-o", table, "--device", "cpu")
    found = pd.read_csv(table / "chips.csv")
    columns = found[[f"p:{n}" for n in NAMES]]
    assert np.allclose(columns.sum(axis=1), 1, atol=1e-3)
    assert (columns.idxmax(axis=1).str[2:] == found["class"]).all()
    run("attention", out, chips / "tank" / "tank0.png", "-o", tmp_path / "h", "--device", "cpu")
    assert Image.open(tmp_path / "h" / "tank0.png").size == (PX, PX)


def test_a_model_is_replaced_where_that_is_asked_for(chips, tmp_path):
    out = tmp_path / "m.model"
    out.write_bytes(b"an older one")
    assert "exists already" in run("train", chips, "-o", out, *FROZEN, ok=False).stderr
    assert out.read_bytes() == b"an older one"
    run("train", chips, "-o", out, *FROZEN, "--overwrite")
    assert Checkpoint.load(out).scheme.names == NAMES


def test_a_training_in_the_cache_is_not_taken_for_another_model(chips, tmp_path):
    words = ["--model", "finetune:alexnet", *TINY, "--epochs", 1, "--cache", tmp_path / "cache"]
    run("train", chips, "-o", tmp_path / "a", *words, "--gsd", 2)
    renamed = tmp_path / "other"
    shutil.copytree(chips, renamed)
    (renamed / "field").rename(renamed / "acre")  # still the first
    run("train", renamed, "-o", tmp_path / "b", *words, "--gsd", 3)
    assert len(list((tmp_path / "cache").glob("trained-*"))) == 1
    made = Checkpoint.load(tmp_path / "b")
    assert (made.gsd, made.scheme.names[0]) == (3, "acre")


# -- chips


def test_a_folder_of_chips_becomes_a_table(model, chips, tmp_path):
    out = tmp_path / "t"
    done = run("classify", model, chips, "-o", out, "--device", "cpu", "--json")
    assert sum(json.loads(done.stdout)["classes"].values()) == 32
    table, places = pd.read_csv(out / "chips.csv"), gpd.read_parquet(out / "chips.parquet")
    assert (table["class"] == table["folder"]).mean() > 0.9
    assert list(table["chip"]) == list(places["chip"])
    assert places.geometry.isna().all()
    assert sorted(p.name for p in out.iterdir()) == ["chips.csv", "chips.parquet"]
    assert "exists already" in run("classify", model, chips, "-o", out, ok=False).stderr
    run("classify", model, chips, "-o", out, "--device", "cpu", "--overwrite")


def test_chips_with_a_place_have_their_outline(model, tmp_path, make_raster):
    rng = np.random.default_rng(5)
    for n in range(3):
        pixels = ground(n, rng).transpose(2, 0, 1)
        place = Affine(2, 0, 500_000 + 80 * n, 0, -2, 4_700_000)
        make_raster(pixels, f"{n}.tif", crs="EPSG:32631", transform=place)
    Image.fromarray(ground(0, rng)).save(tmp_path / "z.png")
    run("classify", model, tmp_path, "-o", tmp_path / "t", "--device", "cpu")
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
    run("classify", model, tmp_path / "cut", "-o", tmp_path / "t", "--device", "cpu")
    table = pd.read_csv(tmp_path / "t" / "chips.csv").set_index("chip")
    chips = gpd.read_file(mapped[0] / "chips.gpkg").set_index(["row", "column"])
    for name, chip in table.iterrows():
        row, col = map(int, name[:-4].split("-"))
        same = chips.loc[(row, col)]
        # The map's chips are not rounded to whole values after they are resized.
        assert abs(same["probability"] - chip["probability"]) < 0.05
        assert same["class"] == chip["class"] or chip["probability"] < 0.55


def test_other_steps_and_metres_are_for_use(model, mosaic, tmp_path):
    done = run(
        "classify",
        model,
        mosaic[0],
        "-o",
        tmp_path / "a",
        "--step",
        20,
        "--device",
        "cpu",
        "--json",
    )
    assert sum(json.loads(done.stdout)["classes"].values()) == 10 * 12
    run("classify", model, mosaic[0], "-o", tmp_path / "b", "--gsd", 3, "--device", "cpu")
    # Chips of 60 m are counted from the origin of the CRS; the scene begins 20 m into one.
    assert len(gpd.read_file(tmp_path / "b" / "chips.gpkg")) == 4 * 5
    wrong = run("classify", model, mosaic[0], "-o", tmp_path / "c", "--step", 39, ok=False)
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
    run("classify", model, mosaic[0], "-o", out, "--device", "cpu", ok=False)
    assert not out.exists()
    monkeypatch.setattr(classify, "write_footprints", write)
    run("classify", model, mosaic[0], "-o", out, "--device", "cpu")
    ours, theirs = (gpd.read_file(p / "chips.gpkg") for p in (out, mapped[0]))
    assert ours.equals(theirs)
    again = run("classify", model, mosaic[0], "-o", out, "--device", "cpu", ok=False)
    assert "exists already" in again.stderr


def test_of_holes_nothing_is_told(model, tmp_path, make_raster):
    rng = np.random.default_rng(2)
    pixels = np.tile(ground(1, rng).transpose(2, 0, 1), (1, 2, 2))
    valid = np.ones(pixels.shape[1:], bool)
    valid[:PX, :PX] = False
    valid[PX : PX + 30, :PX] = False
    place = Affine(2, 0, 500_000, 0, -2, 4_700_000)
    path = make_raster(pixels, mask=valid, crs="EPSG:32631", transform=place)
    run("classify", model, path, "-o", tmp_path / "m", "--device", "cpu")
    chips = gpd.read_file(tmp_path / "m" / "chips.gpkg")
    assert list(zip(chips["row"], chips["column"], strict=True)) == [(0, 1), (1, 0), (1, 1)]
    assert chips["valid"].tolist() == [1, 0.25, 1]


# -- heat maps


def test_heat_lies_over_the_chip_and_in_its_place(model, chips, tmp_path, make_raster):
    rng = np.random.default_rng(5)
    place = Affine(2, 0, 500_000, 0, -2, 4_700_000)
    placed = make_raster(
        ground(2, rng).transpose(2, 0, 1), "tank0.tif", crs="EPSG:32631", transform=place
    )
    out = tmp_path / "h"
    plain = chips / "tank" / "tank0.png"
    done = run("attention", model, plain, placed, "-o", out, "--class", "tank", "--device", "cpu")
    assert done.stdout.count("tank ") == 2
    rasters = list(out.glob("*.tif"))
    assert len(rasters) == 1
    assert len(list(out.glob("*.png"))) == 2
    with rasterio.open(rasters[0]) as src:
        assert (src.crs.to_epsg(), src.transform, src.shape) == (32631, place, (PX, PX))
        heat = src.read(1)
    assert heat.min() >= 0
    assert 0 < heat.max() <= 1
    table = pd.read_csv(out / "attention.csv")
    assert list(table["chip"]) == [str(plain), str(placed)]
    assert table["raster"].notna().tolist() == [False, True]


def test_heat_replaces_its_own_files_and_no_others(model, chips, tmp_path):
    own = tmp_path / "chips"
    own.mkdir()
    for name in ("tank0.png", "tank1.png"):
        shutil.copy(chips / "tank" / name, own / name)
    before = {p.name: p.read_bytes() for p in own.iterdir()}
    said = run(
        "attention", model, own, "-o", own, "--overwrite", "--device", "cpu", ok=False
    ).stderr
    assert "holds files that this command did not make" in said
    assert {p.name: p.read_bytes() for p in own.iterdir()} == before
    out = tmp_path / "h"
    run("attention", model, own, "-o", out, "--device", "cpu")
    (own / "bad.png").write_bytes(b"no image")
    words = [own / "tank1.png", own / "bad.png", "-o", out, "--overwrite", "--device", "cpu"]
    assert "bad.png" in run("attention", model, *words, ok=False).stderr
    assert (out / "tank0.png").exists()
    run("attention", model, *words, "--skip-bad")
    assert sorted(p.name for p in out.iterdir()) == ["attention.csv", "tank1.png"]
