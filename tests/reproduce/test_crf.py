"""The CRF on blurred scores of squares whose outlines the image shows."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from scipy.ndimage import gaussian_filter

from geopipe.classes import IGNORE
from geopipe.grid import Window
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from reproduce.maggiori import crf
from reproduce.maggiori.crf import Energy, infer

pytest.importorskip("pydensecrf.densecrf", reason="needs pydensecrf2: pip install .[crf]")

NAMES = ("background", "building", "road")
GOOD = Energy(5, 20, 12, 1, 1)


def squares(seed=0, shape=(160, 180)):
    """Image (h, w, 3), unary of a net that sees it blurred and 3 px off, truth."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.uint8)
    for row, col in ((20, 20), (20, 90), (90, 30), (100, 110)):
        truth[row : row + 34, col : col + 40] = 1
    image = np.where(truth[..., None] == 1, [190, 80, 60], [90, 110, 80])
    image = (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)
    chance = gaussian_filter(np.roll((truth == 1) * 0.8, 3, (0, 1)), 5)
    chance = np.stack([0.98 - chance, chance + 0.01, np.full(shape, 0.01)])
    return image, -np.log(chance).astype(np.float32), truth


def mean_iou(truth, ids):
    return Metrics.of(NAMES, truth, ids).mean_iou


def test_blurred_scores_are_brought_to_the_images_edges():
    image, unary, truth = squares()
    before, after = mean_iou(truth, unary.argmin(0)), mean_iou(truth, infer(image, unary, GOOD))
    assert before < 0.83
    assert after > 0.97


def test_without_the_bilateral_kernel_the_image_does_not_matter():
    image, unary, truth = squares()
    plain = replace(GOOD, w1=0)
    assert np.array_equal(infer(image, unary, plain), infer(255 - image * 0, unary, plain))
    assert mean_iou(truth, infer(image, unary, plain)) < 0.87


def test_without_kernels_the_nets_class_stays():
    image, unary, _ = squares()
    assert np.array_equal(infer(image, unary, Energy(0, 1, 1, 0, 1)), unary.argmin(0))


def test_a_lone_pixel_is_smoothed_away():
    image, unary, _ = squares()
    unary[:, 5, 5] = [2, 0.1, 5]
    assert unary.argmin(0)[5, 5] == 1
    assert infer(image, unary, Energy(0, 1, 1, 3, 3))[5, 5] == 0


@pytest.fixture
def on_squares(monkeypatch, make_model, make_raster):
    """A model that scores as in `squares`, the scene, its labels and the truth."""
    image, unary, truth = squares(shape=(300, 340))
    valid = np.ones(truth.shape, bool)
    valid[:40, 300:] = False
    scene = make_raster(image.transpose(2, 0, 1), mask=valid)
    labels = make_raster(truth[None], "truth.tif", nodata=IGNORE)
    monkeypatch.setattr(
        crf, "_unary", lambda m, s, window, valid: unary[(slice(None), *window.slices)] * valid
    )
    return make_model(iterations=0), Scene.open(scene), labels, truth, valid


def test_a_map_in_windows_is_the_map_in_one(on_squares, monkeypatch, tmp_path):
    model, scene, _, truth, valid = on_squares
    maps = []
    for core in (512, 256):
        monkeypatch.setattr(crf, "CORE", core)
        monkeypatch.setattr(crf, "AROUND", 64)
        crf.apply(model, scene, GOOD, tmp_path / "map.tif")
        with rasterio.open(tmp_path / "map.tif") as src:
            assert src.crs == scene.geobox.crs
            assert src.transform == scene.geobox.affine
            maps.append(src.read(1))
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    assert np.array_equal(maps[0] == IGNORE, ~valid)
    assert mean_iou(truth, maps[0]) > 0.97
    assert (maps[0] == maps[1]).mean() > 0.999


def test_the_search_finds_what_is_good_and_keeps_all_it_tried(on_squares, monkeypatch):
    model, scene, labels, *_ = on_squares
    monkeypatch.setattr(crf, "PART", 120)
    monkeypatch.setattr(
        crf, "base_grid", lambda: [replace(GOOD, sigma_beta=b) for b in (0.5, 10.0, 200.0)]
    )
    monkeypatch.setattr(crf, "fine_grid", lambda e: [e, replace(e, w1=e.w1 / 2)])
    monkeypatch.setattr(crf, "gaussian_grid", lambda e: [replace(e, w2=e.w2 * 2)])
    found = crf.search(model, scene, labels)
    assert found.best.sigma_beta == 10
    assert found.unary_only.mean_iou < 0.85
    assert found.unary_only.energy.bias == ()
    assert found.finals[0].mean_iou > 0.97
    assert [len(r) for r in found.rounds] == [3, 1, 1]  # none is tried twice
    tables = json.loads(json.dumps(found.to_dict()))
    assert tables["trials"] == 5
    assert tables["best"].items() <= tables["finals"][0].items()


def test_a_shy_net_gets_class_shares_that_are_right(on_squares, monkeypatch):
    model, scene, labels, *_ = on_squares
    seen = crf._unary
    shy = np.array([0, 1.5, 0], np.float32)[:, None, None]
    monkeypatch.setattr(crf, "_unary", lambda *args: seen(*args) + shy)
    for name in ("base_grid", "fine_grid", "gaussian_grid"):
        monkeypatch.setattr(crf, name, lambda *_: [GOOD])
    plain = crf.search(model, scene, labels)
    found = crf.search(model, scene, labels, crf.TAUS)
    assert found.unary_only.mean_iou > plain.unary_only.mean_iou + 0.1
    assert found.unary_only.energy.bias[1] < found.unary_only.energy.bias[0] < 0
    assert found.best.bias
    assert found.finals[0].mean_iou > plain.finals[0].mean_iou + 0.05


def test_the_net_alone_needs_no_crf_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    image, unary, _ = squares()
    ids = infer(image, unary, replace(crf.NO_CRF, bias=(0.0, 0.0, -9.0)))
    assert np.array_equal(ids, (unary + np.array([0, 0, -9.0])[:, None, None]).argmin(0))


def test_the_grids_hold_what_they_are_built_around():
    assert Energy(3, 25, 6, 3, 3) in crf.coarse_grid()
    assert len(set(crf.coarse_grid())) == 36
    assert GOOD in crf.fine_grid(GOOD)
    assert replace(GOOD, sigma_gamma=3) in crf.gaussian_grid(GOOD)


def test_the_parts_lie_in_the_quarters_of_what_is_labelled():
    truth = np.full((900, 700), IGNORE, np.uint8)
    truth[100:500, 300:700] = 0
    parts = list(crf._parts(truth))
    assert parts[0] == Window(100, 300, 200, 200)
    covered = np.zeros(truth.shape, int)
    for window in parts:
        covered[window.slices] += 1
    assert np.array_equal(covered, truth != IGNORE)


def test_other_units_become_grey_levels_by_the_models_statistics(make_model, make_raster):
    pixels = np.array([[[400, 900, 1400]]] * 3, np.uint16)
    model = make_model(mean=(900.0,) * 3, std=(250.0,) * 3, dtype="uint16")
    grey = crf._grey(model, Scene.open(make_raster(pixels)).read())
    assert grey[0, :, 0].tolist() == [28, 128, 228]
    one = make_model(bands=1, mean=(900.0,), std=(250.0,), dtype="uint16")
    grey = crf._grey(one, Scene.open(make_raster(pixels[:1], "one.tif")).read())
    assert grey.shape == (1, 3, 3)
