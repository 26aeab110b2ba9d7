"""Inference by matrix product is inference by convolution."""

import pytest
import torch

from geopipe.nets import Kernels, MnihCNN, RefinementRNN, SegmentationModel
from geopipe.nets import matmul as module
from geopipe.nets.matmul import mnih_scores, refine_steps

pytestmark = pytest.mark.usefixtures("one_thread")

MATMUL = Kernels("matmul", "matmul")


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def refinement(bands=3, classes=3, **switches):
    """Weights that matter at every step, unlike a fresh refinement's."""
    torch.manual_seed(0)
    net = RefinementRNN(bands, classes, **switches).eval().requires_grad_(False)
    for update in net.updates:
        update.w2.mul_(5)
        update.b1.normal_()
        update.b2.normal_()
    return net


@pytest.mark.parametrize("shape", [(1, 21, 21), (2, 40, 37), (1, 90, 133)])
@pytest.mark.parametrize(
    ("bands", "classes", "switches"),
    [
        (3, 3, {}),
        (4, 2, {"iterations": 1}),
        (1, 5, {"iterations": 3}),
        (3, 3, {"class_agnostic": True}),
        (3, 3, {"recurrent": False}),
    ],
)
def test_the_steps_of_a_refinement(shape, bands, classes, switches):
    net = refinement(bands, classes, **switches)
    n, h, w = shape
    scores, image = noise(n, classes, h, w), noise(n, bands, h, w, seed=1)
    found = refine_steps(net, scores, image)
    exact = net.double().steps(scores.double(), image.double())
    assert [f.shape for f in found] == [e.shape for e in exact]
    for f, e in zip(found, exact, strict=True):
        torch.testing.assert_close(f.double(), e, rtol=0, atol=2e-6 * float(e.abs().max()))


@pytest.mark.parametrize("band_bytes", [1, 2**16, 2**21])
def test_bands_of_any_height_give_the_same(monkeypatch, band_bytes):
    net, scores, image = refinement(), noise(1, 3, 77, 50), noise(1, 3, 77, 50, seed=1)
    expected = refine_steps(net, scores, image)[-1]
    monkeypatch.setattr(module, "_HIDDEN_BYTES", band_bytes)
    assert torch.equal(refine_steps(net, scores, image)[-1], expected)


@pytest.mark.parametrize("window", [(0, 0, 60, 70), (7, 13, 48, 77), (51, 3, 101, 40)])
def test_a_part_has_the_scores_of_the_whole(window):
    net, scores, image = refinement(), noise(1, 3, 160, 150), noise(1, 3, 160, 150, seed=1)
    row, col, h, w = window
    whole = refine_steps(net, scores, image)[-1]
    cut = (..., slice(row, row + h), slice(col, col + w))
    part = refine_steps(net, scores[cut], image[cut])[-1]
    expected = whole[..., row : row + h - 20, col : col + w - 20]
    torch.testing.assert_close(part, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 100, 76)])
@pytest.mark.parametrize(("bands", "classes"), [(3, 3), (4, 2)])
def test_the_scores_of_a_coarse_net(shape, bands, classes):
    torch.manual_seed(0)
    net = MnihCNN(bands, classes).eval().requires_grad_(False)
    net.conv4.bias.normal_()
    image = noise(shape[0], bands, *shape[1:])
    found = mnih_scores(net, image)
    exact = net.double()(image.double())
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=5e-6 * float(exact.abs().max()))


def test_a_map_net_takes_the_form_it_is_told():
    torch.manual_seed(0)
    net = SegmentationModel(MnihCNN(3, 3), refinement()).eval().requires_grad_(False)
    image = noise(1, 3, 24 + 2 * net.halo, 40 + 2 * net.halo)
    wanted = (5, 0, 2)
    with torch.inference_mode():
        convolved = net.forward_steps(image, wanted)
        net.kernels = MATMUL
        multiplied = net.forward_steps(image, wanted)
        assert any(not torch.equal(a, b) for a, b in zip(convolved, multiplied, strict=True))
        for a, b in zip(convolved, multiplied, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-5 * float(a.abs().max()))
        with torch.autocast("cpu", torch.bfloat16):
            half = net.forward_steps(image, wanted)
        net.kernels = Kernels()
        with torch.autocast("cpu", torch.bfloat16):
            assert all(map(torch.equal, half, net.forward_steps(image, wanted)))


def test_gradients_flow_whatever_the_form():
    net = SegmentationModel(MnihCNN(3, 3), refinement())
    net.kernels = MATMUL
    image = noise(1, 3, 4 + 2 * net.halo, 4 + 2 * net.halo).requires_grad_()
    net(image).sum().backward()
    assert float(image.grad.abs().max()) > 0
