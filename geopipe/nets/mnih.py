"""The base network: a fully convolutional form of Mnih's network.

Maggiori et al. 2017 (IEEE TGRS 55:9), section III.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from geopipe.nets.base import BaseNetwork
from geopipe.nets.shifted import shifted_conv2d

STRIDE = 4
RECEPTIVE_RADIUS = 30


class MnihCNN(BaseNetwork):
    """Image at 1 m to one score map per class at 1 m, blurred by a stride of 4.

    Input (N, bands, H + 60, W + 60) float32, normalised; output (N, classes, H, W) scores, H and
    W multiples of 4. Output pixel (0, 0) lies on input pixel (30, 30).
    """

    stride = STRIDE
    receptive_radius = RECEPTIVE_RADIUS
    floats_per_pixel = 12
    class_axes: ClassVar[dict[str, int]] = {"conv4.weight": 1, "conv4.bias": 1, "up.weight": 2}
    feature_layers = ("conv1", "conv2", "conv3")

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.bands, self.classes = bands, classes
        self.conv1 = nn.Conv2d(bands, 64, 12, stride=STRIDE)
        self.conv2 = nn.Conv2d(64, 128, 3)
        self.conv3 = nn.Conv2d(128, 128, 3)
        self.conv4 = nn.Conv2d(128, classes, 9)
        self.up = nn.ConvTranspose2d(classes, classes, 2 * STRIDE, stride=STRIDE, bias=False)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.xavier_normal_(self.conv4.weight)
        nn.init.zeros_(self.conv4.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.up.weight.copy_(_bilinear(classes))

    @property
    def architecture(self) -> dict[str, Any]:
        return {"net": "cnn"}

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv1(image).relu_()  # (N, 64, h + 12, w + 12), h = H / 4 + 1
        x = self.conv2(x).relu_()
        x = self.conv3(x).relu_()
        if torch.is_grad_enabled() and not x.is_cuda and not torch.is_autocast_enabled("cpu"):
            x = shifted_conv2d(x, self.conv4.weight, self.conv4.bias)  # type: ignore[arg-type]
        else:
            x = self.conv4(x)
        scores: Tensor = self.up(x)  # (N, K, H + 8, W + 8)
        # The outer 4 pixels lack a neighbour to interpolate with.
        return scores[..., STRIDE:-STRIDE, STRIDE:-STRIDE]


def _bilinear(classes: int) -> Tensor:
    """(classes, classes, 8, 8): each class upsampled 4 times on its own."""
    n = 2 * STRIDE
    ramp = 1 - np.abs(np.arange(n) - (n - 1) / 2) / STRIDE
    kernel = np.zeros((classes, classes, n, n), np.float32)
    kernel[range(classes), range(classes)] = np.outer(ramp, ramp)
    return torch.from_numpy(kernel)  # numpy: torch's device "meta" would import its compiler
