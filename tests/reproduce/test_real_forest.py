"""The row of random forests: maps of the test part alone, of ground that no forest saw."""

import argparse

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from reproduce.maggiori import forest
from reproduce.real import run
from reproduce.real.forest import forest_maps
from reproduce.real.methods import FOREST
from reproduce.real.place import Place

PLANE = Affine(1, 0, 550_000, 0, -1, 9_000_000)
HEIGHT, WIDTH, PART = 240, 960, 240
"""Four parts side by side."""


@pytest.fixture
def place(tmp_path, make_raster, monkeypatch):
    for name, value in {"TRAIN_PX": 3000, "TUNE_PX": 2000, "TREES": 8, "LEAVES": (5,)}.items():
        monkeypatch.setattr(forest, name, value)
    rng = np.random.default_rng(0)
    image = rng.normal(90, 5, (3, HEIGHT, WIDTH))
    houses = []
    for col in range(10, WIDTH - 30, 40):
        for row in range(10, HEIGHT - 30, 40):
            image[0, row : row + 16, col : col + 20] += 90
            houses.append(shapely.box(col, row, col + 20, row + 16))
    scene = make_raster(image.clip(1, 255).astype("uint8"), crs="EPSG:32736", transform=PLANE)
    shapes = [shapely.transform(h, lambda xy: np.column_stack(PLANE * xy.T)) for h in houses]
    gpd.GeoDataFrame(
        {"building": ["yes"] * len(shapes)}, geometry=shapes, crs="EPSG:32736"
    ).to_file(tmp_path / "truth.gpkg")
    roles = ("train", "enhance", "select", "test")
    spec = {
        "title": "drawn",
        "scene": str(scene),
        "labels": str(tmp_path / "truth.gpkg"),
        "classes": "buildings",
        "class": "building",
        "boxes": {role: [[PART * k, 0, PART, HEIGHT]] for k, role in enumerate(roles)},
    }
    return Place("drawn", spec, tmp_path, tmp_path / "places")


def test_forests_learn_from_their_own_part_and_map_the_others(place, tmp_path):
    workflow = run._workflow(place, FOREST, 0, tmp_path / "out", {"train.align": "false"})
    alone, with_tile = forest_maps(workflow, place)
    assert sorted(with_tile) == ["select", "test"]
    for path, role in ((alone, "test"), *((p, r) for r, p in with_tile.items())):
        figures = run.judge(path, place, role, run.load_scheme(workflow.classes))
        assert figures["iou"]["building"] > 0.9
        with rasterio.open(path) as mapped, rasterio.open(place.scene(role)) as scene:
            assert (mapped.shape, mapped.transform) == (scene.shape, scene.transform)
    assert not list(workflow.out.glob("*.safetensors")), "no network was trained"


def test_a_run_of_forests_leaves_its_figures(place, tmp_path, monkeypatch):
    monkeypatch.setattr(Place, "open", lambda *_: place)
    monkeypatch.setenv("GEOPIPE_DATA", str(tmp_path))
    args = argparse.Namespace(out=tmp_path / "out", set=["train.align=false"])
    run._run("drawn", FOREST, 0, args, tmp_path / "drawn-forest-0.json")
    run.write_page(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| random forest on the training labels | 1 |" in page
    assert "| random forest on the accurate tile | 1 |" in page
