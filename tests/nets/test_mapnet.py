import pytest
import torch

from geopipe.errors import ConfigError
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel, measured_halo

pytestmark = pytest.mark.usefixtures("one_thread")


def model(iterations=0, bands=3, classes=3, seed=0, **switches):
    torch.manual_seed(seed)
    refine = (
        RefinementRNN(bands, classes, iterations=iterations, **switches) if iterations else None
    )
    return SegmentationModel(MnihCNN(bands, classes), refine).eval().requires_grad_(False)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("iterations", range(7))
def test_the_halo_holds_all_that_the_net_looks_at(iterations):
    net = model(iterations).requires_grad_()
    receptive_radius = 30 + 2 * iterations
    assert net.halo % net.stride == 0
    assert 0 <= net.halo - receptive_radius < net.stride
    assert measured_halo(net, 3) <= net.halo
    if receptive_radius % net.stride == 0:
        assert measured_halo(net, 3) == net.halo


def test_a_net_that_looks_less_far_is_measured_so():
    net = model(1)
    with torch.no_grad():  # conv4 looks at its centre alone: 4 x 4 pixels less on each side
        weight = net.base.conv4.weight
        centre = weight[..., 4:5, 4:5].clone()
        weight.zero_()[..., 4:5, 4:5] = centre
    assert measured_halo(net, 3) == net.halo - 16


@pytest.mark.parametrize("iterations", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", [(4, 4), (8, 20)])
def test_steps_have_one_shape_and_end_in_the_forward(iterations, shape):
    net = model(iterations)
    image = noise(2, 3, shape[0] + 2 * net.halo, shape[1] + 2 * net.halo)
    steps = net.forward_steps(image, range(iterations + 1))
    assert [s.shape for s in steps] == [(2, 3, *shape)] * (iterations + 1)
    assert torch.equal(steps[-1], net(image))
    asked = net.forward_steps(image, (iterations, 0))
    assert torch.equal(asked[0], steps[-1])
    assert torch.equal(asked[1], steps[0])
    assert net.iterations == iterations


def test_step_0_is_the_coarse_net():
    net = model(3)
    image = noise(1, 3, 16 + 2 * net.halo, 16 + 2 * net.halo)
    cut = net.halo - 32
    alone = SegmentationModel(net.base)(image[..., cut:-cut, cut:-cut])
    torch.testing.assert_close(net.forward_steps(image, (0,))[0], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("has", "asked"), [(0, (1,)), (2, (0, 3)), (2, (-1,)), (5, (2, 6))])
def test_steps_the_model_does_not_have(has, asked):
    net = model(has)
    image = torch.zeros(1, 3, 4 + 2 * net.halo, 4 + 2 * net.halo)
    with pytest.raises(ConfigError, match=rf"iterations \[.*{asked[-1]}.*model has {has}"):
        net.forward_steps(image, asked)


def tiled(net, image, halo, core=16):
    """`net` over an image (1, bands, h, w) tile by tile, each with `halo`, trimmed to its core."""
    h, w = (n - 2 * net.halo for n in image.shape[-2:])
    out = torch.empty(1, 3, h, w)
    more = net.halo - halo
    for row in range(0, h, core):
        for col in range(0, w, core):
            part = image[
                ...,
                row + more : row + core + 2 * net.halo - more,
                col + more : col + core + 2 * net.halo - more,
            ]
            # What the tile lacks is filled with zeros, as at a scene's edge.
            part = torch.nn.functional.pad(part, (more,) * 4)
            out[..., row : row + core, col : col + core] = net(part)
    return out


@pytest.mark.parametrize(
    ("iterations", "switches"),
    [(0, {}), (1, {}), (3, {"class_agnostic": True}), (5, {}), (5, {"recurrent": False})],
)
def test_tile_and_trim_is_the_whole_forward(iterations, switches):
    net = model(iterations, **switches)
    for update in net.postprocessor.updates if net.postprocessor else ():
        update.w2.mul_(10)  # else a fresh refinement hardly looks at its outermost pixels
    image = noise(1, 3, 48 + 2 * net.halo, 32 + 2 * net.halo)
    whole = net(image)
    unit = whole.std()
    assert (tiled(net, image, net.halo) - whole).abs().max() < 1e-5 * unit
    assert (tiled(net, image, net.halo - net.stride) - whole).abs().max() > 3e-4 * unit


def test_tiles_off_the_stride_do_not_agree():
    net = model(1)
    image = noise(1, 3, 32 + 2 * net.halo, 32 + 2 * net.halo)
    whole = net(image)
    off = net(image[..., 1:-3, 1:-3])
    assert (off - whole[..., 1:-3, 1:-3]).abs().max() > 1e-2
