"""A forest on ground whose classes differ by colour, and by texture alone."""

import numpy as np
import pytest
import rasterio

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.grid import Window
from geopipe.raster import Scene
from reproduce.maggiori import forest

SCHEME = ClassScheme.from_dict(
    {"name": "t", "classes": [{"name": n, "color": "#102030"} for n in ("ground", "roof", "road")]}
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    settings = {"TRAIN_PX": 3000, "TUNE_PX": 2000, "TREES": 8, "LEAVES": (5, 50), "CORE": 256}
    for name, value in settings.items():
        monkeypatch.setattr(forest, name, value)


@pytest.fixture
def place(make_raster):
    """``place(seed)``: a scene of 280 x 300 px and its labels; 6 % roof, 8 % road."""

    def make(seed, wrong=0.0, name="a"):
        rng = np.random.default_rng(seed)
        ids = np.zeros((280, 300), np.uint8)
        for row, col in rng.integers(0, 260, (14, 2)):
            ids[row : row + 20, col : col + 18] = 1
        ids[130:152] = 2
        image = np.full((3, *ids.shape), 90.0)
        image[:, ids == 1] = [[190], [90], [70]]
        image += rng.normal(0, 4, image.shape)
        image[:, ids == 2] += rng.normal(0, 40, (ids == 2).sum())  # as bright as the ground
        image[:, :30, :30] = 0
        told = np.where(rng.random(ids.shape) < wrong, rng.integers(0, 3, ids.shape), ids)
        scene = make_raster(
            image.clip(1, 255).astype("uint8") * (image != 0), f"{name}.tif", nodata=0
        )
        labels = make_raster(told[None].astype("uint8"), f"{name}-ids.tif", nodata=IGNORE)
        return Scene.open(scene), labels

    return make


def test_both_forests_find_colour_and_texture(place, tmp_path):
    noisy, accurate, test = place(1, 0.4, "n"), place(2, name="e"), place(3, name="t")
    for made in (
        forest.train_on_noisy(noisy, accurate, SCHEME, 0),
        forest.train_on_accurate(accurate, SCHEME, 0),
    ):
        out = tmp_path / "map.tif"
        forest.apply(made, test[0], SCHEME, out)
        metrics = evaluate_map(out, test[1], scheme=SCHEME)
        assert metrics.mean_iou > 0.8
        assert metrics.ignored == 900  # the hole
        assert max(score for _, score in made.tuning) == dict(made.tuning)[made.settings]
        assert len(made.to_dict()["tuning"]) == len(made.tuning)


def test_equal_seeds_equal_maps(place, tmp_path):
    accurate = place(2)
    maps = []
    for seed in (0, 0, 1):
        made = forest.train_on_accurate(accurate, SCHEME, seed)
        forest.apply(made, accurate[0], SCHEME, tmp_path / "map.tif")
        with rasterio.open(tmp_path / "map.tif") as src:
            maps.append(src.read(1))
    assert np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_features_do_not_depend_on_the_windows(place):
    scene, labels = place(1)
    drawn = forest.draw(scene, labels, SCHEME, seed=0, count=10**6)
    whole = forest.features(scene.read())
    valid = scene.read().valid.ravel()
    assert drawn.features.shape == (valid.sum(), whole.shape[1])
    assert np.abs(drawn.features - whole[valid]).max() < 0.05


def test_a_balanced_draw_takes_as_many_of_each_class_and_knows_their_shares(place):
    scene, labels = place(1)
    with rasterio.open(labels) as src:
        counts = np.bincount(src.read(1)[scene.read().valid], minlength=3)
    drawn = forest.draw(scene, labels, SCHEME, seed=0, count=900, balanced=True)
    assert np.bincount(drawn.ids).tolist() == [300, 300, 300]
    assert np.allclose(drawn.shares, counts / counts.sum())
    right = forest.draw(scene, labels, SCHEME, seed=0, count=9000, within=Window(140, 0, 8, 300))
    assert set(right.ids) == {2}  # road all along
    assert len(right.ids) == 2400


def test_a_class_nowhere_in_the_training_is_never_mapped(place, tmp_path, make_raster):
    scene, labels = place(1)
    with rasterio.open(labels) as src:
        ids = src.read(1)
    none = make_raster(np.where(ids == 1, IGNORE, ids)[None], "none.tif", nodata=IGNORE)
    made = forest.train_on_accurate((scene, none), SCHEME, 0)
    forest.apply(made, scene, SCHEME, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as src:
        assert set(np.unique(src.read(1))) == {0, 2, IGNORE}


def test_a_tile_in_a_corner_of_its_scene_is_halved_where_it_lies(place, make_raster):
    scene, labels = place(1)
    with rasterio.open(labels) as src:
        ids = src.read(1)
    ids[:, 120:] = IGNORE
    corner = make_raster(ids[None], "corner.tif", nodata=IGNORE)
    made = forest.train_on_accurate((scene, corner), SCHEME, 0)
    assert max(score for _, score in made.tuning) > 0.8


def test_without_labels_it_says_so(place, make_raster):
    scene, _ = place(1)
    none = make_raster(np.full((1, 280, 300), IGNORE, np.uint8), "none.tif", nodata=IGNORE)
    with pytest.raises(LabelError, match="labels no pixel"):
        forest.draw(scene, none, SCHEME, seed=0, count=10)
