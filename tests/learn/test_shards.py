"""A batch's gradient, computed by shards, against the gradient of the whole batch."""

import threading

import pytest
import torch
from torch import nn

from geopipe import limits
from geopipe.classes import IGNORE
from geopipe.learn.loss import SummedLoss, labelled_cross_entropy
from geopipe.learn.shards import SHARDS, sharded_gradient


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def data(batch, seed=0):
    """Images and labels; patches hold different numbers of labelled pixels, the last one none."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 2, 12, 12, generator=generator)
    labels = torch.randint(0, 3, (batch, 8, 8), generator=generator, dtype=torch.uint8)
    for number in range(batch):
        labels[number, : number % 8] = IGNORE
    labels[-1] = IGNORE
    return images, labels


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))


def part_of(net, images, labels, weights=None):
    def part(step, numbers):
        assert step == 0
        at = list(numbers)
        return labelled_cross_entropy(net(images[at]), labels[at], weights)

    return part


def gradients(net):
    return [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("batch", [1, 3, 4, 10])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 3.0, 2.0])])
def test_shards_have_the_gradient_and_the_loss_of_the_batch(batch, weights):
    net, (images, labels) = network(), data(batch)
    with sharded_gradient(part_of(net, images, labels, weights), net, batch) as gradient:
        value = gradient(0)
    by_shards = gradients(net)
    net.zero_grad()
    loss = labelled_cross_entropy(net(images), labels, weights).mean
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-6)
    for a, b in zip(by_shards, gradients(net), strict=True):
        torch.testing.assert_close(a, b)


def test_the_bytes_do_not_depend_on_the_number_of_threads(threads):
    net, (images, labels) = network(), data(10)
    found = []
    for count in (1, 2, 3, SHARDS):
        threads(count)
        with sharded_gradient(part_of(net, images, labels), net, 10) as gradient:
            value = gradient(0)
        found.append((value, gradients(net)))
        assert torch.get_num_threads() == count
    for value, grads in found[1:]:
        assert value == found[0][0]
        assert all(torch.equal(a, b) for a, b in zip(grads, found[0][1], strict=True))


def test_a_step_takes_the_numbers_that_are_its_own(threads):
    threads(3)
    net, seen = network(), []

    def part(step, numbers):
        seen.append((step, list(numbers)))
        return SummedLoss(sum(p.sum() for p in net.parameters()), torch.tensor(1.0))

    with sharded_gradient(part, net, 10) as gradient:
        gradient(2)
    assert {step for step, _ in seen} == {2}
    assert len(seen) == SHARDS
    assert sorted(n for _, numbers in seen for n in numbers) == list(range(20, 30))


def test_a_batch_without_a_label_teaches_nothing():
    net, (images, _) = network(), data(4)
    nothing = torch.full((4, 8, 8), IGNORE, dtype=torch.uint8)
    with sharded_gradient(part_of(net, images, nothing), net, 4) as gradient:
        assert gradient(0) == 0
    assert all((g == 0).all() for g in gradients(net))


def test_batch_norm_that_learns_sees_the_whole_batch():
    net = nn.Sequential(nn.Conv2d(2, 3, 5), nn.BatchNorm2d(3))
    images, labels = data(8)
    sizes = []

    def part(step, numbers):
        sizes.append(len(numbers))
        return part_of(net, images, labels)(step, numbers)

    for training, wanted in ((True, [8]), (False, [2] * SHARDS)):
        sizes.clear()
        with sharded_gradient(part, net.train(training), 8) as gradient:
            gradient(0)
        assert sizes == wanted


def test_frozen_parameters_get_no_gradient():
    net, (images, labels) = network(), data(4)
    net[0].requires_grad_(False)
    with sharded_gradient(part_of(net, images, labels), net, 4) as gradient:
        gradient(0)
    assert net[0].weight.grad is None
    assert net[2].weight.grad is not None


def test_an_error_in_a_shard_is_raised(threads):
    threads(2)
    net = network()

    def part(step, numbers):
        raise MemoryError(f"{step}")

    with (
        pytest.raises(MemoryError, match="7"),
        sharded_gradient(part, net, 4) as gradient,
    ):
        gradient(7)


@pytest.mark.parametrize(("quota", "wanted"), [(None, 4), (1.5, 2), (0.5, 1)])
def test_a_quota_of_the_processor_bounds_the_threads(threads, monkeypatch, quota, wanted):
    threads(4)
    monkeypatch.setattr(limits, "cgroup_limits", lambda: limits.Limits(quota, None))
    net, (images, labels), names = network(), data(8), set()
    barrier = threading.Barrier(wanted, timeout=60)

    def part(step, numbers):
        names.add(threading.current_thread().name)
        barrier.wait()  # as many are at work at the same time
        return part_of(net, images, labels)(step, numbers)

    with sharded_gradient(part, net, 8) as gradient:
        gradient(0)
    assert len(names) == wanted
