"""Probabilities that mean something: temperature, folds, and reliability, by construction."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE, load_scheme
from geopipe.errors import CheckpointError
from geopipe.evaluation.reliability import map_reliability
from geopipe.learn import PatchPool
from geopipe.learn import calibration as module
from geopipe.learn.calibration import (
    HeldOut,
    calibrated,
    cross_fitted,
    fit_temperature,
    held_out_scores,
)
from geopipe.learn.sampler import PoolBlock
from geopipe.mapping.tile import _levels, best_class
from geopipe.reliability import Reliability, ReliabilityTable

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEME = load_scheme("buildings-roads")


def drawn(temperature, n=60_000, seed=0):
    """Scores that are too sure by a factor, and ids drawn from what they should have said."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3))
    edges = softmax(logits, axis=1).cumsum(1)
    ids = (rng.random((n, 1)) > edges[:, :2]).sum(1)
    return HeldOut((logits * temperature).astype(np.float32), ids.astype(np.uint8))


def reliability_of(held_out, temperature=1.0):
    probabilities = softmax(held_out.scores / temperature, axis=1)
    return Reliability.of(probabilities.max(1), probabilities.argmax(1) == held_out.ids)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.5])
def test_a_known_miscalibration_is_recovered(temperature):
    held_out = drawn(temperature)
    fitted = fit_temperature(held_out)
    assert fitted == pytest.approx(temperature, rel=0.03)
    new = drawn(temperature, seed=1)
    assert reliability_of(new, fitted).ece < 0.01
    if temperature != 1:
        assert reliability_of(new).ece > 0.05


def test_a_temperature_changes_no_class_and_gives_the_probability():
    scores = torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0)) * 5
    for temperature in (0.5, 4.0):
        levels = _levels(scores, temperature)
        expected = np.rint(250 * softmax(scores.numpy() / temperature, axis=0))
        assert np.abs(levels.numpy().astype(int) - expected).max() <= 1
        ids = best_class(scores).long()
        assert torch.equal(levels.gather(0, ids[None])[0], levels.amax(0))
    assert torch.equal(_levels(scores, 1.0), _levels(scores, 1.0 + 1e-9))


def test_a_file_keeps_the_temperature(make_model, tmp_path):
    model = calibrated(make_model(iterations=0), drawn(2.0))
    model.save(tmp_path / "m.safetensors")
    loaded = Checkpoint.load(tmp_path / "m.safetensors")
    assert loaded.temperature == model.temperature == pytest.approx(2, rel=0.03)
    assert loaded.provenance["calibration"]["pixels"] == 60_000
    for value in (0.0, -1.0, float("inf")):
        replace(model, temperature=value).save(tmp_path / "bad.safetensors")
        with pytest.raises(CheckpointError, match="temperature"):
            Checkpoint.load(tmp_path / "bad.safetensors")


@pytest.fixture
def pool():
    """A block of 3 x 200 x 120 px with a halo of 32; each label is its own pixel's."""
    ids = np.random.default_rng(0).integers(0, 3, (200, 120)).astype(np.uint8)
    image = np.pad(ids, 32).astype(np.float32)[None].repeat(3, 0)
    block = PoolBlock(image, np.ones(image.shape[1:], bool), ids)
    at = [np.argwhere(ids == k) for k in range(3)]
    positions = tuple(np.insert(a, 0, 0, axis=1).astype(np.int32) for a in at)
    return PatchPool((block,), 32, 3, 1.0, positions)


def test_each_half_is_scored_by_a_network_that_did_not_see_it(pool, make_model, monkeypatch):
    model, trained_on = make_model(iterations=0), []

    def train(half):
        trained_on.append(half.blocks[0].labels != IGNORE)
        for k, at in enumerate(half.positions):
            assert all(half.blocks[0].labels[r, c] == k for _, r, c in at)
        return model

    scored = []
    original = module.scored

    def spied(of, half):
        scored.append(half.blocks[0].labels != IGNORE)
        return original(of, half)

    monkeypatch.setattr(module, "scored", spied)
    held_out = held_out_scores(cross_fitted(pool, train))
    for seen, tested in zip(trained_on, scored, strict=True):
        assert not (seen & tested).any()
    both = sum(x.astype(int) for x in scored)
    assert both.max() == 1
    assert both.sum() == (200 - 2 * module._GAP_PX) * 120 == len(held_out.ids)
    block = pool.blocks[0]
    image = model.normalize(torch.from_numpy(block.image), torch.from_numpy(block.valid))
    with torch.no_grad():
        whole = model.net(image[None])[0].numpy()
    expected = np.sort(whole[:, both == 1].ravel())
    np.testing.assert_allclose(np.sort(held_out.scores.ravel()), expected, rtol=1e-4, atol=1e-4)


def test_a_tile_whose_half_lacks_a_class_is_not_calibrated(pool, caplog):
    ids = pool.blocks[0].labels
    ids[100:][ids[100:] == 2] = 0
    positions = tuple(np.insert(np.argwhere(ids == k), 0, 0, axis=1) for k in range(3))
    assert cross_fitted(replace(pool, positions=positions), lambda *_: None) == []
    assert "too small to calibrate" in caplog.text


def test_reliability_of_a_map_is_counted_over_known_pixels(make_raster):
    """14 of 18 columns of the pixels of 0.9 are right, and 8 of 18 of those of 0.4."""
    ids, truth = np.ones((20, 20), np.uint8), np.ones((20, 20), np.uint8)
    levels = np.full((20, 20), 225, np.uint8)
    levels[10:] = 100
    truth[:10, :4] = 0
    truth[10:, :10] = 2
    truth[:, 18:] = IGNORE
    levels[:, 19] = IGNORE
    paths = [
        make_raster(data[None], name=f"{name}.tif", nodata=255)
        for name, data in (("ids", ids), ("levels", levels), ("truth", truth))
    ]
    result = map_reliability(*paths, SCHEME)
    assert result.pixels[9] == result.pixels[4] == 180
    assert sum(result.pixels) == 360
    assert result.confidence[9] == pytest.approx(0.9)
    assert result.accuracy[9] == pytest.approx(14 / 18)
    assert result.accuracy[4] == pytest.approx(8 / 18)
    assert result.ece == pytest.approx((0.9 - 14 / 18) / 2 + (8 / 18 - 0.4) / 2)
    table = ReliabilityTable.model_validate_json(json.dumps(result.to_dict()))
    assert Reliability.from_table(table) == result
