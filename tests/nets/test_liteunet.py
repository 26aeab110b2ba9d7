"""A U-Net on EfficientNet-Lite0: exact by tiles, started from the weights of ImageNet."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from geopipe.checkpoint.weights import load_backbone
from geopipe.nets import SegmentationModel, build_base_network
from geopipe.nets.classes import with_classes, with_core_scores
from geopipe.nets.liteunet import LiteUNet
from geopipe.nets.local import nonlocal_layers
from geopipe.nets.receptive_field import check_receptive_field

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    """One whose batch norm is not the identity, as after a training."""
    torch.manual_seed(0)
    made = LiteUNet(3, 4)
    made.start_from(load_backbone("efficientnet_lite0", "random:3"))
    for module in made.merge.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return SegmentationModel(made).eval().requires_grad_(False)


def test_it_keeps_what_it_declares(net):
    assert (net.stride, net.base.receptive_radius, net.halo) == (16, 110, 112)
    # Within a stride of what is asked for: a smaller halo would not do.
    assert 96 < check_receptive_field(net, 3) <= 112
    assert not nonlocal_layers(net)


@pytest.mark.parametrize("size", [(16, 16), (64, 32)])
def test_a_score_of_each_class_for_each_pixel(net, size):
    image = noise(2, 3, *(n + 2 * net.halo for n in size))
    assert net(image).shape == (2, 4, *size)


def test_tile_and_trim_is_the_whole_forward(net):
    image = noise(1, 3, 96 + 2 * net.halo, 64 + 2 * net.halo)
    whole = net(image)
    for row in range(0, 96, 32):
        for col in range(0, 64, 32):
            part = image[..., row : row + 32 + 2 * net.halo, col : col + 32 + 2 * net.halo]
            here = whole[..., row : row + 32, col : col + 32]
            assert (net(part) - here).abs().max() < 1e-5 * whole.std()


def test_what_lies_around_the_halo_has_no_say(net):
    """Also not as padding: a border of anything else gives the same scores inside."""
    image = noise(1, 3, 32 + 2 * net.halo, 32 + 2 * net.halo)
    wide = F.pad(image, (16,) * 4, value=9.0)
    inside = net(wide)[..., 16:-16, 16:-16]
    torch.testing.assert_close(inside, net(image), rtol=1e-4, atol=1e-5)


def test_a_training_patch_has_less_context_and_the_same_scores_inside(net):
    """What its border sees of the padding is far from the middle."""
    image = noise(1, 3, 256 + 2 * net.halo, 256 + 2 * net.halo)
    unread = net.halo - net.training_halo
    assert unread == 48
    patch, cores = net.training_scores(image[..., unread:-unread, unread:-unread])
    whole = net(image)
    assert cores is None
    assert patch.shape == whole.shape == (1, 4, 256, 256)
    inner = (..., slice(unread, -unread), slice(unread, -unread))
    torch.testing.assert_close(patch[inner], whole[inner], rtol=1e-4, atol=1e-5)
    assert (patch - whole).abs().mean() < 0.1 * whole.std()


def test_every_part_is_learnt():
    net = LiteUNet(3, 2).train()
    net(noise(1, 3, 256, 256)).square().mean().backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max()]
    assert not still


def test_it_starts_from_the_weights_of_a_backbone():
    backbone = load_backbone("efficientnet_lite0", "random:3")
    net = LiteUNet(3, 2).eval()
    net.start_from(backbone)
    image = noise(1, 3, 64, 64)
    x, y = image, image
    for name, block in net.down.items():
        x, y = block(x), backbone.blocks[name](y)
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
    assert list(net.down) == ["stem", "stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize("bands", [1, 2, 4, 8])
def test_other_bands_answer_to_grey_as_three_do(bands):
    """An image that is the same in all bands: the stem sees the same sum."""
    backbone = load_backbone("efficientnet_lite0", "random:3")
    grey = noise(1, 1, 32, 32)
    seen = []
    for count in (3, bands):
        net = LiteUNet(count, 2).eval()
        net.start_from(backbone)
        seen.append(net.down["stem"](grey.expand(-1, count, -1, -1)))
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-5)


def test_the_header_makes_it_again():
    net = build_base_network(5, 3, "lite-unet")
    assert isinstance(net, LiteUNet)
    header = net.architecture
    assert isinstance(build_base_network(5, 3, **header), LiteUNet)
    with pytest.raises(ValueError, match="lite-unet"):
        build_base_network(5, 3, "lite-unet", base=3)


def test_cores_are_scored_beside_the_classes_and_change_none():
    torch.manual_seed(0)
    plain = LiteUNet(3, 2).eval()
    torch.manual_seed(0)
    net = LiteUNet(3, 2, cores=True).eval()
    image = noise(1, 3, 288, 256)
    scores, cores = net.with_cores(image)
    assert cores.shape == (1, 1, *scores.shape[-2:])
    torch.testing.assert_close(scores, plain(image), rtol=0, atol=0)
    torch.testing.assert_close(scores, net(image), rtol=0, atol=0)
    assert plain.architecture == {"net": "lite-unet"}
    again = build_base_network(3, 2, **net.architecture)
    again.load_state_dict(net.state_dict())


def test_cores_are_added_to_a_trained_network_and_stay_with_other_classes():
    torch.manual_seed(0)
    plain = LiteUNet(3, 2).eval()
    with_head = with_core_scores(plain).eval()
    image = noise(1, 3, 256, 256)
    torch.testing.assert_close(with_head(image), plain(image), rtol=0, atol=0)
    other = with_classes(with_head, [0, 1, None]).eval()
    torch.testing.assert_close(
        other.with_cores(image)[1], with_head.with_cores(image)[1], rtol=0, atol=0
    )
    with pytest.raises(ValueError, match="cores"):
        with_core_scores(build_base_network(3, 2, "cnn"))


def test_cores_of_tiles_are_those_of_the_whole():
    torch.manual_seed(0)
    net = SegmentationModel(LiteUNet(3, 2, cores=True)).eval().requires_grad_(False)
    image = noise(1, 3, 64 + 2 * net.halo, 32 + 2 * net.halo)
    (scores,), whole = net.forward_with_cores(image, (0,))
    torch.testing.assert_close(scores, net(image), rtol=0, atol=0)
    for row in (0, 32):
        _, part = net.forward_with_cores(image[..., row : row + 32 + 2 * net.halo, :], (0,))
        assert (part - whole[..., row : row + 32, :]).abs().max() < 1e-5 * whole.std()
