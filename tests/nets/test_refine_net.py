"""Oracle: the process written as in the paper, without folding its linear parts."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from geopipe.nets import RefinementRNN
from geopipe.nets.refinement import FILTERS, HIDDEN, Update

pytestmark = pytest.mark.usefixtures("one_thread")

SWITCHES = [(False, True), (True, True), (False, False), (True, False)]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class AsWritten(nn.Module):
    """eq. 6-8: filter each class's scores with M, the image with N, join, MLP at every pixel."""

    def __init__(self, update):
        super().__init__()
        self.__dict__["update"] = update

    def forward(self, scores, image):
        update, change = self.update, []
        of_image = F.conv2d(image, update.n)
        for k in range(scores.shape[1]):
            of_scores = F.conv2d(scores[:, k : k + 1], update.m)
            joined = torch.cat([of_scores, of_image], 1)
            mlp = k if len(update.w1) > 1 else 0
            hidden = F.conv2d(joined, update.w1[mlp][..., None, None], update.b1[mlp]).relu()
            change.append(
                F.conv2d(hidden, update.w2[mlp][None, :, None, None], update.b2[mlp : mlp + 1])
            )
        return torch.cat(change, 1)


def randomised(net):
    """Weights and biases of one size, so that none hides behind the small initial ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return net.double()


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize(("bands", "classes"), [(1, 2), (3, 3), (4, 5)])
def test_the_folded_update_is_the_written_one(bands, classes, class_agnostic):
    update = randomised(Update(bands, classes, class_agnostic))
    scores, image = noise(2, classes, 9, 11), noise(2, bands, 9, 11, seed=1)
    step = update.folded()
    du = step.change(scores, step.image_term(image))
    assert du.shape == (2, classes, 5, 7)
    torch.testing.assert_close(du, AsWritten(update)(scores, image))
    # and so are the gradients of every unfolded weight
    weights = list(update.parameters())
    folded = torch.autograd.grad(du.square().sum(), weights)
    written = torch.autograd.grad(AsWritten(update)(scores, image).square().sum(), weights)
    torch.testing.assert_close(folded, written)
    assert all((g != 0).any() for g in written)


@pytest.mark.parametrize(("class_agnostic", "recurrent"), SWITCHES)
@pytest.mark.parametrize(("bands", "classes"), [(3, 3), (4, 2)])
def test_steps_iterate_the_written_update(bands, classes, class_agnostic, recurrent):
    net = randomised(
        RefinementRNN(
            bands, classes, iterations=3, class_agnostic=class_agnostic, recurrent=recurrent
        )
    )
    scores, image = noise(1, classes, 20, 17), noise(1, bands, 20, 17, seed=1)
    steps = net.steps(scores, image)
    u = scores
    torch.testing.assert_close(steps[0], u)
    for t in range(3):
        update = net.updates[0 if recurrent else t]
        u = u[..., 2:-2, 2:-2] + AsWritten(update)(u, image)
        image = image[..., 2:-2, 2:-2]
        torch.testing.assert_close(steps[t + 1], u)
    assert len(steps) == 4
    assert torch.equal(net(scores, noise(1, bands, 20, 17, seed=1)), steps[-1])


@pytest.mark.parametrize(("class_agnostic", "recurrent"), SWITCHES)
def test_the_switches_set_how_many_weights_there_are(class_agnostic, recurrent):
    net = RefinementRNN(4, 3, iterations=5, class_agnostic=class_agnostic, recurrent=recurrent)
    filters = FILTERS * 25 * (1 + 4)
    mlp = HIDDEN * 2 * FILTERS + HIDDEN + HIDDEN + 1
    each = filters + mlp * (1 if class_agnostic else 3)
    assert sum(p.numel() for p in net.parameters()) == each * (1 if recurrent else 5)


def test_a_class_agnostic_process_does_not_know_the_classes():
    for agnostic in (True, False):
        net = randomised(RefinementRNN(3, 3, iterations=2, class_agnostic=agnostic))
        scores, image = noise(1, 3, 12, 12), noise(1, 3, 12, 12, seed=1)
        same = torch.allclose(net(scores, image)[:, [2, 0, 1]], net(scores[:, [2, 0, 1]], image))
        assert same == agnostic


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("class_agnostic", "recurrent"), SWITCHES)
def test_the_untrained_process_is_near_the_identity(seed, class_agnostic, recurrent):
    torch.manual_seed(seed)
    net = RefinementRNN(3, 3, class_agnostic=class_agnostic, recurrent=recurrent)
    scores, image = noise(1, 3, 60, 60).float(), noise(1, 3, 60, 60, seed=1).float()
    with torch.inference_mode():
        u = net.steps(scores, image)
    change = [(b - a[..., 2:-2, 2:-2]).std() for a, b in pairwise(u)]
    assert 0 < max(change) < 0.2
    before, after = u[0][..., 10:-10, 10:-10].flatten(), u[-1].flatten()
    assert torch.corrcoef(torch.stack([before, after]))[0, 1] > 0.9


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_reach_is_two_pixels_an_iteration(iterations):
    net = RefinementRNN(2, 2, iterations=iterations)
    size = 3 + 2 * net.receptive_radius
    u = net.steps(torch.zeros(1, 2, size, size), torch.zeros(1, 2, size, size))
    assert net.receptive_radius == 2 * iterations
    assert [x.shape[-1] for x in u] == list(range(size, 2, -4))
