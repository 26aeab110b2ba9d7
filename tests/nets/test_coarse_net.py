import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from geopipe.nets import MnihCNN

pytestmark = pytest.mark.usefixtures("one_thread")

REACH, STRIDE = MnihCNN.receptive_radius, MnihCNN.stride


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bands", "classes"), [(1, 2), (3, 3), (8, 4)])
@pytest.mark.parametrize("shape", [(4, 4), (8, 20)])
def test_the_net_uses_up_its_reach(bands, classes, shape):
    net = MnihCNN(bands, classes)
    scores = net(noise(2, bands, shape[0] + 2 * REACH, shape[1] + 2 * REACH))
    assert scores.shape == (2, classes, *shape)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_deconvolution_starts_as_bilinear(classes):
    x = noise(2, classes, 6, 9)
    up = MnihCNN(3, classes).up(x)
    oracle = F.interpolate(x, scale_factor=STRIDE, mode="bilinear")
    # Deconvolved pixel j is interpolated pixel j - 2; beyond the outer centres one extrapolates.
    inner, half = slice(STRIDE, -STRIDE), slice(STRIDE // 2, -STRIDE // 2)
    torch.testing.assert_close(up[..., inner, inner], oracle[..., half, half], rtol=0, atol=1e-6)


def pass_through(classes=2):
    """A net that averages its input and does nothing else: every layer's centre tap is 1."""
    net = MnihCNN(1, classes)
    with torch.no_grad():
        for conv in (net.conv1, net.conv2, net.conv3, net.conv4):
            conv.weight.zero_()
            conv.bias.zero_()
        net.conv1.weight[0] = 1 / 144
        net.conv2.weight[0, 0, 1, 1] = net.conv3.weight[0, 0, 1, 1] = 1
        net.conv4.weight[:, 0, 4, 4] = 1
    return net


def test_scores_lie_on_the_pixels_they_are_about():
    """A ramp goes through unchanged and unshifted; half a pixel of shift would show as 0.5."""
    rows = torch.arange(40 + 2 * REACH)[:, None].expand(-1, 32 + 2 * REACH).float()
    for ramp in (rows, rows.T.flip(0), 2 * rows + 500):
        image = ramp[None, None] + 1
        scores = pass_through()(image)
        inside = image[..., REACH:-REACH, REACH:-REACH]
        torch.testing.assert_close(scores, inside.expand_as(scores), rtol=1e-6, atol=1e-4)


def test_a_step_of_the_stride_shifts_the_scores_and_one_pixel_does_not():
    torch.manual_seed(0)
    net = MnihCNN(3, 3).double()
    image = noise(1, 3, 40 + 2 * REACH, 40 + 2 * REACH).double()
    with torch.inference_mode():
        scores = net(image)
        aligned = net(image[..., STRIDE:, 2 * STRIDE :])
        shifted = net(image[..., 1:-3, 1:-3])
    torch.testing.assert_close(aligned, scores[..., STRIDE:, 2 * STRIDE :])
    assert (shifted - scores[..., 1:-3, 1:-3]).abs().max() > 1e-2


def test_gradients_reach_every_weight():
    net = MnihCNN(3, 3)
    net(noise(2, 3, 8 + 2 * REACH, 8 + 2 * REACH)).square().sum().backward()
    assert all((p.grad != 0).any() for p in net.parameters())
