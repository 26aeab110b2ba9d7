"""Both trainings on tiny scenes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.classes import load_scheme
from geopipe.errors import ConfigError
from geopipe.grid import NetworkGrid, Window
from geopipe.learn import (
    BaseNetworkPlan,
    RefinementPlan,
    build_pool,
    train_base_network,
    train_refinement,
)
from geopipe.learn import base_network as base_module
from geopipe.learn import loop as fit_module
from geopipe.learn import refinement as refine_module
from geopipe.learn.refinement import _prepare
from geopipe.mapping.tile import best_class, score_window
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEME = load_scheme("buildings")
COARSE = BaseNetworkPlan(steps=7, batch=2, patch=16, precision="float32")
REFINE = RefinementPlan(steps=7, batch=2, patch=16, iterations=3, precision="float32")
SIDE = 72


@pytest.fixture(scope="module")
def site(tmp_path_factory, make_raster_at, array_labels):
    """A scene of light squares on dark ground, at one metre, and labels that say so."""
    rng = np.random.default_rng(0)
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[12:36, 8:40] = ids[44:64, 36:64] = 1
    data = np.where(ids == 1, 190, 60)[None] + rng.normal(0, 12, (3, SIDE, SIDE))
    path = tmp_path_factory.mktemp("site") / "scene.tif"
    scene = Scene.open(make_raster_at(path, data.clip(0, 255).astype(np.uint8)))
    return scene, array_labels(SCHEME, scene.geobox, ids, "the mapper")


@pytest.fixture(scope="module")
def pools(site):
    """``pools(halo)``"""
    scene, labels = site
    grid = NetworkGrid.of(scene.geobox, 1.0)
    return lambda halo: build_pool(scene, labels, grid, halo=halo, patch=16, seed=0)


@pytest.fixture(scope="module")
def untrained():
    """A base model with random weights, frozen."""
    torch.manual_seed(1)
    net = SegmentationModel(MnihCNN(3, 2)).eval().requires_grad_(False)
    return Checkpoint(net, SCHEME, (90.0,) * 3, (60.0,) * 3, "uint8", 1.0, {"credit": "another"})


def coarse(pools, out, plan=COARSE, **options):
    options = {"dtype": "uint8", "gsd": 1.0, "key": "k", **options}
    return train_base_network(pools(32), SCHEME, plan, out=out, **options)


@pytest.fixture
def refinement(untrained):
    def train(pools, out, plan=REFINE, **options):
        return train_refinement(untrained, pools(36), plan, out=out, **{"key": "k", **options})

    return train


@pytest.fixture(params=["base", "refinement"])
def training(request, refinement):
    return {
        "base": (coarse, base_module),
        "refinement": (refinement, refine_module),
    }[request.param]


@pytest.fixture
def kill(monkeypatch):
    """``kill(train, module, pools, out, at=step)``: a training killed right before that step."""
    monkeypatch.setattr(fit_module, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(fit_module, "RECORD_EVERY", 2)

    def run(train, module, pools, out, at):
        fit = module.fit

        def mortal(net, loss, *args, **options):
            def until(step):
                if step == at:
                    raise KeyboardInterrupt
                return loss(step)

            return fit(net, until, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, "fit", mortal)
            with pytest.raises(KeyboardInterrupt):
                train(pools, out)
        assert [p.name for p in out.parent.glob(out.stem + "*")] == [out.name + ".resume"]

    return run


def assert_same(a, b):
    one, two = a.net.state_dict(), b.net.state_dict()
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_a_resumed_training_ends_bit_for_bit_the_same(training, pools, tmp_path, kill):
    train, module = training
    whole, record = train(pools, tmp_path / "whole.model")
    out = tmp_path / "out.model"
    kill(train, module, pools, out, at=5)
    resumed, again = train(pools, out)
    assert again.resumed_at == 4
    assert_same(resumed, whole)
    assert (again.steps, again.losses) == (record.steps, record.losses)
    assert out.read_bytes() == (tmp_path / "whole.model").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.model", "whole.model"]


def test_another_key_starts_anew(training, pools, tmp_path, kill):
    train, module = training
    whole, _ = train(pools, tmp_path / "whole.model")
    kill(train, module, pools, tmp_path / "out.model", at=5)
    other, record = train(pools, tmp_path / "out.model", key="other")
    assert record.resumed_at == 0
    assert_same(other, whole)


def test_the_seed_decides(training, pools, tmp_path):
    train, _ = training
    plan = replace(COARSE if train is coarse else REFINE, steps=2)
    models = [
        train(pools, tmp_path / f"{i}.model", replace(plan, seed=seed))[0]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert_same(models[0], models[1])
    with pytest.raises(AssertionError):
        assert_same(models[0], models[2])


def test_global_randomness_is_neither_used_nor_moved(training, pools, tmp_path):
    train, _ = training
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, _ = train(pools, tmp_path / "1.model")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    two, _ = train(pools, tmp_path / "2.model")
    assert_same(one, two)


def test_what_is_saved_is_what_is_returned(training, pools, tmp_path):
    train, _ = training
    model, _ = train(pools, tmp_path / "m.model")
    loaded = Checkpoint.load(tmp_path / "m.model")
    assert_same(model, loaded)
    assert not model.net.training
    assert not any(p.requires_grad for p in model.net.parameters())
    name = "base" if train is coarse else "refinement"
    assert loaded.provenance[name]["steps"] == 7
    assert sum(loaded.provenance[name]["labelled_pixels"]) == SIDE * SIDE
    assert "the mapper" in loaded.provenance["credit"]


def test_the_refinement_leaves_the_coarse_net_and_the_given_model_alone(
    untrained, pools, refinement, tmp_path
):
    before = {k: v.clone() for k, v in untrained.net.state_dict().items()}
    model, _ = refinement(pools, tmp_path / "m.model")
    assert model.net.iterations == 3
    for name, value in untrained.net.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(model.net.state_dict()[name], before[name])
    assert untrained.net.postprocessor is None
    assert untrained.provenance == {"credit": "another"}
    assert model.provenance["credit"] == "another; the mapper"


def test_checks_are_recorded_and_do_not_steer(training, pools, tmp_path):
    train, _ = training
    seen = []

    def check(model):
        seen.append(model)
        return float(len(seen))

    model, record = train(pools, tmp_path / "a.model", check=check, check_every=3)
    assert record.checks == [(3, 1.0), (6, 2.0), (7, 3.0)]
    assert_same(model, train(pools, tmp_path / "b.model")[0])


def test_a_robust_loss_follows_a_quarter_of_cross_entropy(pools, tmp_path, monkeypatch):
    """A random net is sure and wrong, where a robust loss is flat."""
    losses = []
    for name in ("generalised_cross_entropy", "labelled_cross_entropy"):
        real = getattr(base_module, name)

        def noted(*args, name=name, real=real):
            losses.append((name[0], *args[2:]))
            return real(*args)

        monkeypatch.setattr(base_module, name, noted)
    coarse(pools, tmp_path / "a.model", replace(COARSE, steps=8, robust=0.7))
    shards = COARSE.batch
    assert losses == [("l", None)] * 2 * shards + [("g", 0.7, None)] * 6 * shards


def test_a_learning_rate_that_blows_up_is_an_error(pools, tmp_path):
    plan = BaseNetworkPlan(steps=30, batch=1, patch=16, lr=1e9, precision="float32")
    with pytest.raises(ConfigError, match="lower the learning rate"):
        coarse(pools, tmp_path / "a.model", plan)
    assert not (tmp_path / "a.model").exists()


def test_the_refinement_is_trained_on_the_scores_of_the_map(site, pools, untrained):
    """Block by block, image and base scores are those that mapping will see."""
    torch.manual_seed(0)
    net = SegmentationModel(untrained.net.base, RefinementRNN(3, 2, iterations=3)).eval()
    model = untrained.with_net(net, {})
    (block,) = pools(net.halo).blocks
    image, scores, labels = _prepare(model, block, "cpu")
    assert image.shape[-2:] == scores.shape[-2:] == (SIDE + 12, SIDE + 12)
    assert labels.shape == (SIDE, SIDE)
    window = Window(0, 0, SIDE, SIDE)
    base_map, refined_map = score_window(model, site[0], window, iterations=(0, 3))
    torch.testing.assert_close(scores[:, 6:-6, 6:-6], base_map, rtol=0, atol=1e-5)
    with torch.inference_mode():
        refined = net.postprocessor(scores[None], image[None])[0]
    torch.testing.assert_close(refined, refined_map, rtol=0, atol=1e-5)


def accuracy(model, scene, ids):
    (scores,) = score_window(model, scene, Window(0, 0, SIDE, SIDE))
    return (best_class(scores).numpy() == ids).mean()


def test_two_colours_are_learnt_and_their_edges_sharpened(site, pools, tmp_path):
    scene, labels = site
    plan = BaseNetworkPlan(steps=40, batch=6, patch=24, lr=0.003, jitter=0, precision="float32")
    model, record = coarse(pools, tmp_path / "coarse.model", plan)
    rough = accuracy(model, scene, labels.ids)
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert rough > 0.85
    plan = RefinementPlan(steps=40, batch=4, patch=24, jitter=0, precision="float32")
    refined, _ = train_refinement(model, pools(40), plan, out=tmp_path / "refined.model", key="k")
    fine = accuracy(refined, scene, labels.ids)
    assert 1 - fine < 0.5 * (1 - rough)
    assert fine > 0.97


def test_labels_that_are_all_but_unknown_still_train(site, array_labels, tmp_path, monkeypatch):
    """Two labelled pixels: patches without any cost 0, and no step becomes NaN."""
    monkeypatch.setattr(fit_module, "RECORD_EVERY", 1)
    scene, labels = site
    ids = np.full_like(labels.ids, 255)
    ids[20, 20], ids[2, 2] = 1, 0
    pool = build_pool(
        scene,
        array_labels(SCHEME, scene.geobox, ids),
        NetworkGrid.of(scene.geobox, 1.0),
        halo=32,
        patch=16,
        seed=0,
    )
    model, record = train_base_network(
        pool, SCHEME, COARSE, dtype="uint8", gsd=1.0, out=tmp_path / "a.model", key="k"
    )
    assert min(record.losses) > 0
    plan = RefinementPlan(steps=20, batch=1, patch=16, iterations=1, precision="float32")
    refined, record = train_refinement(model, pool, plan, out=tmp_path / "b.model", key="k")
    assert min(record.losses) == 0 < max(record.losses)
    assert np.isfinite(record.losses).all()
    assert all(torch.isfinite(p).all() for p in refined.net.parameters())
