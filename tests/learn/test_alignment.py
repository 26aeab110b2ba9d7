"""Aligning a target's features: what it undoes, and what class shares do to it."""

import numpy as np
import pytest

from geopipe.learn.transfer import SourceSamples, TargetSamples, standardized
from geopipe.learn.transfer.alignment import SHARE, FeatureAlignment

RNG = np.random.default_rng(0)
CENTRES = np.array([[0, 0, 5.0, 0], [5, 0, 0, 0], [0, 5, 0, 0]])


def samples(ids, scale=1.0, offset=0.0):
    """Clusters, one per class, as a sensor with other units sees them; the last dimension is 0."""
    x = CENTRES[ids] + RNG.normal(0, 0.5, (len(ids), 4)) * [1, 1, 1, 0]
    return (x * scale + offset).astype(np.float32)


def world(shares, scale, offset):
    ids = np.repeat([0, 1, 2], 400)
    source = SourceSamples(samples(ids), np.eye(3)[ids], ids, np.arange(1200) % 4 == 0)
    target_ids = np.repeat([0, 1, 2], shares)
    return source, TargetSamples(samples(target_ids, scale, offset), np.eye(3)[target_ids])


@pytest.mark.parametrize("shares", [(300, 300, 300), (800, 60, 40)])
def test_a_share_of_a_shift_is_undone_whatever_the_class_shares(shares):
    alignment = FeatureAlignment.of(*world(shares, 1.0, 2.0))
    assert np.allclose(alignment.scale, 1, atol=0.05)
    assert np.allclose(alignment.offset[:3], -2 * SHARE, atol=0.15)


def test_a_target_without_a_shift_stays_although_its_classes_are_few():
    alignment = FeatureAlignment.of(*world((800, 60, 40), 1.0, 0.0))
    assert np.allclose(alignment.scale, 1, atol=0.05)
    assert np.abs(alignment.offset).max() < 0.15


def test_the_last_layer_takes_the_alignment_in(make_patch_model, tmp_path):
    model = make_patch_model
    net = model.net.base
    width = net.head.in_features
    alignment = FeatureAlignment(
        RNG.uniform(0.5, 2, width).astype(np.float32), RNG.normal(size=width).astype(np.float32)
    )
    import torch

    features = torch.from_numpy(RNG.normal(size=(5, width)).astype(np.float32))
    moved = features * torch.from_numpy(alignment.scale) + torch.from_numpy(alignment.offset)
    aligned = alignment.applied(model)
    with torch.no_grad():
        expected, given = net.head(moved), aligned.net.base.head(features)
    assert torch.allclose(given, expected, atol=1e-3)
    assert aligned.provenance["aligned"]["share"] == SHARE
    assert not torch.equal(net.head.weight, aligned.net.base.head.weight)


@pytest.fixture
def make_patch_model():
    """A patch model with random weights."""
    from geopipe.learn.patches.model import PatchModelSpec, named_scheme

    spec = PatchModelSpec(weights="random:0", sizes=(16, 32), cell=16, side=32, segments=False)
    model = spec.model(named_scheme(("a", "b", "c")))
    import torch

    with torch.no_grad():
        model.net.base.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return model


def test_standardized_features_have_the_sources_unit_and_no_constant_counts():
    source, target = standardized(*world((100, 100, 100), 1.0, 3.0))
    learnt = source.features[~source.held_out]
    assert np.allclose(learnt[:, :3].mean(0), 0, atol=1e-5)
    assert np.allclose(learnt[:, :3].std(0), 1, atol=1e-4)
    assert (source.features[:, 3] == 0).all()
    assert target.features[:, :3].mean(0).min() > 0.5  # its own statistics are left alone
