"""A patch model on frozen DINOv2 beside another net: exact in every window, fitted at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from patch_world import untrained

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.learn.patches import ChipRaster, PatchGrid, PatchPlan, embed, train_patches
from geopipe.learn.patches.head import logistic_regression
from geopipe.mapping.tile import score_window
from geopipe.nets.local import require_local
from geopipe.raster import Scene
from geopipe.raster.chips import ChipFolder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def joined(design, scheme):
    return untrained(replace(design, backbone="efficientnet_lite0+dinov2_vits14"), scheme)


def test_attention_looks_at_patches_of_the_global_grid_alone(joined, mosaic):
    """So any window gives the scores that a larger one gives there."""
    require_local(joined.net)
    scene = Scene.open(mosaic[0])
    large = Window(32, 32, 96, 96)
    (whole,) = score_window(joined, scene, large)
    assert whole.std() > 1e-3
    for part in (Window(64, 80, 32, 48), Window(37, 71, 20, 50)):
        (scores,) = score_window(joined, scene, part)
        rows = slice(part.row - large.row, part.row - large.row + part.height)
        cols = slice(part.col - large.col, part.col - large.col + part.width)
        assert np.allclose(scores.numpy(), whole[:, rows, cols].numpy(), atol=1e-4)


def test_a_frozen_model_learns_its_last_layer_alone(joined, chips, tmp_path):
    rasters = [
        ChipRaster(c, 3, joined.scheme.id_of(c.class_name)) for c in ChipFolder.open(chips).chips
    ]
    patches = PatchGrid.of(rasters[::2], 16)
    plan = PatchPlan(steps=3, batch=20, backbone_lr=0.0)
    trained, history = train_patches(
        joined, patches, plan, out=tmp_path / "m.model", key="k", provenance={}
    )
    before, after = joined.net.base.backbone.state_dict(), trained.net.base.backbone.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert history.losses[-1] < 0.5
    seen = embed(trained, "digest", patches.subset(np.arange(0, len(patches), 15)))
    best = seen.summed(trained.net.base.weights).argmax(1)
    assert (best == patches.ids[::15]).mean() > 0.8


def test_the_last_layer_is_the_minimum_of_its_objective():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    ids = np.repeat([0, 1, 3], (60, 20, 40))  # classes count alike; of class 2 there is none
    x = rng.normal(size=(120, 6)) + np.eye(6)[ids]
    weight, bias, _ = logistic_regression(
        torch.from_numpy(x).float(), torch.from_numpy(ids), 4, penalty=0.05
    )
    counts = np.bincount(ids)[ids]
    oracle = LogisticRegression(C=1 / 0.05, tol=1e-8, max_iter=2000)
    oracle.fit(x, ids, sample_weight=1 / (3 * counts))
    scores = x @ weight.numpy().T + bias.numpy()
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert p[:, 2].max() < 0.02
    assert np.allclose(p[:, [0, 1, 3]], oracle.predict_proba(x), atol=0.02)


def test_features_of_another_model_are_refused(model, chips, tmp_path):
    patches = PatchGrid.of([ChipRaster(ChipFolder.open(chips).chips[0], 3)], 16)
    embed(model, "one", patches, cache=tmp_path / "one")
    embed(model, "two", patches, cache=tmp_path / "two")
    (own,), (other,) = ((tmp_path / k).glob("*.safetensors") for k in ("one", "two"))
    own.write_bytes(other.read_bytes())
    with pytest.raises(SceneError, match="another model or backbone"):
        embed(model, "one", patches, cache=tmp_path / "one")
