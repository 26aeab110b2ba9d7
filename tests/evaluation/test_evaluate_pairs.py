"""Pairs of masks as people have them, whole scenes of 3000 x 3000, against scikit-learn."""

import json
from functools import cache

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
)

from geopipe.classes import load_scheme
from geopipe.cli import main
from geopipe.evaluation.map_accuracy import evaluate_map

TWO = load_scheme("buildings")
PLANE = Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)
SIDE = 3000


@cache
def masks(side=SIDE):
    """(map, truth): 0 and 1; boxes, and the same boxes shifted, with some lost."""
    rng = np.random.default_rng(5)
    found, truth = np.zeros((2, side, side), np.uint8)
    for row, col, height, width in rng.integers(20, side // 10, (60, 4)) * [9, 9, 1, 1]:
        truth[row : row + height, col : col + width] = 1
        if rng.random() < 0.8:
            found[row + 7 : row + height, col : col + width + 5] = 1
    return found, truth


@cache
def expected(side=SIDE):
    mapped, truth = (a.ravel() for a in masks(side))
    return {
        "overall_accuracy": accuracy_score(truth, mapped),
        "mean_iou": jaccard_score(truth, mapped, average="macro"),
        "mean_f1": f1_score(truth, mapped, average="macro"),
        "kappa": cohen_kappa_score(truth, mapped),
        "matrix": confusion_matrix(truth, mapped).tolist(),
    }


def assert_agrees(found, side=SIDE):
    assert found["ignored"] == 0
    assert found["pixels"] == side * side
    oracle = expected(side)
    assert found["matrix"] == oracle["matrix"]
    for name in ("overall_accuracy", "mean_iou", "mean_f1", "kappa"):
        assert found[name] == pytest.approx(oracle[name], abs=1e-12), name


def png(path, ids, mode=None):
    image = Image.fromarray(ids)
    (image.convert(mode) if mode else image).save(path, compress_level=1)
    return path


def tif(path, ids, **profile):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=ids.shape[0],
        width=ids.shape[1],
        count=1,
        dtype=ids.dtype,
        **profile,
    ) as out:
        out.write(ids, 1)
    return path


PLACED = {"crs": "EPSG:32631", "transform": PLANE}
WAYS = {
    "png": png,
    "tif": tif,
    "tiled tif": lambda p, a: tif(p, a, tiled=True, compress="deflate"),
    "placed tif": lambda p, a: tif(p, a, **PLACED),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("way", "other", "high", "low"),
    [
        ("png", "png", 255, 255),
        ("png", "png", 1, 1),
        ("png", "png", 255, 1),
        ("png", "tif", 255, 255),
        ("png", "tif", 1, 255),
        ("tif", "png", 255, 1),
        ("tiled tif", "tif", 1, 1),
        ("placed tif", "png", 255, 255),
        ("png", "placed tif", 1, 255),
        ("placed tif", "placed tif", 255, 255),
        ("placed tif", "placed tif", 1, 255),
    ],
)
def test_whole_scenes_agree_with_scikit_learn(tmp_path, way, other, high, low):
    mapped, truth = masks()
    suffixes = [".png" if w == "png" else ".tif" for w in (way, other)]
    m = WAYS[way](tmp_path / f"map{suffixes[0]}", mapped * np.uint8(high))
    t = WAYS[other](tmp_path / f"truth{suffixes[1]}", truth * np.uint8(low))
    words = ["evaluate", str(m), str(t), "--classes", "buildings", "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert_agrees(json.loads(done.stdout))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", ["1 bit", "palette", "grey and alpha", "16 bits", "int32"])
def test_other_ways_to_store_a_mask(tmp_path, kind):
    mapped, truth = masks(600)
    m = png(tmp_path / "map.png", mapped * np.uint8(255))
    t = tmp_path / "truth.png"
    if kind == "1 bit":
        png(t, truth * np.uint8(255), "1")
    elif kind == "palette":
        image = Image.fromarray(truth, "P")
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(t)
    elif kind == "grey and alpha":
        png(t, truth * np.uint8(255), "LA")
    elif kind == "16 bits":
        tif(t.with_suffix(".tif"), truth.astype(np.uint16))
    else:
        tif(t.with_suffix(".tif"), truth.astype(np.int32) * 255)
    found = evaluate_map(m, t if t.exists() else t.with_suffix(".tif"), scheme=TWO)
    assert_agrees(found.to_dict(), 600)


def test_a_mask_on_other_pixels(tmp_path):
    """255 must not pass for nodata there: the truth would be one without a building."""
    mapped, truth = masks(600)
    m = tif(tmp_path / "m.tif", mapped * np.uint8(255), **PLACED)
    finer = np.pad(np.kron(truth, np.ones((2, 2), np.uint8)), 8)
    plane = PLANE * Affine.translation(-4, -4) * Affine.scale(0.5)
    t = tif(tmp_path / "t.tif", finer * np.uint8(255), crs="EPSG:32631", transform=plane)
    assert_agrees(evaluate_map(m, t, scheme=TWO).to_dict(), 600)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_is_transparent_in_a_mask_is_not_class_1(tmp_path):
    mapped, truth = masks(600)
    m = png(tmp_path / "m.png", mapped * np.uint8(255))
    alpha = np.full_like(truth, 255)
    alpha[:50] = 0
    Image.fromarray(np.dstack([truth * np.uint8(255), alpha]), "LA").save(tmp_path / "t.png")
    found = evaluate_map(m, tmp_path / "t.png", scheme=TWO)
    assert found.ignored == 50 * 600
    oracle = confusion_matrix(truth[50:].ravel(), mapped[50:].ravel())
    np.testing.assert_array_equal(found.matrix, oracle)


def test_a_declared_255_stays_nodata(tmp_path):
    mapped, truth = masks(600)
    m = tif(tmp_path / "m.tif", mapped, **PLACED)
    t = tif(tmp_path / "t.tif", truth * np.uint8(255), nodata=255, **PLACED)
    found = evaluate_map(m, t, scheme=TWO)
    assert found.ignored == truth.sum()
    assert found.matrix[1].sum() == 0


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mask_may_be_all_of_class_1(tmp_path):
    mapped, _ = masks(600)
    m = png(tmp_path / "m.png", mapped * np.uint8(255))
    t = png(tmp_path / "t.png", np.full((600, 600), 255, np.uint8))
    found = evaluate_map(m, t, scheme=TWO)
    assert found.matrix.tolist() == [[0, 0], [(mapped == 0).sum(), mapped.sum()]]
