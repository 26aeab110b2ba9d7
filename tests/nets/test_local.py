import pytest
import torch
from torch import nn

from geopipe.errors import ConfigError
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel
from geopipe.nets.local import nonlocal_layers, require_local

pytestmark = pytest.mark.usefixtures("one_thread")


class ChannelsLast(nn.Module):
    """LayerNorm over the channels of (N, C, H, W), as ConvNeXt has it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


LOCAL = {
    "conv": nn.Conv2d(8, 8, 5),
    "padded conv": nn.Conv2d(8, 8, 5, padding=2),
    "same conv": nn.Conv2d(8, 8, 3, padding="same"),
    "reflecting conv": nn.Conv2d(8, 8, 5, padding=2, padding_mode="reflect"),
    "circular conv": nn.Conv2d(8, 8, 5, padding=2, padding_mode="circular"),
    "dilated conv": nn.Conv2d(8, 8, 3, dilation=3),
    "transposed conv": nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1),
    "padding": nn.ReplicationPad2d(3),
    "max pool": nn.MaxPool2d(2),
    "average pool": nn.AvgPool2d(3, stride=1, padding=1),
    "batch norm": nn.BatchNorm2d(8),
    "instance norm with stored statistics": nn.InstanceNorm2d(8, track_running_stats=True),
    "norm across channels": nn.LocalResponseNorm(3),
    "layer norm of channels": ChannelsLast(),
    "softmax of channels": nn.Softmax2d(),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "pixel shuffle": nn.PixelShuffle(2),
    "dropout, off": nn.Dropout2d(),
    "gelu": nn.GELU(),
}
NONLOCAL = {
    "instance norm": nn.InstanceNorm2d(8),
    "group norm": nn.GroupNorm(2, 8),
    "batch norm without statistics": nn.BatchNorm2d(8, track_running_stats=False),
    "global pool": nn.AdaptiveAvgPool2d(1),
    "adaptive pool": nn.AdaptiveAvgPool2d(16),
    "adaptive max pool": nn.AdaptiveMaxPool2d(16),
    "fractional pool": nn.FractionalMaxPool2d(3, output_ratio=0.5),
    "upsampling to a size": nn.Upsample(size=(128, 128), mode="bilinear"),
    "upsampling from corner to corner": nn.UpsamplingBilinear2d(scale_factor=2),
}
TRAINING = {
    "batch norm in training": nn.BatchNorm2d(8),
    "instance norm in training": nn.InstanceNorm2d(8, track_running_stats=True),
    "dropout in training": nn.Dropout2d(),
}


def middle(x):
    row, col = x.shape[-2] // 2, x.shape[-1] // 2
    return x[..., max(row - 2, 0) : row + 2, max(col - 2, 0) : col + 2]


def disagrees(layer):
    """Truth: whether the middle of a 64 px image comes out another way from its inner 32 px."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 8, 64, 64), generator=generator)
    image[..., 30:34] += 3  # an image whose parts do not resemble the whole
    with torch.inference_mode():
        whole, part = layer(image), layer(image[..., 16:48, 16:48])
    whole, part = map(middle, (whole, part))
    return not torch.allclose(whole, part, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LOCAL)
def test_local_layers_are_not_named(name):
    layer = LOCAL[name].eval()
    assert not disagrees(layer)
    assert nonlocal_layers(layer) == []
    assert require_local(layer) == []


@pytest.mark.parametrize("name", [*NONLOCAL, *TRAINING])
def test_layers_that_break_tiling_are_named(name):
    layer = NONLOCAL[name].eval() if name in NONLOCAL else TRAINING[name].train()
    assert disagrees(layer)
    assert nonlocal_layers(layer) == [f"net: {type(layer).__name__}"]


@pytest.mark.parametrize(
    "layer",
    [nn.LayerNorm((8, 64, 64)), nn.MultiheadAttention(8, 2), nn.LSTM(8, 8)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_see_all_positions_are_named(layer):
    assert nonlocal_layers(layer.eval()) == [f"net: {type(layer).__name__}"]


def test_the_nets_of_geopipe_are_local():
    assert nonlocal_layers(SegmentationModel(MnihCNN(3, 3), RefinementRNN(3, 3)).eval()) == []


def squeeze_excite():
    scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ModuleDict({"scale": scale}), nn.GroupNorm(2, 8))


def test_a_net_with_such_layers_is_refused_and_they_are_named_by_their_path():
    with pytest.raises(ConfigError) as e:
        require_local(squeeze_excite())
    assert "2 layer(s)" in e.value.message
    assert "1.scale.0: AdaptiveAvgPool2d, 2: GroupNorm" in e.value.message
    assert e.value.hint == "`inexact` maps with seams"


def test_whoever_accepts_seams_is_warned():
    (warning,) = require_local(squeeze_excite(), inexact=True)
    assert "1.scale.0: AdaptiveAvgPool2d, 2: GroupNorm" in warning
    assert warning.endswith("the map has seams")
