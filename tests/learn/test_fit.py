from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F  # noqa: N812

from geopipe.errors import ConfigError
from geopipe.learn import loop as module
from geopipe.learn.schedule import WARMUP, one_cycle

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05),
}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Save at every point of the curve, a point every three steps."""
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(module, "RECORD_EVERY", 3)


class Training:
    """A small regression whose loss raises at step `dies_at`."""

    def __init__(self, folder, kind="sgd", dies_at=None):
        generator = torch.Generator().manual_seed(0)
        self.net = nn.Linear(4, 2)
        with torch.no_grad():
            for p in self.net.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.optimizer = OPTIMIZERS[kind](self.net.parameters())
        self.resume, self.dies_at, self.seen = folder / "a.resume", dies_at, []

    def loss(self, step):
        if step == self.dies_at:
            raise KeyboardInterrupt
        self.seen.append(step)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return F.mse_loss(self.net(x), x[:, :2])

    def run(self, steps=10, key="k", **options):
        gradient = module.backward(self.loss)
        options = {"label": "training", "resume": self.resume, "key": key, **options}
        return module.fit(self.net, gradient, self.optimizer, steps, **options)

    @property
    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("dies_at", range(10))
def test_killed_at_any_step_it_ends_where_it_would_have(tmp_path, kind, dies_at):
    whole = Training(tmp_path, kind)
    record = whole.run()
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, kind, dies_at).run()
    again = Training(tmp_path, kind)
    resumed = again.run()
    assert resumed.resumed_at == dies_at // 3 * 3
    assert again.seen == list(range(resumed.resumed_at, 10))
    assert torch.equal(again.weights, whole.weights)
    assert (resumed.steps, resumed.losses) == (record.steps, record.losses)
    assert list(tmp_path.iterdir()) == []


def test_killed_twice(tmp_path):
    whole = Training(tmp_path)
    record = whole.run()
    for dies_at in (4, 8):
        with pytest.raises(KeyboardInterrupt):
            Training(tmp_path, dies_at=dies_at).run()
    again = Training(tmp_path)
    resumed = again.run()
    assert resumed.resumed_at == 6
    assert torch.equal(again.weights, whole.weights)
    assert resumed.losses == record.losses


@pytest.mark.parametrize("check_every", [4, 2, 3])
def test_checks_survive_the_kill(tmp_path, check_every):
    whole = Training(tmp_path)
    record = whole.run(check=lambda: whole.weights.sum().item(), check_every=check_every)
    assert [s for s, _ in record.checks] == sorted({*range(check_every, 10, check_every), 10})
    killed = Training(tmp_path, dies_at=7)
    with pytest.raises(KeyboardInterrupt):
        killed.run(check=lambda: killed.weights.sum().item(), check_every=check_every)
    again = Training(tmp_path)
    resumed = again.run(check=lambda: again.weights.sum().item(), check_every=check_every)
    assert resumed.resumed_at == 6
    assert resumed.checks == record.checks


def test_the_curve_is_the_mean_loss_since_the_last_point(tmp_path):
    training = Training(tmp_path)
    losses = []
    loss = training.loss

    def kept(step):
        value = loss(step)
        losses.append(value.item())
        return value

    training.loss = kept
    record = training.run()
    assert record.steps == [3, 6, 9, 10]
    means = [sum(losses[a:b]) / (b - a) for a, b in ((0, 3), (3, 6), (6, 9), (9, 10))]
    assert record.losses == pytest.approx(means)
    assert record.losses[-1] < record.losses[0]
    assert record.resumed_at == 0


def killed(tmp_path, **options):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, dies_at=5).run(**options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.resume"]


def assert_starts_anew(tmp_path, **options):
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    training, oracle = Training(tmp_path), Training(fresh)
    record = training.run(**options)
    oracle.run(**options)
    assert record.resumed_at == 0
    assert training.seen == list(range(10))
    assert torch.equal(training.weights, oracle.weights)


def test_another_key_starts_anew(tmp_path):
    killed(tmp_path, key="k")
    assert_starts_anew(tmp_path, key="other")


@pytest.mark.parametrize("size", [0, 5, 300])
def test_a_damaged_state_starts_anew(tmp_path, size):
    killed(tmp_path)
    path = tmp_path / "a.resume"
    path.write_bytes(path.read_bytes()[:size])
    assert_starts_anew(tmp_path)


def test_a_kill_while_saving_leaves_the_last_state(tmp_path, monkeypatch):
    whole = Training(tmp_path)
    whole.run()
    save, saves = module.save_file, []

    def dying(state, path, metadata):
        saves.append(path)
        if len(saves) == 2:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        save(state, path, metadata)

    monkeypatch.setattr(module, "save_file", dying)
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path).run()
    again = Training(tmp_path)
    assert again.run().resumed_at == 3
    assert torch.equal(again.weights, whole.weights)


def test_it_saves_no_more_often_than_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY_S", 3600)
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, dies_at=9).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, value, at):
    training = Training(tmp_path)
    loss = training.loss
    training.loss = lambda step: loss(step) * (value if step == at else 1)
    with pytest.raises(ConfigError, match=r"training: the loss is (nan|inf) at .*learning rate"):
        training.run()
    assert len(training.seen) <= at + 3


@pytest.mark.parametrize("dies_at", [None, 4])
def test_the_learning_rate_follows_the_share_of_the_steps(tmp_path, dies_at):
    """Also where a training goes on."""
    rates = []

    def run(dies_at):
        training = Training(tmp_path, dies_at=dies_at)
        step = training.optimizer.step
        training.optimizer.step = lambda: rates.append(training.optimizer.param_groups[0]["lr"])
        training.run(rate=lambda share: 1 - share)
        return step

    if dies_at:
        with pytest.raises(KeyboardInterrupt):
            run(dies_at)
        del rates[3:]  # saved after three steps
    run(None)
    assert rates == pytest.approx([0.05 * (1 - step / 10) for step in range(10)])


def test_one_cycle_rises_to_one_and_falls_to_zero():
    rates = [one_cycle(step / 400) for step in range(401)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(1)
    assert top == pytest.approx(WARMUP * 400, abs=1)
    assert 0 < rates[0] < 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a > b for a, b in pairwise(rates[top:]))


def test_a_state_that_lacks_a_part_of_the_optimizer_starts_anew(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, "adagrad", dies_at=5).run()
    path = tmp_path / "a.resume"
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    lost = sorted(k for k in tensors if k.startswith("optimizer."))[-1]
    del tensors[lost]
    module.save_file(tensors, path, metadata)
    assert Training(tmp_path, "adagrad").run().resumed_at == 0
    assert "the optimizer keeps" in caplog.text
