"""What a model has learned from, and how a map tells what is unlike it."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_place import lively

from geopipe.checkpoint import Checkpoint, FeatureDomain
from geopipe.checkpoint import domain as module
from geopipe.classes import load_scheme
from geopipe.cli import main
from geopipe.errors import CheckpointError
from geopipe.grid import NetworkGrid, Window
from geopipe.learn import domain as learn_module
from geopipe.learn.domain import fit_domain, learn_domain
from geopipe.mapping import domain as mapping_module
from geopipe.mapping.domain import CellGrid
from geopipe.mapping.tile import cell_features
from geopipe.nets.features import FeatureObserver
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")
CELL = 32
SIDE = 320


@pytest.fixture(scope="module", autouse=True)
def small_cells():
    with pytest.MonkeyPatch.context() as patch:
        for place in (module, learn_module, mapping_module):
            patch.setattr(place, "CELL_PX", CELL)
        yield


def scene_like(kind, seed):
    """(3, SIDE, SIDE) uint8: soft blobs of one kind of ground, darker in a night."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(70, 170, (3, SIDE // 8, SIDE // 8))
    image = coarse.repeat(8, 1).repeat(8, 2) + rng.normal(0, 6, (3, SIDE, SIDE))
    if kind == "night":
        image = image / 6
    return image.clip(1, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, make_raster_at):
    """Paths: where the model learns, more of the same, and the same by night."""
    folder = tmp_path_factory.mktemp("scenes")
    kinds = {"train": ("day", 0), "day": ("day", 1), "night": ("night", 1)}
    return {
        name: make_raster_at(folder / f"{name}.tif", scene_like(*kind), nodata=0)
        for name, kind in kinds.items()
    }


@pytest.fixture(scope="module")
def models(scenes, make_model, array_labels, tmp_path_factory):
    """Paths of a model, and of the same model that knows its domain."""
    model = lively(make_model(seed=3, iterations=0))
    scene = Scene.open(scenes["train"])
    labels = array_labels(load_scheme("buildings"), scene.geobox, np.zeros((SIDE, SIDE), np.uint8))
    folder = tmp_path_factory.mktemp("models")
    knowing = replace(model, domain=learn_domain(model, [(scene, labels)]))
    assert knowing.domain.cells == 100
    for name, each in (("plain", model), ("knowing", knowing)):
        each.save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in ("plain", "knowing")}


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_cells_cover_a_window_once(height, width, factor):
    grid = NetworkGrid((2000, 2000), (factor, factor))
    window = Window(40, 60, height, width)
    cells = CellGrid.of(grid, window)
    if cells is None:
        assert min(height, width) < CELL * factor / 2
        return
    count = np.zeros((height, width), int)
    for cell in cells:
        count[cell.within(window)] += 1
        assert min(cell.shape) / factor + 1 >= CELL / 2
        assert max(cell.shape) / factor <= 1.5 * CELL + 1
    assert (count == 1).all()


def test_features_are_those_of_the_cell(scenes, models):
    """Of the image and of the first layer, computed cell by cell from the scene itself."""
    model = Checkpoint.load(models["knowing"])
    scene, window = Scene.open(scenes["day"]), Window(64, 32, 128, 128)
    taken = cell_features(model, FeatureObserver(model.net.base), scene, window)
    assert taken.known.all()
    assert taken.features.shape == (16, 2 * (3 + 64 + 128 + 128))
    for cell, row in zip(taken.cells, taken.features, strict=True):
        pixels = (scene.read(cell).data - 100.0) / 50
        np.testing.assert_allclose(row[:3], pixels.mean((1, 2)), atol=1e-5)
        np.testing.assert_allclose(row[3:6], pixels.std((1, 2)), atol=1e-5)
        around = (scene.read(cell.expand(4)).data - 100.0) / 50
        layer = model.net.base.conv1(torch.from_numpy(around).float()[None])[0].numpy()
        scale = layer.std((1, 2)) / 4
        assert (np.abs(row[6:70] - layer.mean((1, 2))) < np.maximum(scale, 0.05)).mean() > 0.95


def test_a_distribution_is_known_again_and_what_breaks_it_is_foreign():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(8, 40))

    def sample(n):
        return (rng.normal(size=(n, 8)) @ mixing + rng.normal(0, 0.2, (n, 40))).astype(np.float32)

    domain = fit_domain(sample(400))
    own = domain.scores(sample(2000))
    assert (own > 1).mean() < 0.04
    assert (own > 1).any(), "the limit is no bound of all there is"
    shuffled = rng.permuted(sample(200), axis=1)  # each value is usual, together they are not
    assert (domain.scores(shuffled) > 1).mean() > 0.95
    assert (domain.scores(sample(200) + 20 * mixing[0]) > 1).all()


def test_the_limit_is_that_of_cells_that_were_held_out():
    """With few cells and many features, those trained on look nearer than they are."""
    rng = np.random.default_rng(1)
    train, new = (rng.normal(size=(n, 200)).astype(np.float32) for n in (60, 400))
    domain = fit_domain(train)
    assert (domain.scores(train) <= 1).mean() > 0.97
    assert (domain.scores(new) > 1).mean() < 0.08


def test_a_file_keeps_it_and_a_damaged_one_is_refused(models, tmp_path):
    model = Checkpoint.load(models["knowing"])
    features = np.random.default_rng(0).normal(size=(5, len(model.domain.mean)))
    model.save(tmp_path / "again.safetensors")
    again = Checkpoint.load(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(again.domain.scores(features), model.domain.scores(features))
    assert Checkpoint.load(models["plain"]).domain is None
    larger = models["knowing"].stat().st_size - models["plain"].stat().st_size
    assert larger < 100_000
    for change in ({"limit": 0.0}, {"noise": -1.0}, {"limit": float("nan")}):
        with pytest.raises(ValueError, match="damaged"):
            replace(model.domain, **change)
    broken = {"mean": model.domain.mean[:-1]}
    with pytest.raises(ValueError, match="damaged"):
        replace(model.domain, **broken)
    data = models["knowing"].read_bytes()
    (tmp_path / "bad.safetensors").write_bytes(data.replace(b'\\"cells\\"', b'\\"cellz\\"', 1))
    with pytest.raises(CheckpointError, match=r"unknown key .domain\.cellz"):
        Checkpoint.load(tmp_path / "bad.safetensors")


def mapped(scene, model, out, *words):
    line = ["map", scene, model, "-o", out, "--json", "--device", "cpu", *words]
    done = CliRunner().invoke(main, [str(w) for w in line])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def read(folder):
    with rasterio.open(Path(folder) / "classes.tif") as src:
        return src.read()


def test_a_map_tells_what_is_foreign_and_its_classes_stay(scenes, models, tmp_path, caplog):
    small = ("--tile-size", 256)
    plain, _ = mapped(scenes["night"], models["plain"], tmp_path / "plain", *small)
    assert plain["out_of_domain"] is None
    night, _ = mapped(scenes["night"], models["knowing"], tmp_path / "night", *small)
    np.testing.assert_array_equal(read(tmp_path / "night"), read(tmp_path / "plain"))
    assert night["out_of_domain"] == 1.0
    assert "100 % of night.tif is unlike the images" in caplog.text
    caplog.clear()
    layer = gpd.read_file(tmp_path / "night/out_of_domain.gpkg", layer="out_of_domain")
    assert (layer["score"] > 1).all()
    with rasterio.open(scenes["night"]) as src:
        assert layer.crs == src.crs
        assert layer.union_all().area == pytest.approx(SIDE**2)
        assert tuple(layer.total_bounds) == tuple(src.bounds)
    report = json.loads((tmp_path / "night/report.json").read_text())
    assert report["facts"]["out of domain"] == "100.0 % of 100 cells"
    assert any("do not trust" in note for note in report["notes"])
    item = json.loads((tmp_path / "night/item.json").read_text())
    assert item["assets"]["out_of_domain"]["href"] == "./out_of_domain.gpkg"
    day, _ = mapped(scenes["day"], models["knowing"], tmp_path / "night", "--overwrite", *small)
    assert day["out_of_domain"] < 0.1
    assert "unlike" not in caplog.text
    assert (tmp_path / "night/out_of_domain.gpkg").exists() == (day["out_of_domain"] > 0)


def test_too_few_cells_and_ground_without_labels_teach_nothing(scenes, models, array_labels):
    model = Checkpoint.load(models["plain"])
    scene = Scene.open(scenes["train"])
    ids = np.full((SIDE, SIDE), 255, np.uint8)
    ids[:128, :160] = 0
    labels = array_labels(load_scheme("buildings"), scene.geobox, ids)
    assert learn_domain(model, [(scene, labels)]) is None
    twice = learn_domain(model, [(scene, labels), (scene, labels)])
    assert twice.cells == 40
    assert isinstance(twice, FeatureDomain)
