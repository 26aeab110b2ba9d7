"""Oracle: the same weights in a U-Net that pads, far from its border."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from geopipe.errors import ConfigError
from geopipe.nets import RefinementRNN, SegmentationModel, UNet, build_base_network
from geopipe.nets.local import nonlocal_layers
from geopipe.nets.receptive_field import check_receptive_field

pytestmark = pytest.mark.usefixtures("one_thread")

REACH = {1: 8, 2: 22, 3: 46}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(base=4, depth=3, bands=3, classes=3, iterations=0, seed=0):
    """A U-Net whose stored statistics are not those it began with, as after a training."""
    torch.manual_seed(seed)
    net = UNet(bands, classes, base=base, depth=depth)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    refine = RefinementRNN(bands, classes, iterations=iterations) if iterations else None
    return SegmentationModel(net, refine).eval().requires_grad_(False)


def padded(net, image):
    """The U-Net as drawn in papers: every convolution pads, nothing is cut."""

    def level(x, block):
        for conv, norm in zip(block.convs, block.norms, strict=True):
            x = F.relu(norm(F.conv2d(x, conv.weight, padding=1)))
        return x

    skips, x = [], image
    for block in net.down[:-1]:
        skips.append(level(x, block))
        x = F.max_pool2d(skips[-1], 2)
    x = level(x, net.down[-1])
    for i in reversed(range(net.depth)):
        x = level(torch.cat([skips[i], net.up[i](x)], 1), net.merge[i])
    return net.head(x)


@pytest.mark.parametrize("depth", REACH)
@pytest.mark.parametrize(("bands", "classes"), [(1, 2), (3, 3), (8, 4)])
def test_the_net_is_a_u_net_without_its_padded_border(depth, bands, classes):
    net = model(depth=depth, bands=bands, classes=classes).base
    receptive_radius = REACH[depth]
    image = noise(2, bands, 16 + 2 * 64, 32 + 2 * 64)
    scores = net(image)
    assert scores.shape == (
        2,
        classes,
        16 + 2 * (64 - receptive_radius),
        32 + 2 * (64 - receptive_radius),
    )
    inner = (
        ...,
        slice(receptive_radius, -receptive_radius),
        slice(receptive_radius, -receptive_radius),
    )
    torch.testing.assert_close(scores, padded(net, image)[inner], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", REACH)
@pytest.mark.parametrize("iterations", [0, 2])
def test_what_is_declared_is_what_is_measured(depth, iterations):
    net = model(depth=depth, iterations=iterations)
    receptive_radius = REACH[depth] + 2 * iterations
    assert net.stride == 2**depth
    assert 0 <= net.halo - receptive_radius < net.stride
    measured = check_receptive_field(net, 3)
    assert measured <= net.halo
    if not iterations:
        assert measured == receptive_radius, (
            "no pixel of context is asked for that is not looked at"
        )


def test_the_default_size_keeps_what_it_declares():
    net = SegmentationModel(UNet(3, 3)).eval()
    assert (net.stride, net.halo, check_receptive_field(net, 3)) == (8, 48, 46)


def tiled(net, image, halo, core=16):
    """`net` over an image (1, bands, h, w) tile by tile, each with `halo`, trimmed to its core."""
    h, w = (n - 2 * net.halo for n in image.shape[-2:])
    out, more = torch.empty(1, 3, h, w), net.halo - halo
    for row in range(0, h, core):
        for col in range(0, w, core):
            rows, cols = (slice(at + more, at + core + net.halo + halo) for at in (row, col))
            # What the tile lacks is filled with zeros, as at a scene's edge.
            part = F.pad(image[..., rows, cols], (more,) * 4)
            out[..., row : row + core, col : col + core] = net(part)
    return out


@pytest.mark.parametrize("depth", REACH)
@pytest.mark.parametrize("iterations", [0, 3])
def test_tile_and_trim_is_the_whole_forward(depth, iterations):
    net = model(depth=depth, iterations=iterations)
    image = noise(1, 3, 48 + 2 * net.halo, 32 + 2 * net.halo)
    whole = net(image)
    unit = whole.std()
    assert (tiled(net, image, net.halo) - whole).abs().max() < 1e-5 * unit
    if not iterations:
        assert (tiled(net, image, net.halo - net.stride) - whole).abs().max() > 3e-4 * unit


@pytest.mark.parametrize("depth", REACH)
def test_a_step_of_the_stride_shifts_the_scores_and_less_does_not(depth):
    net = model(depth=depth).base.double()
    s = net.stride
    image = noise(1, 3, 128 + 2 * s, 128 + 2 * s).double()
    scores = net(image)
    torch.testing.assert_close(net(image[..., s:, 2 * s :]), scores[..., s:, 2 * s :])
    half = s // 2
    off = net(image[..., half : half - s, half : half - s])
    assert (off - scores[..., half : half - s, half : half - s]).abs().max() > 1e-2


def test_it_is_local_but_while_batch_norm_learns():
    net = model()
    assert nonlocal_layers(net) == []
    assert len(nonlocal_layers(net.train())) == 14


def test_scores_and_weights_follow_from_the_seed():
    image = noise(1, 3, 128, 128)
    one, two, other = (model(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one(image), two(image))
    assert torch.equal(one(image), one(image)), "a forward changes nothing"
    assert not torch.equal(one(image), other(image))


def test_gradients_reach_every_weight_in_training_and_on_stored_statistics():
    for training in (True, False):
        net = model().base.requires_grad_().train(training)
        net(noise(2, 3, 128, 128)).square().sum().backward()
        assert all((p.grad != 0).any() for p in net.parameters())


def test_stored_statistics_stay_unless_it_trains():
    net = model().base
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(noise(1, 3, 128, 128))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    net.train()(noise(1, 3, 128, 128))
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_trains_towards_the_same(training):
    grads = []
    for kind in (torch.float32, torch.bfloat16):
        net = model(8).base.requires_grad_().train(training)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            scores = net(noise(2, 3, 128, 128))
        assert scores.dtype == kind
        labels = torch.zeros(scores.shape[:1] + scores.shape[2:], dtype=torch.long)
        F.cross_entropy(scores.float(), labels).backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert F.cosine_similarity(*grads, dim=0) > 0.95


@pytest.mark.parametrize(
    ("base", "depth"), [(0, 3), (4, 0), (-1, 2), (1025, 1), (1, 11), (1, 10**9)]
)
def test_sizes_out_of_bounds_are_refused(base, depth):
    with pytest.raises(ConfigError, match=f"base {base} and depth {depth}"):
        UNet(3, 3, base=base, depth=depth)


def test_nets_are_built_from_what_they_say_of_themselves():
    for net in (
        build_base_network(2, 4),
        build_base_network(2, 4, "unet"),
        UNet(2, 4, base=3, depth=2),
    ):
        again = build_base_network(2, 4, **net.architecture)
        assert type(again) is type(net)
        assert again.architecture == net.architecture
        assert (again.stride, again.receptive_radius, again.floats_per_pixel) == (
            net.stride,
            net.receptive_radius,
            net.floats_per_pixel,
        )
        shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in (net, again)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("vit", {}), ("cnn", {"base": 4}), ("unet", {"width": 3}), ("unet", {"base": 4.5})],
)
def test_nets_that_there_are_not(name, sizes):
    with pytest.raises(ValueError, match="net"):
        build_base_network(3, 3, name, **sizes)
