import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.checkpoint import ModelFile
from geopipe.checkpoint import image as image_module
from geopipe.classes import IGNORE
from geopipe.errors import ConfigError
from geopipe.grid import NetworkGrid, Tiling, Window
from geopipe.mapping import tile as tile_module
from geopipe.mapping.tile import TileJob, best_class, score_window
from geopipe.raster import Scene
from geopipe.raster.cog import SCORE_STEPS

pytestmark = pytest.mark.usefixtures("one_thread")

# name: (scene pixels per net pixel, shape, CRS, transform); the fourth is a view of Banepa.
PLANES = {
    "1 m": (1, (66, 83), "EPSG:2154", Affine(1, 0, 789_000, 0, -1, 6_501_000)),
    "0.5 m": (2, (90, 131), "EPSG:2154", Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)),
    "2 m": (0.5, (37, 41), "EPSG:2154", Affine(2, 0, 789_000, 0, -2, 6_501_000)),
    "0.2645 m": (
        3.78,
        (150, 187),
        "EPSG:3857",
        Affine(0.2986, 0, 9_520_000, 0, -0.2986, 3_203_000),
    ),
}


@pytest.fixture(scope="module", params=PLANES)
def scored(request, tmp_path_factory, make_raster_at, make_model):
    """Scene, model and the scores of the whole scene after 0, 1 and 2 steps."""
    factor, shape, crs, transform = PLANES[request.param]
    data = np.random.default_rng(0).integers(1, 255, (3, *shape)).astype(np.uint8)
    data[:, 9:20, 11:25] = 0
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    scene = Scene.open(make_raster_at(path, data, nodata=0, crs=crs, transform=transform))
    assert NetworkGrid.of(scene.geobox, 1.0).factor == pytest.approx((factor, factor), rel=7e-3)
    model = make_model(iterations=2)
    for update in model.net.postprocessor.updates:
        update.w2.mul_(5)  # a refinement that shows
    return scene, model, score_window(model, scene, Window.of_shape(shape), iterations=(0, 1, 2))


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_any_window_has_the_scores_of_the_whole_scene(scored, data):
    scene, model, whole = scored
    height, width = scene.shape
    row = data.draw(st.integers(0, height - 1))
    col = data.draw(st.integers(0, width - 1))
    window = Window(
        row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col))
    )
    parts = score_window(model, scene, window, iterations=(0, 1, 2))
    for part, all_ in zip(parts, whole, strict=True):
        assert part.dtype == torch.float32
        assert part.shape == (3, *window.shape)
        assert (part - all_[(slice(None), *window.slices)]).abs().max() < 1e-5
    (last,) = score_window(model, scene, window)
    assert torch.equal(last, parts[-1])


def test_the_steps_differ(scored):
    _, _, whole = scored
    assert (whole[0] - whole[1]).abs().max() > 0.05
    assert (whole[1] - whole[2]).abs().max() > 0.05


def test_at_the_nets_own_resolution_the_scores_are_the_nets(make_raster, make_model):
    data = np.random.default_rng(0).integers(0, 255, (3, 40, 52)).astype(np.uint8)
    scene, model = Scene.open(make_raster(data)), make_model(iterations=1)
    padded = np.pad((data - 100.0) / 50, ((0, 0), (32, 32), (32, 32))).astype(np.float32)
    with torch.inference_mode():
        oracle = model.net(torch.from_numpy(padded)[None])[0]
    (found,) = score_window(model, scene, Window(0, 0, 40, 52))
    torch.testing.assert_close(found, oracle, rtol=0, atol=1e-5)


def test_what_lies_in_holes_does_not_matter(make_raster, make_model):
    """Pixels that are not valid count as the mean of the training scene."""
    data = np.random.default_rng(0).integers(0, 255, (3, 40, 40)).astype(np.uint8)
    mask = np.ones((40, 40), bool)
    mask[10:20, 5:30] = False
    model, window = make_model(iterations=1), Window(0, 0, 40, 40)
    scores = []
    for i, fill in enumerate((0, 255, 100)):
        filled = np.where(mask, data, fill).astype(np.uint8)
        scene = Scene.open(make_raster(filled, f"{i}.tif", mask=mask if fill != 100 else None))
        scores += score_window(model, scene, window)
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_steps_that_the_model_does_not_have(scored):
    scene, model, _ = scored
    with pytest.raises(ConfigError, match="the model has 2"):
        score_window(model, scene, Window(0, 0, 4, 4), iterations=(3,))


# Classes


@given(st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([2, 5, 10**6]))
@settings(max_examples=60, deadline=None)
def test_best_class_is_argmax_and_the_first_of_equals(classes, seed, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels, (classes, 7, 9)).astype(np.float32)
    found = best_class(torch.from_numpy(scores))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, scores.argmax(0))


def test_best_class_leaves_the_scores_alone():
    scores = torch.randn(3, 4, 4)
    before = scores.clone()
    best_class(scores)
    assert torch.equal(scores, before)


# Jobs


@dataclass(frozen=True)
class Result:
    """The bands of a tile, told apart."""

    classes: np.ndarray
    scores: np.ndarray | None


def result_of(job, tile):
    data, steps = job.compute(tile), len(job.iterations)
    return Result(data[:steps], data[steps:] if job.with_scores else None)


@pytest.fixture
def job(scored, tmp_path):
    scene, model, _ = scored
    path = tmp_path / "m.model"
    model.save(path)
    return TileJob(scene, ModelFile.open(path), "cpu", (0, 2), with_scores=True)


def test_a_job_is_small_and_survives_the_way_to_a_worker(job):
    sent = pickle.dumps(job)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    assert again == job
    tile = Tiling(job.scene.shape, 256)[0]
    np.testing.assert_array_equal(again.compute(tile), job.compute(tile))
    assert len(pickle.dumps(tile)) < 300


def test_a_tile_gives_classes_and_scores_and_ignores_holes(scored, job):
    scene, _, whole = scored
    tile = Tiling(scene.shape, 256)[0]
    result = result_of(job, tile)
    valid = scene.read().valid
    assert 0 < valid.sum() < valid.size
    assert (result.classes.dtype, result.scores.dtype) == (np.uint8, np.uint8)
    assert result.classes.shape == (2, *scene.shape)
    for classes, scores in zip(result.classes, (whole[0], whole[2]), strict=True):
        assert (classes[~valid] == IGNORE).all()
        np.testing.assert_array_equal(classes[valid], scores.argmax(0).numpy()[valid])
    assert (result.scores[:, ~valid] == IGNORE).all()
    shares = torch.softmax(whole[2].double(), 0).numpy()[:, valid] * SCORE_STEPS
    np.testing.assert_allclose(result.scores[:, valid], shares, atol=0.5 + 1e-3)
    assert result.scores[:, valid].max() <= SCORE_STEPS < IGNORE


def test_what_is_done_in_parts_is_as_at_once(job, monkeypatch):
    tile = Tiling(job.scene.shape, 256)[0]
    job = replace(job, with_confidence=True)
    whole = job.compute(tile)
    monkeypatch.setattr(tile_module, "CLASSES_AT_ONCE", 2)
    monkeypatch.setattr(tile_module, "_ROWS", 7)
    monkeypatch.setattr(image_module, "STRIP_PX", 500)
    np.testing.assert_array_equal(job.compute(tile), whole)
    assert (whole[2] == whole[3:].max(0)).all()


def test_scores_only_when_asked_for(job):
    tile = Tiling(job.scene.shape, 256)[0]
    assert len(replace(job, with_scores=False).compute(tile)) == 2


def test_a_rewritten_model_is_another_one(job, make_model, tmp_path):
    """The same path with other weights: the digest tells a worker to load it again."""
    tile = Tiling(job.scene.shape, 256)[0]
    before = result_of(job, tile).scores
    path = tmp_path / "m.model"
    make_model(iterations=2, seed=7).save(path)
    after = result_of(replace(job, model=ModelFile.open(path)), tile).scores
    assert (before != after).any()


def test_tiles_make_the_map_of_the_whole(make_raster, make_model, tmp_path):
    """Through the tiling itself: 2 x 2 tiles of half-metre pixels against one window."""
    data = np.random.default_rng(0).integers(1, 255, (3, 270, 300)).astype(np.uint8)
    half = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
    scene, model = Scene.open(make_raster(data, transform=half)), make_model(iterations=1)
    path = tmp_path / "m.model"
    model.save(path)
    job = TileJob(scene, ModelFile.open(path), "cpu", (1,), with_scores=False)
    (whole,) = score_window(model, scene, Window.of_shape(scene.shape))
    top = whole.sort(0, descending=True).values
    sure = (top[0] - top[1] > 1e-5).numpy()
    assert sure.mean() > 0.999
    for tile in Tiling(scene.shape, 256):
        (classes,) = job.compute(tile)
        assert classes.shape == tile.core.shape
        expected = best_class(whole).numpy()
        at = tile.core.slices
        np.testing.assert_array_equal(classes[sure[at]], expected[at][sure[at]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 4999)])
@pytest.mark.parametrize("metres", [0.5, 1.0, 2.0])
def test_odd_shapes_are_mapped(make_raster, make_model, tmp_path, shape, metres):
    if metres == 2 and shape[1] > 999:
        shape = shape[0], 999  # 10,000 net pixels along would only be slow
    data = np.random.default_rng(0).integers(1, 255, (3, *shape)).astype(np.uint8)
    transform = Affine(metres, 0, 789_000, 0, -metres, 6_501_000)
    scene, path = Scene.open(make_raster(data, transform=transform)), tmp_path / "m.model"
    make_model(iterations=1).save(path)
    job = TileJob(scene, ModelFile.open(path), "cpu", (0, 1), with_scores=True)
    seen = np.zeros(shape, int)
    for tile in Tiling(shape, 1024):
        result = result_of(job, tile)
        assert result.classes.shape == (2, *tile.core.shape)
        assert result.classes.max() < 3
        seen[tile.core.slices] += 1
    assert (seen == 1).all()


def test_a_tile_of_nothing_but_nodata(make_raster, make_model, tmp_path):
    scene = Scene.open(make_raster(np.zeros((3, 30, 30), np.uint8), nodata=0))
    make_model().save(tmp_path / "m.model")
    job = TileJob(scene, ModelFile(tmp_path / "m.model", ""), "cpu", (2,), with_scores=True)
    result = result_of(job, Tiling(scene.shape, 256)[0])
    assert (result.classes == IGNORE).all()
    assert (result.scores == IGNORE).all()
