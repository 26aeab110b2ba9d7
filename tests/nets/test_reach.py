import pytest
import torch
from tiny_nets import (
    Blind,
    Blocky,
    Padding,
    Placing,
    Pooling,
    Squeezing,
    Stretching,
    Tiny,
    tiny_net,
)
from torch import nn

from geopipe.errors import ConfigError
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel, measured_halo
from geopipe.nets.receptive_field import check_receptive_field

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_what_is_declared_is_what_is_measured(stride, iterations):
    net = tiny_net(Tiny(stride), iterations)
    receptive_radius = 2 * stride + 2 * iterations
    assert 0 <= net.halo - receptive_radius < stride
    measured = check_receptive_field(net, 3)
    assert measured <= net.halo
    if receptive_radius % stride == 0:
        assert measured == receptive_radius


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_the_nets_of_geopipe_keep_what_they_declare(iterations):
    torch.manual_seed(0)
    refine = RefinementRNN(3, 3, iterations=iterations) if iterations else None
    net = SegmentationModel(MnihCNN(3, 3), refine)
    assert check_receptive_field(net, 3) <= net.halo
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("stride", "px", "declared", "looks"), [(1, 1, 1, 2), (2, 2, 2, 4), (4, 4, 4, 8), (4, 8, 0, 8)]
)
def test_a_halo_too_small_by_one_stride_is_found(stride, px, declared, looks):
    net = tiny_net(Padding(stride, px))
    assert (net.halo, measured_halo(net, 3)) == (declared, looks)
    with pytest.raises(ConfigError, match=f"looks {looks} px far and declares .*{declared} px"):
        check_receptive_field(net, 3)


class Short(SegmentationModel):
    """Declares one pixel less than its layers use up."""

    @property
    def halo(self):
        return super().halo - 1


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_halo_that_is_not_what_the_layers_use_up_is_found(iterations):
    net = tiny_net(Tiny(1), iterations, Short)
    with pytest.raises(
        ConfigError, match=rf"declares a halo of {net.halo} px|a net left \(63, 63\) px"
    ):
        check_receptive_field(net, 3)


def test_a_net_that_looks_everywhere_is_measured_to_its_border():
    net = tiny_net(Pooling(4))
    assert measured_halo(net, 3) == net.halo + 32
    with pytest.raises(ConfigError, match=r"at least 40 px.*first too far: base: Pooling"):
        check_receptive_field(net, 3)


def test_the_layer_that_pools_without_a_pooling_layer_is_named():
    net = tiny_net(Squeezing(2))
    with pytest.raises(ConfigError, match=r"first too far: base\.conv2\.1: Squeeze"):
        check_receptive_field(net, 3)
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.InstanceNorm2d(6), "base.conv2.1: InstanceNorm2d"),
        (nn.GroupNorm(2, 6), "base.conv2.1: GroupNorm"),
    ],
)
def test_layers_that_break_tiling_are_found_by_what_they_do(layer, name):
    with pytest.raises(ConfigError) as e:
        check_receptive_field(tiny_net(Squeezing(2, layer)), 3)
    assert f"first too far: {name}" in e.value.message


@pytest.mark.parametrize("kind", [Stretching, Placing])
def test_what_gradients_do_not_show_is_found_by_a_window(kind):
    net = tiny_net(kind(2))
    assert measured_halo(net, 3) == net.halo
    with pytest.raises(ConfigError, match="a window's scores differ from the whole's"):
        check_receptive_field(net, 3)


@pytest.mark.parametrize("declared", [1, 2])
def test_a_larger_stride_than_declared_is_found(declared):
    net = tiny_net(Blocky(declared))
    assert measured_halo(net, 3) <= net.halo == 4
    with pytest.raises(ConfigError, match=f"its stride is not {declared}"):
        check_receptive_field(net, 3)
    check_receptive_field(tiny_net(Blocky(4)), 3)


def test_a_net_that_trims_by_a_smaller_stride_than_its_layers_is_found():
    net = tiny_net(Tiny(4))
    net.base.stride = 2  # which also leaves too little of the border away
    with pytest.raises(ConfigError, match="12 px far and declares a halo of 8 px"):
        check_receptive_field(net, 3)


def test_a_tile_that_lacks_one_pixel_of_context_is_found():
    with pytest.raises(ConfigError, match="a window's scores differ"):
        check_receptive_field(tiny_net(Tiny(2), 1, Blind), 3)


def test_a_net_of_zeros_looks_nowhere():
    net = tiny_net(Tiny(2))
    for parameter in net.parameters():
        parameter.zero_()
    assert measured_halo(net, 3) == 0
