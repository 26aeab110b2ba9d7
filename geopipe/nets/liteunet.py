"""A U-Net with an EfficientNet-Lite0 encoder, optionally pretrained on ImageNet."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from geopipe.nets.backbones import BackboneNet, build_backbone
from geopipe.nets.base import BaseNetwork
from geopipe.nets.unet import CONVS, Level, trim

BACKBONE = "efficientnet_lite0"
_DOWN = {"stage1": 16, "stage2": 24, "stage3": 40, "stage4": 80}
"""Blocks whose outputs the way up takes, and their channels: at a 2nd, 4th, 8th, 16th."""
_UP = {"stage3": 48, "stage2": 32, "stage1": 24}
"""Channels of the way up, where it meets the output of a block."""
_FINE = 16
"""Channels at full resolution, where it meets the image itself."""
_BORDER = 5
"""Cells of stage 4 that see the backbone's padding: it reaches 73 px beyond a cell, of 16 px."""
_TRAINING_BORDER = 2
"""Cells that are cut off in training, where a little of the padding does no harm: a patch of 256 px
reads 384 instead of 480 px a side, and a step takes two thirds of the time."""
_DECODER_PX = CONVS * (8 + 4 + 2 + 1)
"""Pixels that the decoder uses up on each side."""


class LiteUNet(BaseNetwork):
    """Image to one score map per class of the same resolution (Ronneberger et al. 2015).

    Input (N, bands, H, W), H and W multiples of 16; output (N, classes, H - 2 receptive_radius, W -
    2 receptive_radius).
    The backbone pads as its weights want it; what sees that is cut off before the way up, which
    never pads.
    """

    pretrained_on = "ImageNet"
    stride = 16
    receptive_radius = 16 * _BORDER + _DECODER_PX
    floats_per_pixel = 90
    class_axes: ClassVar[dict[str, int]] = {"head.weight": 1, "head.bias": 1}
    feature_layers = tuple(f"down.{name}" for name in _DOWN)

    def __init__(self, bands: int, classes: int, *, cores: bool = False) -> None:
        super().__init__()
        self.bands, self.classes, self.cores = bands, classes, cores
        blocks = build_backbone(BACKBONE, "c5").blocks
        self.down = nn.ModuleDict({name: blocks[name] for name in ("stem", *_DOWN)})
        first = self.down["stem"].get_submodule("conv")
        assert isinstance(first, nn.Conv2d)
        of_bands = type(first)(bands, first.out_channels, 3, 2, bias=False)
        self.down["stem"].set_submodule("conv", of_bands)
        self.up, self.merge = nn.ModuleDict(), nn.ModuleDict()
        in_channels = _DOWN["stage4"]
        for name, width in _UP.items():
            self.up[name] = nn.ConvTranspose2d(in_channels, width, 2, stride=2)
            self.merge[name] = Level(width + _DOWN[name], width)
            in_channels = width
        self.fine = Level(bands, _FINE)
        self.up["image"] = nn.ConvTranspose2d(in_channels, _FINE, 2, stride=2)
        self.merge["image"] = Level(2 * _FINE, _FINE)
        self.head = nn.Conv2d(_FINE, classes, 1)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        if cores:
            self.core_level = Level(2 * _FINE, _FINE)
            self.core_head = nn.Conv2d(_FINE, 1, 1)
            nn.init.xavier_normal_(self.core_head.weight)
            nn.init.zeros_(self.core_head.bias)  # type: ignore[arg-type]

    @property
    def architecture(self) -> dict[str, Any]:
        return {"net": "lite-unet", **({"cores": True} if self.cores else {})}

    def start_from(self, backbone: BackboneNet) -> None:
        """Take the weights of an EfficientNet-Lite0.

        Of other than three bands each sees the mean of the first filters over red, green and blue,
        scaled so that their sum stays.
        """
        for name, block in self.down.items():
            weights = backbone.blocks[name].state_dict()
            if name == "stem" and self.bands != 3:
                mean = weights["conv.weight"].mean(1, keepdim=True) * 3 / self.bands
                weights["conv.weight"] = mean.expand(-1, self.bands, -1, -1)
            block.load_state_dict(weights)

    @property
    def training_radius(self) -> int:
        return 16 * _TRAINING_BORDER + _DECODER_PX

    def forward(self, image: Tensor) -> Tensor:
        return self._scores(self._joined(image, _BORDER))

    def training_scores(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        joined = self._joined(image, _TRAINING_BORDER)
        return self._with_cores(joined) if self.cores else (self._scores(joined), None)

    def with_cores(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self._with_cores(self._joined(image, _BORDER))

    def _scores(self, joined: Tensor) -> Tensor:
        scores: Tensor = self.head(self.merge["image"](joined))
        return scores.contiguous()

    def _with_cores(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        # Detached: what the classes are told by does not change for the sake of cores.
        cores: Tensor = self.core_head(self.core_level(joined.detach()))
        return self._scores(joined), cores.contiguous()

    def _joined(self, image: Tensor, border: int) -> Tensor:
        """(N, 2 _FINE, h, w): what the decoder and the image itself bring to full resolution.

        Without `border` cells of stage 4 on each side.
        """
        # Channels last: as in a UNet; depthwise convolutions gain most.
        x, skips = image.contiguous(memory_format=torch.channels_last), {}
        full_image = x
        for name, block in self.down.items():
            x = skips[name] = block(x)
        x, offset = trim(x, border), border
        for name in _UP:
            x, offset = self.up[name](x), 2 * offset
            x = self.merge[name](torch.cat([trim(skips.pop(name), offset), x], 1))
            offset += CONVS
        x, offset = self.up["image"](x), 2 * offset
        return torch.cat([self.fine(trim(full_image, offset - CONVS)), x], 1)
