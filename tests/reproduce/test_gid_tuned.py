"""Ways to adapt a fine-tuned network do what they are called after."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from geopipe.learn.patches import patch_net
from geopipe.learn.patches.model import PatchModelSpec
from reproduce.gid import data
from reproduce.gid import tuned_methods as tuned
from reproduce.gid.tuned_methods import Images, Tuned

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 32


def images(seed, gamma=1.0):
    """Ten cells of two sizes; `gamma` changes the light."""
    rng = np.random.default_rng(seed)
    pixels = 255 * rng.beta(2, 3, (10, 2, 3, SIDE, SIDE)) ** gamma
    ids = np.arange(10) % 5
    return Images(torch.from_numpy(pixels).half(), ids, np.arange(10), np.arange(10))


@pytest.fixture(scope="module")
def case():
    design = PatchModelSpec(weights="random:0", sizes=(56, 112), side=SIDE)
    train, look = np.arange(10) < 5, np.arange(10) < 6
    return Tuned(design.model(data.scheme()), images(0), images(1, gamma=0.5), train, look, 0)


def seen(monkeypatch):
    """What `predicted` is given: networks and images."""
    given = []

    def predicted(t, net, patches):
        given.append((net, patches))
        return np.zeros(len(patches), int)

    monkeypatch.setattr(tuned, "predicted", predicted)
    return given


def test_matched_histograms_undo_a_change_of_light(case, monkeypatch):
    given = seen(monkeypatch)
    tuned.matched_histograms(case, np.arange(6))
    ((_, moved),) = given
    changed = case.test.float()
    assert abs(changed.mean() - case.source.patches.float().mean()) > 20
    difference = (moved - 255 * (changed / 255) ** 2).abs()
    assert difference.mean() < 3


def test_adaptive_norm_takes_its_share_of_the_targets_statistics(case, monkeypatch):
    given = seen(monkeypatch)
    for share in (0.0, 0.25, 1.0):
        tuned.adapted_norm(case, np.arange(6), share)
    norms = [
        [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        for net in (patch_net(case.model), *(net for net, _ in given))
    ]
    before, none, quarter, full = ([m.running_mean for m in layers] for layers in norms)
    assert all(map(torch.equal, before, none))
    assert not any(map(torch.equal, before, full))
    for old, part, new in zip(before, quarter, full, strict=True):
        torch.testing.assert_close(part, old + 0.25 * (new - old), rtol=1e-4, atol=1e-4)
    assert not any(m.training for layers in norms for m in layers)


@pytest.mark.parametrize("method", tuned.TRAINED.values())
def test_a_copy_learns(case, monkeypatch, method):
    monkeypatch.setattr(tuned, "STEPS", 2)
    monkeypatch.setattr(tuned, "_selected", one_sample)
    before = {k: v.clone() for k, v in patch_net(case.model).state_dict().items()}
    given = seen(monkeypatch)
    method(case, np.arange(6))
    ((net, patches),) = given
    assert torch.equal(patches, case.test)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(before[k], v)}
    assert {"head.weight", "backbone.blocks.head.conv.weight"} <= changed
    only_last = "backbone.blocks.stem.conv.weight" not in changed
    assert only_last == (method is tuned.last_blocks)
    after = patch_net(case.model).state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def one_sample(t, cells):
    """The first of the cells is kept."""
    return SimpleNamespace(selected=np.array([0]), labels=np.array([1])), np.unique(cells)


def test_the_teacher_follows_each_step(case, monkeypatch):
    """After one step it has gone 1 - decay of the way that the student has."""
    given, students = seen(monkeypatch), []
    trained = tuned._trained

    def kept(*args, **options):
        students.append(trained(*args, **options))
        return students[-1]

    monkeypatch.setattr(tuned, "_trained", kept)
    monkeypatch.setattr(tuned, "STEPS", 1)
    tuned.mean_teacher(case, np.arange(6))
    start = patch_net(case.model).head.weight
    way = students[0].head.weight - start
    torch.testing.assert_close(given[0][0].head.weight - start, (1 - tuned._DECAY) * way)
    assert way.abs().max() > 0
