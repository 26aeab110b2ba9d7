"""AttentionNet: DDRL-AM of Li et al.

From "Deep Discriminative Representation Learning with Attention Map for Scene Classification". A
first network is fine-tuned; its Grad-CAM is the attention map. A second network processes the
image, a small one the map; their feature maps are multiplied (eq. 3) and classified.
"""

import torch
from torch import Tensor, nn

from geopipe.nets.backbones import backbone
from geopipe.nets.chips.cam import attention_map, linear_cam
from geopipe.nets.chips.spec import BackboneFeature
from geopipe.nets.chips.vector import Branch


class SpatialFeatureTransformer(nn.Sequential):
    """Grey image (N, 1, side, side) to maps (N, width, side / 32, side / 32), rounded up: Table I.

    64 filters of 7 x 7 with stride 2, max pooling, then 128, 256 and `width` of 3 x 3 with stride
    2; batch norm of momentum 0.1 behind each convolution. The table names no activation: a ReLU
    stands behind each norm, as in the net whose maps these are multiplied with.
    """

    def __init__(self, width: int = 512) -> None:
        super().__init__(
            *_layer(1, 64, 7),
            nn.MaxPool2d(3, 2, 1),
            *_layer(64, 128, 3),
            *_layer(128, 256, 3),
            *_layer(256, width, 3),
        )


def _layer(channels: int, width: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, width, kernel, 2, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return [conv, nn.BatchNorm2d(width, momentum=0.1), nn.ReLU(True)]


class AttentionNet(nn.Module):
    """Image (N, 3, side, side), normalised, to scores (N, classes) before the softmax.

    `attention_backbone` and `looker_head` are step 1, a fine-tuned net that is frozen afterwards;
    its Grad-CAM of the class it predicts is the attention map, in training as in use. `rgb` and
    `sft` are the two streams of step 2. `flat`: the classifier takes the product's 512 x 7 x 7
    values as they are, else their mean over space.
    """

    def __init__(
        self, part: BackboneFeature, classes: int, *, side: int, flat: bool = False
    ) -> None:
        super().__init__()
        spec = backbone(part.backbone)
        self.flat = flat
        self.attention_backbone = Branch(part, spec)
        self.looker_head = nn.Linear(self.attention_backbone.width, classes)
        self.rgb = Branch(part, spec)
        self.sft = SpatialFeatureTransformer(self.rgb.width)
        positions = ((side + 31) // 32) ** 2 if flat else 1
        self.width = self.rgb.width * positions
        self.head = nn.Linear(self.width, classes)

    @property
    def pretrained(self) -> list[Branch]:
        """What learns at a lower rate."""
        return [self.rgb]

    def cam(self, image: Tensor, classes: Tensor | None = None) -> Tensor:
        """Grad-CAM (N, h, w) of step 1, of the classes it predicts or of the given ones.

        Its head is linear on the maps' means, so the gradient is known without being computed.
        """
        maps = self.attention_backbone.maps(image)
        if classes is None:
            classes = self.looker_head(self.attention_backbone.vector(maps)).argmax(1)
        return linear_cam(maps, self.looker_head.weight, classes)

    def features(self, image: Tensor, cam: Tensor | None = None) -> Tensor:
        """(N, width) that the last layer classifies; `cam`: another map than the image's own."""
        with torch.no_grad():
            attention = self.cam(image) if cam is None else cam
            grey = attention_map(attention, image.shape[-1])
        return self.modulated(image, grey)

    def modulated(self, image: Tensor, grey: Tensor) -> Tensor:
        """As `features`, of an image and its attention map (N, 1, side, side)."""
        fused: Tensor = self.rgb.maps(image) * self.sft(grey)
        return fused.flatten(1) if self.flat else fused.mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(image))
        return scores
