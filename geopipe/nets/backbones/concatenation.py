"""Several backbones as one: their pooled features, one behind the other."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from geopipe.nets.backbones.net import BackboneNet
from geopipe.nets.backbones.table import Backbone


class Concatenation(BackboneNet):
    """Images normalised for the first net to the pooled features (N, width) of all.

    Each of the others sees the image as its own normalisation has it.
    """

    def __init__(self, spec: Backbone, nets: Sequence[BackboneNet]) -> None:
        super().__init__(spec, {})
        self.nets = nn.ModuleDict({net.spec.name: net for net in nets})

    @property
    def features(self) -> tuple[str, ...]:
        """Only the pooled feature."""
        return tuple(self.spec.features)

    def feature(self, image: Tensor, name: str = "pooled") -> Tensor:
        """The vector (N, width); raises ConfigError for any other feature than "pooled"."""
        self._feature(name)
        return torch.cat([net(self._renormalized(image, net)) for net in self._members], 1)

    def parts(self, feature: str = "pooled") -> list[nn.Module]:
        """The blocks of all nets."""
        self._feature(feature)
        return [part for net in self._members for part in net.parts(feature)]

    def truncated(self, feature: str) -> Self:
        """Drop, in place, the blocks that no pooled feature needs. Returns the net."""
        self._feature(feature)
        for net in self._members:
            net.truncated(feature)
        return self

    @property
    def _members(self) -> list[BackboneNet]:
        return [net for net in self.nets.values() if isinstance(net, BackboneNet)]

    def _renormalized(self, image: Tensor, net: BackboneNet) -> Tensor:
        first, own = self.spec, net.spec
        if (own.mean, own.std) == (first.mean, first.std):
            return image
        mean, std, own_mean, own_std = (
            image.new_tensor(v)[:, None, None] for v in (first.mean, first.std, own.mean, own.std)
        )
        return (image * std + mean - own_mean) / own_std
