"""Nets as small as can be that break, or keep, the law of tiling; each says how by its name."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from geopipe.nets import BaseNetwork, RefinementRNN, SegmentationModel


class Tiny(BaseNetwork):
    """A base network of any stride s: output (0, 0) lies on input (2 s, 2 s), and it looks so far.

    Convolution 2 s x 2 s of stride s, 3 x 3, and a transposed one that brings s x s back.
    """

    def __init__(self, stride, bands=3, classes=3):
        super().__init__()
        self.stride, self.receptive_radius = stride, 2 * stride
        self.conv1 = nn.Conv2d(bands, 6, 2 * stride, stride=stride)
        self.conv2 = nn.Conv2d(6, 6, 3)
        self.up = nn.ConvTranspose2d(6, classes, 2 * stride, stride=stride)

    def forward(self, image):
        x = torch.relu(self.conv2(torch.relu(self.conv1(image))))
        return self.up(x)[..., self.stride : -self.stride, self.stride : -self.stride]


class Padding(Tiny):
    """Pads with zeros what its declared reach does not hold: `px` less than it looks."""

    def __init__(self, stride, px=None, **kinds):
        super().__init__(stride, **kinds)
        self.px = px or stride
        self.receptive_radius -= self.px

    def forward(self, image):
        return super().forward(F.pad(image, (self.px,) * 4))


class Pooling(Tiny):
    """Subtracts the mean of the whole image, in its forward: no layer shows it."""

    def forward(self, image):
        return super().forward(image - image.mean((2, 3), keepdim=True))


class Stretching(Tiny):
    """Stretches each tile by its own extremes, where no gradient flows."""

    def forward(self, image):
        with torch.no_grad():
            low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
        return super().forward(image / (high - low))


class Placing(Tiny):
    """Knows where in its tile a pixel lies."""

    def forward(self, image):
        scores = super().forward(image)
        return scores + torch.linspace(0, 1, scores.shape[-1])


class Blocky(BaseNetwork):
    """Means of 4 x 4 px counted from the tile's corner, for tiles of any size: its stride is 4."""

    def __init__(self, declared):
        super().__init__()
        self.stride, self.receptive_radius = declared, 4

    def forward(self, image):
        rows, cols = image.shape[-2:]
        whole = F.pad(image, (0, -cols % 4, 0, -rows % 4))
        blocks = F.interpolate(F.avg_pool2d(whole, 4), scale_factor=4)
        return blocks[..., 4 : rows - 4, 4 : cols - 4]


class Squeeze(BaseNetwork):
    """Squeeze-excite without a pooling layer."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class Squeezing(Tiny):
    """Squeeze-excite behind its second convolution."""

    def __init__(self, stride, layer=None, **kinds):
        super().__init__(stride, **kinds)
        self.conv2 = nn.Sequential(self.conv2, layer or Squeeze(6))


class Blind(SegmentationModel):
    """Does not see the outermost `px` pixels of a tile: as much less halo than it needs."""

    px = 1

    def forward_steps(self, image, iterations):
        seen = image[..., self.px : -self.px, self.px : -self.px]
        return super().forward_steps(F.pad(seen, (self.px,) * 4), iterations)


def tiny_net(base, iterations=0, kind=SegmentationModel, seed=0):
    """`base` (a class, or a net) and perhaps a refinement, their weights drawn to matter."""
    refine = RefinementRNN(3, 3, iterations=iterations) if iterations else None
    net = kind(base, refine)
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        # Small biases, lest one class win everywhere.
        scale = 1 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return net.eval().requires_grad_(False)


def with_net(model, net):
    """`model` (a Checkpoint) with `net`."""
    return replace(model, net=net)
