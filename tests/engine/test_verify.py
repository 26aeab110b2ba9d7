"""``geopipe verify``: equal maps pass, one changed pixel is detected with the stated chance."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_place import draw_place, lively

from geopipe.classes import IGNORE
from geopipe.grid import Tiling
from geopipe.mapping import Budget, Engine
from geopipe.mapping.detection import detection_chance, draw_tiles, fewest_tiles
from geopipe.mapping.sieve import sieve, sieved_window
from geopipe.mapping.verify import verify_map
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, mosaic_scene, write_bundle

pytestmark = pytest.mark.usefixtures("one_thread")

TILES = 6
LEAST_M2 = 60.0


@dataclass(frozen=True)
class Mapped:
    folder: Path
    scene: Path
    model: Path


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, make_model):
    """A map of 6 tiles whose specks were removed, with confidence and scores."""
    home = tmp_path_factory.mktemp("verified")
    scene, _ = draw_place(home, "scene", (300, 560))
    model = home / "model.safetensors"
    lively(make_model(seed=3)).save(model)
    options = MapOptions(
        Engine("cpu", budget=Budget(256)), scores=True, confidence=True, min_area=30.0
    )
    return Mapped(
        write_bundle(Scene.open(scene), model, home / "map", options).folder, scene, model
    )


@pytest.fixture
def copy(mapped, tmp_path):
    """The same in a folder of its own: file names -> what lies there."""
    shutil.copytree(mapped.folder.parent, tmp_path / "home")
    home = tmp_path / "home"
    return Mapped(home / "map", home / mapped.scene.name, home / mapped.model.name)


def flip(path, row, col):
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dst:
        window = rasterio.windows.Window(col, row, 1, 1)
        values = dst.read(1, window=window)
        dst.write(np.where(values == 1, 0, 1).astype(np.uint8), 1, window=window)


def test_an_untouched_map_is_what_scene_and_model_give(mapped, geopipe, tmp_path):
    with rasterio.open(mapped.folder / "classes.tif") as src:
        ids = src.read(1)
        assert len(src.tags()["scene_sha256"]) == 64
    result = verify_map(mapped.folder, tiles=99)
    assert result.ok, result.differences
    assert result.compared == tuple(range(TILES))
    assert result.rasters == ("classes.tif", "confidence.tif", "scores.tif")
    assert set(result.chances.values()) == {1.0}
    # Specks lie across the borders of tiles: a tile removed them for itself differs.
    options = MapOptions(Engine("cpu", budget=Budget(256)), min_area=0.0)
    other = write_bundle(Scene.open(mapped.scene), mapped.model, tmp_path / "raw", options)
    with rasterio.open(other.classes) as src:
        raw = src.read(1)
    tiles = [t.core.slices for t in Tiling((300, 560), 256)]
    alone = [sieved_window(raw[s], np.full(3, 240), (False,) * 4)[0] for s in tiles]
    assert any((a != ids[s]).any() for a, s in zip(alone, tiles, strict=True))
    said = geopipe("verify", mapped.folder / "classes.tif", "--tiles", 3)
    assert said.exit_code == 0, said.stderr
    assert "3 of 6 tiles compared, all equal: classes.tif, confidence.tif" in said.stdout
    assert " 50.0 %  one pixel" in said.stdout


def test_one_changed_pixel_is_detected_when_its_tile_is_drawn_and_only_then(copy, geopipe):
    tiling = Tiling((300, 560), 256)
    flip(copy.folder / "classes.tif", 270, 540)
    (index,) = (
        t.index
        for t in tiling
        if t.core.row <= 270 < t.core.bottom and t.core.col <= 540 < t.core.right
    )
    seen = set()
    for seed in range(2):
        result = verify_map(copy.folder, tiles=3, seed=seed)
        assert result.ok == (index not in result.compared)
        assert result.pixel_chance == pytest.approx(3 / TILES)
        assert all((d.raster, d.pixels) == ("classes.tif", 1) for d in result.differences)
        seen.add(result.ok)
    assert seen == {True, False}
    said = geopipe("verify", copy.folder, "--tiles", 6, "--json")
    assert said.exit_code == 1
    assert said.stderr.endswith(
        "error: 1 of 6 tiles are not what scene and model give, in classes.tif - "
        "the map was changed after it was made\n"
    )
    report = json.loads(said.stdout)
    assert (report["ok"], report["differences"][0]["pixels"]) == (False, 1)


def test_a_changed_score_is_detected(copy):
    flip(copy.folder / "scores.tif", 10, 500)
    assert {d.raster for d in verify_map(copy.folder, tiles=6).differences} == {"scores.tif"}


@pytest.mark.parametrize(("tiles", "drawn", "changed"), [(12, 5, 1), (60, 20, 3), (400, 20, 20)])
def test_ten_thousand_draws_detect_as_often_as_stated(tiles, drawn, changed):
    rng = random.Random(7)
    tampered = set(rng.sample(range(tiles), changed))
    detected = sum(not tampered.isdisjoint(draw_tiles(tiles, drawn, rng)) for _ in range(10_000))
    stated = detection_chance(tiles, drawn, changed)
    deviation = (stated * (1 - stated) / 10_000) ** 0.5
    assert abs(detected / 10_000 - stated) < 4 * deviation
    assert detection_chance(tiles, tiles, 1) == 1
    assert detection_chance(tiles, drawn, 0) == 0


def test_a_share_of_the_map_is_hardest_to_detect_in_the_largest_tiles():
    tiling = Tiling((300, 600), 256)  # 2 x 3 tiles: two of 256 x 256 hold 72.8 %
    assert [fewest_tiles(tiling, s) for s in (0.01, 0.36, 0.37, 0.72, 0.74, 1)] == [
        1,
        1,
        2,
        2,
        3,
        6,
    ]


@given(seed=st.integers(0, 10**6), rough=st.booleans(), least=st.integers(0, 9))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_a_window_says_for_certain_is_what_the_whole_map_has(make_raster, seed, rough, least):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, (18, 20)).astype(np.uint8)
    if not rough:
        ids = np.repeat(np.repeat(ids[::3, ::4], 3, 0), 4, 1)
    ids[rng.random(ids.shape) < 0.1] = IGNORE
    source = make_raster(ids[None], nodata=IGNORE)
    sieve(source, source.with_name("sieved.tif"), (least,) * 3)
    with rasterio.open(source.with_name("sieved.tif")) as src:
        whole = src.read(1)
    limits = np.full(3, least)
    for top, left in ((0, 0), (4, 5), (6, 0)):
        part = ids[top : top + 12, left : left + 13]
        sides = top > 0, top + 12 < 18, left > 0, left + 13 < 20
        made, certain = sieved_window(part, limits, sides)
        there = whole[top : top + 12, left : left + 13]
        np.testing.assert_array_equal(made[certain], there[certain])
    made, certain = sieved_window(ids, limits, (False,) * 4)
    assert certain.all()
    np.testing.assert_array_equal(made, whole)


def test_a_moved_map_says_where_scene_and_model_were(copy, tmp_path, geopipe):
    moved = tmp_path / "else" / "map"
    shutil.copytree(copy.folder, moved)
    said = geopipe("verify", moved)
    assert said.exit_code == 1
    assert said.stderr.startswith("error: the model of this map is not at ")
    assert said.stderr.endswith("model.safetensors - give where it is now as --model\n")
    said = geopipe("verify", moved, "--model", copy.model)
    assert said.stderr.startswith("error: the scene of this map is not at ")
    assert said.stderr.endswith("scene.tif - give where it is now as --scene\n")
    said = geopipe("verify", moved, "--model", copy.model, "--scene", copy.scene, "--tiles", 1)
    assert said.exit_code == 0, said.stderr


def test_a_changed_scene_or_model_is_told_before_anything_is_computed(copy, make_model, geopipe):
    flip(copy.scene, 5, 400)
    said = geopipe("verify", copy.folder)
    assert said.exit_code == 1
    assert "scene.tif changed since the map was made: sha256 is" in said.stderr
    make_model(seed=4).save(copy.model)
    said = geopipe("verify", copy.folder)
    assert "model.safetensors is not the model of this map: its sha256 is" in said.stderr
    assert said.stderr.count("\n") == 1


def test_what_is_no_map_or_says_nothing_is_refused(copy, tmp_path, geopipe):
    assert "holds no map of geopipe's" in geopipe("verify", tmp_path / "nothing").stderr
    item = json.loads((copy.folder / "item.json").read_text())
    item["properties"]["geopipe:computation"]["tile_px"] = 7
    (copy.folder / "item.json").write_text(json.dumps(item))
    said = geopipe("verify", copy.folder).stderr
    assert "item.json is damaged: properties.geopipe:computation.tile_px: " in said
    del item["properties"]["geopipe:computation"]
    (copy.folder / "item.json").write_text(json.dumps(item))
    assert "does not say how its map was computed" in geopipe("verify", copy.folder).stderr


def test_a_mosaic_with_nodata_of_its_own_is_verified(tmp_path, make_model):
    paths = [str(draw_place(tmp_path, f"half{i}", (90, 100), east=50.0 * i)[0]) for i in range(2)]
    model = tmp_path / "model.safetensors"
    lively(make_model(seed=3, iterations=0)).save(model)
    options = MapOptions(Engine("cpu", budget=Budget(256)), min_area=0.0)
    scene = mosaic_scene(paths, tmp_path / "map", options, nodata=70.0)
    write_bundle(scene, model, tmp_path / "map", options)
    assert verify_map(tmp_path / "map").ok
