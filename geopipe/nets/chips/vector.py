"""VectorNet: features of one or two pretrained CNNs, concatenated and classified.

With two of them the fusion of Iftene et al.; with one, a CNN that is fine-tuned.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from geopipe.nets.backbones import Backbone, backbone, build_backbone
from geopipe.nets.chips.cam import grad_cam
from geopipe.nets.chips.spec import BackboneFeature

DROPOUT = 0.5
CL = torch.channels_last


class Branch(nn.Module):
    """A backbone up to one of its features, as a vector.

    Takes images (N, 3, h, w) that are normalised for the backbone `input_spec`, those of the first
    branch of a net, and normalises them anew where its own takes something else.
    """

    def __init__(self, part: BackboneFeature, input_spec: Backbone) -> None:
        super().__init__()
        self.part, self.input_spec = part, input_spec
        # Channels last: depthwise convolutions take half the time on a CPU.
        self.net = build_backbone(part.backbone, part.feature)
        self.net.to(memory_format=CL)  # type: ignore[call-overload]  # torch's stubs lack it
        self.width = self.net.width(part.feature)

    def maps(self, image: Tensor) -> Tensor:
        """The last convolution's maps (N, k, h', w')."""
        own_spec, given_spec = self.net.spec, self.input_spec
        if (own_spec.mean, own_spec.std) != (given_spec.mean, given_spec.std):
            mean, std = (
                image.new_tensor(v)[:, None, None] for v in (given_spec.mean, given_spec.std)
            )
            image = self.net.normalize(image * std + mean)
        return self.net.feature(image.contiguous(memory_format=CL), "c5")

    def vector(self, maps: Tensor) -> Tensor:
        """(N, width) of `maps`: the blocks behind them, if the feature lies there, and a mean."""
        x = maps
        for block in self.net.parts(self.part.feature)[len(self.net.parts("c5")) :]:
            x = block(x)
        return x.mean((2, 3)) if x.ndim == 4 else x


class VectorNet(nn.Module):
    """Branches, concatenated; a fully connected layer of `hidden` units, if any; a linear layer."""

    def __init__(self, parts: Sequence[BackboneFeature], classes: int, hidden: int = 0) -> None:
        super().__init__()
        first = backbone(parts[0].backbone)
        self.branches = nn.ModuleList(Branch(part, first) for part in parts)
        width = sum(branch.width for branch in self.pretrained)
        layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(DROPOUT)] if hidden else []
        self.between = nn.Sequential(*layers)
        self.width = hidden or width
        self.head = nn.Linear(self.width, classes)

    @property
    def pretrained(self) -> list[Branch]:
        """What learns at a lower rate."""
        return [b for b in self.branches if isinstance(b, Branch)]

    def features(self, image: Tensor) -> Tensor:
        """(N, width) that the last layer classifies."""
        return self._joined([branch.maps(image) for branch in self.pretrained])

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, classes) before the softmax."""
        scores: Tensor = self.head(self.features(image))
        return scores

    def cam(self, image: Tensor, classes: Tensor | None = None) -> Tensor:
        """Grad-CAM (N, h, w) of the predicted or given classes; of two branches the mean.

        Each branch's map is scaled to 1 at its highest first, for their units differ; the second
        is brought to the size of the first.
        """
        with torch.inference_mode(mode=False), torch.no_grad():  # what torch may derive by
            maps = [branch.maps(image) for branch in self.pretrained]
            if classes is None:
                classes = self.head(self._joined(maps)).argmax(1)

        def scores_of(i: int, x: Tensor) -> Tensor:
            scores: Tensor = self.head(self._joined([*maps[:i], x, *maps[i + 1 :]]))
            return scores

        cams = [
            grad_cam(branch_maps, partial(scores_of, i), classes)
            for i, branch_maps in enumerate(maps)
        ]
        if len(cams) == 1:
            return cams[0]
        size = cams[0].shape[-2:]
        scaled = [x / x.amax((1, 2), keepdim=True).clamp(min=1e-12) for x in cams]
        resized = [
            nn.functional.interpolate(x[:, None], size, mode="bilinear")[:, 0] for x in scaled
        ]
        return torch.stack(resized).mean(0)

    def _joined(self, maps: Sequence[Tensor]) -> Tensor:
        vectors = [branch.vector(x) for branch, x in zip(self.pretrained, maps, strict=True)]
        joined: Tensor = self.between(torch.cat(vectors, 1))
        return joined
