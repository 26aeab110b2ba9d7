"""A net trained elsewhere is trained on where it is to work."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import load_backbone
from geopipe.classes import IGNORE, load_scheme
from geopipe.errors import ConfigError
from geopipe.grid import NetworkGrid, Window
from geopipe.learn import BaseNetworkPlan, build_pool, train_base_network
from geopipe.learn import loop as fit_module
from geopipe.learn.calibration import _half
from geopipe.learn.fine_tuning import FineTuningPlan, fine_tune
from geopipe.learn.loss import core_cross_entropy
from geopipe.learn.refinement import _prepare
from geopipe.learn.sampler import _blocks
from geopipe.learn.start import StartModel
from geopipe.mapping.tile import best_class, score_window
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel, UNet, build_base_network
from geopipe.nets.liteunet import BACKBONE, LiteUNet
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEME = load_scheme("buildings")
SIDE = 72
PLAN = FineTuningPlan(steps=6, batch=2, patch=16, precision="float32")


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_raster_at):
    """A scene of light squares on dark ground, at one metre, and which pixels they are."""
    rng = np.random.default_rng(0)
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[12:36, 8:40] = ids[44:64, 36:64] = 1
    data = np.where(ids == 1, 190, 60)[None] + rng.normal(0, 12, (3, SIDE, SIDE))
    path = tmp_path_factory.mktemp("site") / "scene.tif"
    return Scene.open(make_raster_at(path, data.clip(0, 255).astype(np.uint8))), ids


@pytest.fixture(scope="module")
def pool_of(place, array_labels):
    """``pool_of(net, ids)``: a pool for the net with labels that say `ids`."""
    scene, truth = place

    def pool(net, ids=truth):
        labels = array_labels(SCHEME, scene.geobox, ids, "the mapper")
        grid = NetworkGrid.of(scene.geobox, 1.0)
        return build_pool(scene, labels, grid, halo=net.halo, stride=net.stride, patch=16, seed=0)

    return pool


def untrained(coarse, **fields):
    fields = {"provenance": {"credit": "another", "base": {"steps": 1}}, **fields}
    net = SegmentationModel(coarse).eval().requires_grad_(False)
    return Checkpoint(net, SCHEME, (90.0,) * 3, (60.0,) * 3, "uint8", 1.0, **fields)


NETS = {
    "cnn": lambda: MnihCNN(3, 2),
    "unet": lambda: UNet(3, 2, base=4, depth=2),
    "lite-unet": lambda: LiteUNet(3, 2),
}


@pytest.fixture(params=NETS)
def model(request):
    torch.manual_seed(1)
    return untrained(NETS[request.param]())


def tuned(model, pool, out, plan=PLAN, **options):
    return fine_tune(model, pool, plan, out=out, **{"key": "k", **options})


def weights(model):
    return {k: v.clone() for k, v in model.net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_given_model_and_stored_statistics_stay(model, pool_of, tmp_path):
    before = weights(model)
    made, record = tuned(model, pool_of(model.net), tmp_path / "a.model")
    assert same(weights(model), before)
    assert not any(p.requires_grad for p in model.net.parameters())
    learnt = {k for k, v in weights(made).items() if not torch.equal(v, before[k])}
    parameters = {k for k, _ in model.net.named_parameters()}
    assert learnt == parameters, "all that is learnt is learnt on, statistics are not"
    assert record.steps == [6]
    assert not made.net.training
    assert not any(p.requires_grad for p in made.net.parameters())
    assert (made.mean, made.std, made.gsd) == (model.mean, model.std, model.gsd)
    loaded = Checkpoint.load(tmp_path / "a.model")
    assert same(weights(loaded), weights(made))
    assert loaded.provenance["finetuning"]["steps"] == 6
    assert sum(loaded.provenance["finetuning"]["labelled_pixels"]) == SIDE * SIDE
    assert (loaded.provenance["credit"], loaded.provenance["base"]) == (
        "another; the mapper",
        {"steps": 1},
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a.model"]


def test_the_seed_decides_and_checks_do_not(model, pool_of, tmp_path):
    pool, seen = pool_of(model.net), []

    def check(model):
        seen.append(model.net.training)
        return float(len(seen))

    one, _ = tuned(model, pool, tmp_path / "1")
    two, record = tuned(model, pool, tmp_path / "2", check=check, check_every=4)
    other, _ = tuned(model, pool, tmp_path / "3", replace(PLAN, seed=1))
    assert record.checks == [(4, 1.0), (6, 2.0)]
    assert seen == [False, False]
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))


@pytest.fixture
def kill(monkeypatch):
    """``kill(module, at, train)``: `train` is stopped right before step `at`."""
    monkeypatch.setattr(fit_module, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(fit_module, "RECORD_EVERY", 2)

    def run(module, at, train):
        fit = fit_module.fit

        def mortal(net, loss, *args, **options):
            def until(step):
                if step == at:
                    raise KeyboardInterrupt
                return loss(step)

            return fit(net, until, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(f"geopipe.learn.{module}.fit", mortal)
            with pytest.raises(KeyboardInterrupt):
                train()

    return run


def test_a_resumed_fine_tuning_ends_bit_for_bit_the_same(model, pool_of, tmp_path, kill):
    pool, out = pool_of(model.net), tmp_path / "out.model"
    whole, _ = tuned(model, pool, tmp_path / "whole.model")
    kill("fine_tuning", 5, lambda: tuned(model, pool, out))
    resumed, record = tuned(model, pool, out)
    assert record.resumed_at == 4
    assert same(weights(resumed), weights(whole))
    assert out.read_bytes() == (tmp_path / "whole.model").read_bytes()


def test_a_refined_model_is_refused(pool_of, tmp_path):
    model = untrained(MnihCNN(3, 2))
    refined = replace(
        model, net=SegmentationModel(model.net.base, RefinementRNN(3, 2, iterations=1))
    )
    with pytest.raises(ConfigError, match="has a refinement"):
        tuned(refined, pool_of(refined.net), tmp_path / "a.model")
    assert list(tmp_path.iterdir()) == []


# A U-Net from nothing, and on


def train_unet(pool, out, **plan):
    plan = {"steps": 6, "batch": 2, "patch": 16, "precision": "float32", "jitter": 0, **plan}
    return train_base_network(
        pool,
        SCHEME,
        BaseNetworkPlan.of("unet", **plan),
        dtype="uint8",
        gsd=1.0,
        out=out,
        key="k",
        check=lambda model: float(model.net.training),
        check_every=3,
    )


@pytest.fixture
def small(monkeypatch):
    """U-Nets that workflows train are of base 4 and depth 2."""

    def build(bands, classes, net):
        return build_base_network(bands, classes, net, base=4, depth=2)

    monkeypatch.setattr("geopipe.learn.base_network.build_base_network", build)
    return SegmentationModel(UNet(1, 2, base=4, depth=2))


def test_a_u_net_that_is_looked_at_and_resumed_ends_the_same(small, pool_of, tmp_path, kill):
    pool, out = pool_of(small), tmp_path / "out.model"
    whole, record = train_unet(pool, tmp_path / "whole.model")
    assert record.checks == [(3, 0.0), (6, 0.0)], "looked at as it would map"
    kill("base_network", 5, lambda: train_unet(pool, out))
    resumed, record = train_unet(pool, out)
    assert record.resumed_at == 4
    assert same(weights(resumed), weights(whole))
    assert int(resumed.net.base.down[0].norms[0].num_batches_tracked) == 6
    assert Checkpoint.load(out).provenance["base"]["net"] == "unet"


def test_each_net_has_values_of_its_own_unless_others_are_chosen():
    assert BaseNetworkPlan.of("cnn", "paper") == BaseNetworkPlan()
    paper = BaseNetworkPlan()
    assert (paper.steps, paper.batch, paper.lr, paper.optimizer) == (1200, 64, 0.01, "sgd")
    assert not paper.cycle
    assert not paper.class_weighting
    short = BaseNetworkPlan.of()
    assert short == BaseNetworkPlan.of("cnn", "short")
    assert short.cycle
    assert short.class_weighting
    unet = BaseNetworkPlan(net="unet", steps=600, batch=16, optimizer="adamw", lr=1e-3)
    assert BaseNetworkPlan.of("unet") == BaseNetworkPlan.of("unet", "paper") == unet
    assert BaseNetworkPlan.of("unet", lr=0.1, steps=3).lr == 0.1
    assert BaseNetworkPlan.of("lite-unet").patch == 256
    assert FineTuningPlan.of("unet") == FineTuningPlan()
    paper = FineTuningPlan.of("lite-unet", "paper", steps=9)
    assert paper == FineTuningPlan(steps=9, batch=8, patch=128)
    for lite in (BaseNetworkPlan.of("lite-unet"), FineTuningPlan.of("lite-unet")):
        assert lite.cycle
        assert lite.warp
        assert not BaseNetworkPlan.of("lite-unet", "paper").cycle


def test_patches_of_a_fine_tuning_fit_the_tile():
    plan = FineTuningPlan(batch=2, patch=256)
    assert plan.fitted((300, 256)) == plan
    assert plan.fitted((250, 900)) == FineTuningPlan(batch=8, patch=128)


@pytest.mark.parametrize(
    ("labelled", "steps"), [(10**8, 600), (3_932_160, 600), (2_621_440, 400), (10**5, 200)]
)
def test_few_labels_are_not_learnt_from_for_long(labelled, steps):
    """40 passes of 4 patches of 256 px."""
    plan = BaseNetworkPlan.of()
    assert plan.bounded(labelled).steps == steps
    assert BaseNetworkPlan.of("cnn", "paper").bounded(labelled).steps == 1200
    assert BaseNetworkPlan.of(steps=7).bounded(labelled).steps == 7, "chosen steps stay"
    side = int(labelled**0.5)
    assert plan.fitted((side, side)).steps == pytest.approx(steps, abs=1)


def test_a_lite_unet_starts_from_imagenet(pool_of, tmp_path):
    """A step of no length leaves the weights that a package ships."""
    plan = BaseNetworkPlan.of("lite-unet", steps=1, batch=1, patch=16, lr=1e-30, weight_decay=0)
    pool = pool_of(SegmentationModel(LiteUNet(1, 2)))
    made, _ = train_base_network(
        pool, SCHEME, plan, dtype="uint8", gsd=1.0, out=tmp_path / "a.model", key="k"
    )
    known = load_backbone(BACKBONE)
    for name, block in made.net.base.down.items():
        for key, weight in block.named_parameters():
            torch.testing.assert_close(weight, known.blocks[name].get_parameter(key))
    assert isinstance(Checkpoint.load(tmp_path / "a.model").net.base, LiteUNet)


def accuracy(model, place):
    (scores,) = score_window(model, place[0], Window(0, 0, SIDE, SIDE))
    return (best_class(scores).numpy() == place[1]).mean()


def test_what_shifted_labels_spoil_fine_tuning_mends(small, place, pool_of, tmp_path):
    shifted = np.roll(place[1], (4, 4), (0, 1))
    model, _ = train_unet(pool_of(small, shifted), tmp_path / "a.model", steps=60, batch=6, lr=5e-3)
    before = accuracy(model, place)
    assert before < 0.96
    plan = FineTuningPlan(steps=50, batch=6, patch=16, lr=3e-3, jitter=0, precision="float32")
    mended, _ = tuned(model, pool_of(small), tmp_path / "b.model", plan)
    assert accuracy(mended, place) > 0.985


def test_a_refinement_of_a_u_net_is_trained_on_the_scores_of_the_map(place, pool_of, monkeypatch):
    """Blocks start on the net's stride, whatever it is: elsewhere it would see another phase."""
    monkeypatch.setattr("geopipe.learn.sampler.BLOCK_PX", 20)
    torch.manual_seed(0)
    model = untrained(UNet(3, 2, base=4, depth=3))
    refined = replace(
        model, net=SegmentationModel(model.net.base, RefinementRNN(3, 2, iterations=1)).eval()
    )
    blocks = pool_of(refined.net).blocks
    windows = list(_blocks((SIDE, SIDE), 8))
    (whole,) = score_window(model, place[0], Window(0, 0, SIDE, SIDE))
    for window, block in zip(windows, blocks, strict=True):
        _, scores, labels = _prepare(refined, block, "cpu")
        h, w = labels.shape
        expected = whole[(slice(None), *window.slices)]
        torch.testing.assert_close(scores[:, 2 : h + 2, 2 : w + 2], expected, rtol=0, atol=1e-5)
    assert len(blocks) == 16


def with_cores(pool):
    """`pool` with a core in the middle of every block."""
    blocks = []
    for block in pool.blocks:
        cores = np.zeros_like(block.labels)
        cores[16:32, 12:36] = 1
        blocks.append(replace(block, cores=cores))
    return replace(pool, blocks=tuple(blocks))


def test_a_lite_unet_scores_cores_where_there_are_labels_of_them(pool_of, tmp_path):
    plan = BaseNetworkPlan.of("lite-unet", steps=1, batch=1, patch=16)
    pool = pool_of(SegmentationModel(LiteUNet(1, 2)))
    known = {"dtype": "uint8", "gsd": 1.0, "key": "k"}
    out = tmp_path / "a.model"
    plain, _ = train_base_network(pool, SCHEME, plan, out=out, **known)
    assert not plain.net.base.cores
    made, _ = train_base_network(with_cores(pool), SCHEME, plan, out=out, **known)
    assert made.net.base.cores
    # The classes are learnt as without them, bit for bit.
    for name, weight in plain.net.state_dict().items():
        torch.testing.assert_close(made.net.state_dict()[name], weight, rtol=0, atol=0)
    torch.manual_seed(plan.seed)
    start = build_base_network(3, 2, "lite-unet", cores=True)
    assert not torch.equal(made.net.base.core_head.weight, start.core_head.weight)
    # A model without goes on with them; one with them goes on without labels of them.
    for before, labels in ((plain, with_cores(pool)), (made, pool)):
        before.save(out)
        again, _ = train_base_network(
            labels, SCHEME, plan, out=tmp_path / "b.model", start=StartModel.open(out), **known
        )
        assert again.net.base.cores
    tuned, _ = fine_tune(made, pool, FineTuningPlan(steps=1, batch=1, patch=16), out=out, key="k")
    assert tuned.net.base.cores


def test_a_training_from_a_model_may_stop_halfway_in_its_weights(pool_of, tmp_path):
    start = untrained(LiteUNet(3, 2, cores=True))
    start.save(tmp_path / "start.model")
    pool = with_cores(pool_of(start.net))

    def trained(share):
        plan = BaseNetworkPlan.of("lite-unet", steps=2, batch=1, patch=16, interpolation=share)
        made, _ = train_base_network(
            pool,
            SCHEME,
            plan,
            dtype="uint8",
            gsd=1.0,
            key="k",
            out=tmp_path / f"{share}.model",
            start=StartModel.open(tmp_path / "start.model"),
        )
        return made

    half, whole, first = weights(trained(0.5)), weights(trained(1.0)), weights(start)
    assert not same(whole, first)
    for name, weight in half.items():
        expected = (first[name] + whole[name]) / 2 if weight.is_floating_point() else whole[name]
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
    assert BaseNetworkPlan.of("lite-unet", started=True).interpolation < 1
    assert BaseNetworkPlan.of("lite-unet").interpolation == 1


def test_the_loss_of_cores_leaves_out_what_is_unknown():
    cores = torch.tensor([[[1, 0], [0, IGNORE]]], dtype=torch.uint8)
    scores = torch.zeros(1, 1, 2, 2)
    loss = core_cross_entropy(scores, cores)
    assert float(loss.total) == pytest.approx(3 * np.log(2))
    assert float(loss.weight) == 0
    scores[..., 1, 1] = 9.0
    assert float(core_cross_entropy(scores, cores).total) == float(loss.total)
    certain = torch.tensor([[[[40.0, -40.0], [-40.0, 0.0]]]])
    assert float(core_cross_entropy(certain, cores).total) == pytest.approx(0, abs=1e-6)


def test_halves_of_a_tile_hide_the_cores_of_the_other_half(pool_of):
    pool = with_cores(pool_of(SegmentationModel(LiteUNet(1, 2))))
    for fold in range(2):
        (block,) = _half(pool, fold).blocks
        np.testing.assert_array_equal(block.cores == IGNORE, block.labels == IGNORE)
