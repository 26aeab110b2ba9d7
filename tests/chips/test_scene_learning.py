"""Learning: losses by hand, splits that do not leak, trainings that survive a kill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_world import NAMES, write_chips

from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.learn import loop as fitting
from geopipe.learn.chips import (
    ChipTrainingPlan,
    DecodedChips,
    LabelledChips,
    Samples,
    chip_net,
    folds,
    predict,
    shares,
    train_network,
    training,
)
from geopipe.learn.chips.center_loss import center_loss, init_centers, update_centers
from geopipe.learn.chips.frozen_features import features, frozen_features
from geopipe.learn.chips.model import ChipModelSpec, scheme_of
from geopipe.nets.chips import VectorNet
from geopipe.raster.chips import ChipFolder

pytestmark = pytest.mark.usefixtures("one_thread")


# -- center loss (Li et al., eq. 5 and 6)


def test_center_loss_of_an_example_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    classes, centers = torch.tensor([0, 0, 1]), torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    # differences: (0, 2), (2, 0), (-2, 0): of six squares three are 4; their mean, halved, is 1
    assert center_loss(features, classes, centers) == 1
    # means of the batch: (2, 1) and (0, 1); half the way there from (1, 0) and (2, 1)
    assert update_centers(centers, features, classes, 0.5).tolist() == [[1.5, 0.5], [1.0, 1.0]]
    lone = update_centers(centers, features[:1], classes[:1], 0.5)
    assert lone.tolist() == [[1.0, 1.0], [2.0, 1.0]]  # the class that is not there stays


def test_wider_features_weigh_no_more():
    features, classes = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    centers = torch.randn(3, 4)
    wide = center_loss(features.repeat(1, 128), classes, centers.repeat(1, 128))
    assert torch.allclose(wide, center_loss(features, classes, centers))


def test_a_center_starts_where_its_class_is_first_met():
    centers = torch.full((3, 2), torch.nan)
    centers[1] = torch.tensor([5.0, 5.0])
    features = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    found = init_centers(centers, features, torch.tensor([0, 0, 1]))
    assert found[:2].tolist() == [[2.0, 1.0], [5.0, 5.0]]
    assert found[2].isnan().all()


def test_its_gradient_is_that_of_finite_differences():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    classes, centers = torch.tensor([0, 1, 1, 2, 0]), torch.randn(3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: center_loss(f, classes, centers), x)
    (slope,) = torch.autograd.grad(center_loss(x, classes, centers), x)
    assert torch.allclose(slope, (x - centers[classes]).detach() / (5 * 3))


# -- splits


@st.composite
def labelled(draw):
    """Chips with duplicates, within a class and across classes; enough different ones of each."""
    classes = draw(st.integers(2, 4))
    ids, digests = [], []
    for k in range(classes):
        different = draw(st.integers(4 + (k == 0), 12))  # one of the first may count for the last
        for n in range(different):
            twins = draw(st.sampled_from([1, 1, 1, 2, 3]))
            ids += [k] * twins
            digests += [f"{k}-{n}"] * twins
    if draw(st.booleans()):
        ids.append(classes - 1)
        digests.append("0-0")
    order = draw(st.permutations(range(len(ids))))
    names = tuple("abcd"[:classes])
    return LabelledChips(np.array(ids, np.uint8)[order], [digests[i] for i in order], names)


def assert_divides(chips, split):
    assert sorted([*split.train, *split.test]) == list(range(len(chips.ids)))
    ours = {chips.digests[i] for i in split.train}
    assert not ours & {chips.digests[i] for i in split.test}


@settings(max_examples=60, deadline=None)
@given(chips=labelled(), count=st.integers(2, 4), seed=st.integers(0, 99))
def test_folds_hold_each_chip_out_once_and_never_divide_duplicates(chips, count, seed):
    found = folds(chips, count, seed)
    assert sorted(np.concatenate([s.test for s in found])) == list(range(len(chips.ids)))
    for split in found:
        assert_divides(chips, split)
    for k in np.unique(chips.ids):
        counts = [np.sum(chips.ids[s.test] == k) for s in found]
        assert min(counts) >= 1 or "0-0" in chips.digests
        # A group of three more, and three that lie where a chip of another class lies.
        assert max(counts) - min(counts) <= 6


@settings(max_examples=60, deadline=None)
@given(chips=labelled(), share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_shares_of_each_class_never_divide_duplicates(chips, share, seed):
    for split in shares(chips, share, [seed, seed + 1]):
        assert_divides(chips, split)
        for k in np.unique(chips.ids):
            learnt, all_ = np.sum(chips.ids[split.train] == k), np.sum(chips.ids == k)
            assert 1 <= learnt < all_ or "0-0" in chips.digests
            assert abs(learnt - share * all_) <= 7  # the same, and half a chip


def test_without_duplicates_folds_are_stratified_exactly():
    ids = np.repeat(np.arange(3), 20).astype(np.uint8)
    chips = LabelledChips(ids, [str(i) for i in range(60)], NAMES[:3])
    assert all((np.bincount(ids[s.test]) == 4).all() for s in folds(chips, 5, 0))
    (split,) = shares(chips, 0.8, [0])
    assert (np.bincount(ids[split.train]) == 16).all()
    other = folds(chips, 5, 1)[0].test
    assert not np.array_equal(folds(chips, 5, 0)[0].test, other)
    assert np.array_equal(folds(chips, 5, 1)[0].test, other)


def test_too_few_chips_are_named_with_their_class():
    ids = np.array([0] * 6 + [1] * 3, np.uint8)
    chips = LabelledChips(ids, [*map(str, range(7)), "6", "7"], NAMES)
    with pytest.raises(LabelError, match=r"forest \(2\)"):
        folds(chips, 3, 0)
    with pytest.raises(LabelError, match="one class, field"):
        folds(LabelledChips(ids[:6], chips.digests[:6], NAMES), 2, 0)
    with pytest.raises(ConfigError, match="share"):
        shares(chips, 1.0, [0])


# -- pictures


def test_chips_are_decoded_once_and_again_when_they_change(chips, tmp_path, monkeypatch):
    found = ChipFolder.open(chips).chips
    first = DecodedChips.of(found, 32, tmp_path, skip_bad=False)
    assert first.pixels.shape == (32, 3, 32, 32)
    assert first.shapes.max() == 41

    def never(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr("geopipe.learn.chips.decoded._decode_all", never)
    again = DecodedChips.of(found, 32, tmp_path, skip_bad=False)
    assert again.digests == first.digests
    assert np.array_equal(again.pixels, first.pixels)
    with pytest.raises(AssertionError):
        DecodedChips.of(found[:4], 32, tmp_path, skip_bad=False)


def test_equal_pixels_have_equal_digests_whatever_the_file(tmp_path):
    from PIL import Image

    image = Image.new("RGB", (40, 40), (10, 20, 30))
    for name in ("a.png", "b.tif", "c.bmp"):
        image.save(tmp_path / name)
    Image.new("RGB", (40, 40), (10, 20, 31)).save(tmp_path / "d.png")
    found = DecodedChips.of(ChipFolder.open(tmp_path).chips, 32, tmp_path / "w", skip_bad=False)
    assert len(set(found.digests)) == 2
    assert len(set(found.digests[:3])) == 1


def test_bad_chips_are_told_or_left_out(tmp_path, caplog):
    write_chips(tmp_path / "c", each=3)
    for name in ("empty.png", "text.jpg"):
        (tmp_path / "c" / "water" / name).write_bytes(b"" if name == "empty.png" else b"no image")
    found = ChipFolder.open(tmp_path / "c").chips
    with pytest.raises(SceneError, match=r"2 of 14 chips are bad, text.jpg too") as told:
        DecodedChips.of(found, 32, tmp_path / "w", skip_bad=False)
    assert "empty.png" in told.value.message
    kept = DecodedChips.of(found, 32, tmp_path / "w", skip_bad=True)
    assert len(kept) == 12
    assert len(kept.bad) == 2
    assert "2 of 14 chips left out" in caplog.text
    assert "text.jpg" in caplog.text


# -- training


@pytest.fixture(scope="module")
def samples(chips, tmp_path_factory):
    pictures = DecodedChips.of(
        ChipFolder.open(chips).chips, 64, tmp_path_factory.mktemp("w"), skip_bad=False
    )
    ids = np.array([NAMES.index(c.class_name) for c in pictures.chips], np.uint8)
    return Samples(pictures, ids, np.flatnonzero(np.arange(32) % 4))


def start(model, **options):
    design = ChipModelSpec(model, ("random:0",), 64, chip=40, gsd=2.0, **options)
    return design.start(scheme_of(list(NAMES)), design.backbones(), (40, 2.0))


QUICK = ChipTrainingPlan(epochs=3, batch=8, precision="float32")


def accuracy(model, samples):
    held = np.flatnonzero(np.arange(32) % 4 == 0)
    return (predict(model, samples.decoded, held).best == samples.ids[held]).mean()


def test_a_pretrained_net_learns_in_a_few_steps(samples, tmp_path):
    design = ChipModelSpec(side=64, chip=40)
    first = design.start(scheme_of(list(NAMES)), design.backbones(), (40, None))
    plan = ChipTrainingPlan(epochs=4, batch=8, lr=3e-3)
    assert accuracy(first, samples) <= 0.5
    assert accuracy(train_network(first, samples, plan, folder=tmp_path), samples) == 1


@pytest.mark.parametrize("model", ["fusion:alexnet+alexnet", "ddrl-am"])
def test_killed_it_ends_where_it_would_have(model, samples, tmp_path, monkeypatch):
    plan = ChipTrainingPlan(epochs=1, batch=6, precision="float32", center=0.1)
    first = start(model)
    whole = train_network(first, samples, plan, folder=tmp_path / "a")
    monkeypatch.setattr(fitting, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(fitting, "RECORD_EVERY", 3)
    draw, kills = training._BatchSampler.batch, ["step 2", "step 1"]

    def dying(self, step, device):
        name = "step 1" if self.cams is None else "step 2"
        if step == 3 and name in kills:
            kills.remove(name)
            raise KeyboardInterrupt
        return draw(self, step, device)

    monkeypatch.setattr(training._BatchSampler, "batch", dying)
    for _ in range(2 if model == "ddrl-am" else 1):
        with pytest.raises(KeyboardInterrupt):
            train_network(first, samples, plan, folder=tmp_path / "b")
        assert list((tmp_path / "b").glob("*.resume"))
        torch.rand(3)  # another process draws other numbers
    again = train_network(first, samples, plan, folder=tmp_path / "b")
    ours, theirs = whole.net.state_dict(), again.net.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    changed = first.net.state_dict()
    assert not torch.equal(ours["base.backbone.head.weight"], changed["base.backbone.head.weight"])
    assert not list((tmp_path / "b").glob("*.resume"))


def test_what_is_trained_already_is_loaded(samples, tmp_path, monkeypatch):
    first = start("finetune:alexnet")
    train_network(first, samples, QUICK, folder=tmp_path)

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "_fit", never)
    train_network(first, samples, QUICK, folder=tmp_path)
    with pytest.raises(AssertionError):
        train_network(first, samples, ChipTrainingPlan(epochs=4, batch=8), folder=tmp_path)


def test_rates_fall_after_every_quarter():
    plan = ChipTrainingPlan(epochs=40)
    rates = [plan.rate(step / 80) for step in range(80)]
    assert np.allclose(rates, np.repeat([1, 0.1, 0.01, 0.001], 20))


def test_both_rates_follow_the_plan(samples, tmp_path, monkeypatch):
    seen = []

    def fit(net, gradient, optimizer, steps, *, rate, **_):
        first = np.array([group["lr"] for group in optimizer.param_groups])
        seen.extend(first * rate(share) for share in (0, 0.5, 0.999, 0))

    monkeypatch.setattr(training, "fit", fit)
    train_network(
        start("finetune:alexnet"), samples, ChipTrainingPlan(epochs=4, batch=8), folder=tmp_path
    )
    first = np.array([1e-4, 1e-3])
    assert np.allclose(seen, [first, first / 100, first / 1000, first], rtol=1e-6)


def test_center_loss_gathers_the_features_of_a_class(samples, tmp_path):
    def spread(model):
        x = predict(model, samples.decoded, samples.rows)
        ids = samples.ids[samples.rows]
        return np.mean([x.features[ids == k].var(0).sum() for k in range(4)])

    first = start("finetune:alexnet")
    plan = ChipTrainingPlan(epochs=6, batch=12, pretrained_lr=1e-3, precision="float32")
    without = train_network(first, samples, plan, folder=tmp_path)
    with_it = train_network(
        first, samples, ChipTrainingPlan(**{**vars(plan), "center": 0.5}), folder=tmp_path
    )
    assert spread(with_it) < spread(without)


def test_step_1_of_ddrl_am_is_the_tuned_net_alone(samples, tmp_path):
    plan = replace(QUICK, epochs=1)
    both = train_network(start("ddrl-am"), samples, plan, folder=tmp_path)
    assert len(list(tmp_path.glob("trained-*.safetensors"))) == 2
    alone = train_network(start("finetune:resnet18"), samples, plan, folder=tmp_path)
    assert len(list(tmp_path.glob("trained-*.safetensors"))) == 2  # it was there
    inner, single = chip_net(both).backbone, chip_net(alone).backbone
    assert torch.equal(inner.looker_head.weight, single.head.weight)
    looked = inner.attention_backbone.net.state_dict()
    assert all(torch.equal(looked[k], v) for k, v in single.branches[0].net.state_dict().items())


def test_the_map_of_the_true_class_is_for_ddrl_am_alone(samples, tmp_path):
    plan = ChipTrainingPlan(epochs=1, batch=8, attention="true")
    with pytest.raises(ConfigError, match="attention"):
        train_network(start("finetune:alexnet"), samples, plan, folder=tmp_path)


# -- frozen


def test_frozen_features_are_computed_once_by_content(samples, tmp_path, monkeypatch):
    first = start("finetune:alexnet")
    made = frozen_features(first, samples, folder=tmp_path)
    x = features(first, samples.decoded, samples.rows, tmp_path)
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    theirs = LogisticRegression(max_iter=2000).fit(scaler.transform(x), samples.ids[samples.rows])
    ours = predict(made, samples.decoded, samples.rows).probabilities
    assert np.allclose(ours, theirs.predict_proba(scaler.transform(x)), atol=1e-3)
    old = chip_net(first).backbone.branches.state_dict()
    assert all(
        torch.equal(v, old[k]) for k, v in chip_net(made).backbone.branches.state_dict().items()
    )

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(VectorNet, "features", never)
    again = features(first, samples.decoded, samples.rows[::-1], tmp_path)
    assert np.array_equal(again, x[::-1])


def test_two_classes_and_what_cannot_stay_frozen(samples, tmp_path):
    two = samples.rows[samples.ids[samples.rows] < 2]
    design = ChipModelSpec("finetune:alexnet", ("random:0",), 64, chip=40)
    first = design.start(scheme_of(["a", "b"]), design.backbones(), (40, None))
    made = frozen_features(first, Samples(samples.decoded, samples.ids, two), folder=tmp_path)
    assert (predict(made, samples.decoded, two).best == samples.ids[two]).mean() > 0.9
    with pytest.raises(ConfigError, match="cannot stay frozen"):
        frozen_features(start("ddrl-am"), samples, folder=tmp_path)
