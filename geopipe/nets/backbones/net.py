"""BackboneNet: a sequence of blocks, and the features available after some of them."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.nets.backbones.dinov2 import Tokens
from geopipe.nets.backbones.table import Backbone, Feature


class BackboneNet(nn.Module):
    """Image (N, 3, h, w) float32, RGB, normalised, to features.

    `c5` and `pooled` take any size of about 64 px or more. The fully connected layers see the map
    averaged to the size they were trained with, which changes nothing at `spec.px`.
    """

    def __init__(self, spec: Backbone, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.ModuleDict(dict(blocks))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features this net has; one of partial weights lacks the last ones."""
        return tuple(name for name, f in self.spec.features.items() if f.after in self.blocks)

    def width(self, feature: str = "pooled") -> int:
        """Channels or length of a feature; raises ConfigError where the net has it not."""
        return self._feature(feature).width

    def normalize(self, image: Tensor) -> Tensor:
        """(N, 3, h, w) RGB of any dtype, 0..255, to what the net takes, float32."""
        x = image.to(torch.float32)
        mean, std = (x.new_tensor(v)[:, None, None] for v in (self.spec.mean, self.spec.std))
        return (x - mean) / std

    def feature(self, image: Tensor, name: str = "pooled") -> Tensor:
        """The map (N, width, h', w') or vector (N, width) named `name`; runs no later block."""
        feature = self._feature(name)
        x = image.contiguous(memory_format=torch.channels_last)
        outputs = []
        for block_name, block in self._up_to(feature).items():
            x = block(x)
            if block_name == feature.after or block_name in feature.also:
                y = x.as_map() if isinstance(x, Tokens) else x
                outputs.append(y.mean((2, 3)) if feature.pooled else y)
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]

    def forward(self, image: Tensor) -> Tensor:
        """Pooled features (N, width)."""
        return self.feature(image)

    def parts(self, feature: str = "pooled") -> list[nn.Module]:
        """The blocks that `feature(which)` runs, from input to output.

        All weights of the feature are in them, so that a trainer can freeze the first ones or
        give them lower rates.
        """
        return list(self._up_to(self._feature(feature)).values())

    def arranged(self) -> Self:
        """The net with its weights laid out channels last, in place.

        So depthwise convolutions take half the time on a CPU, and `feature` gives them their image.
        """
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def truncated(self, feature: str) -> Self:
        """Drop, in place, the blocks that `feature(which)` does not run. Returns the net."""
        kept_features = self._up_to(self._feature(feature))
        for name in [name for name in self.blocks if name not in kept_features]:
            del self.blocks[name]
        return self

    def _up_to(self, feature: Feature) -> dict[str, nn.Module]:
        names = list(self.blocks)
        return {name: self.blocks[name] for name in names[: names.index(feature.after) + 1]}

    def _feature(self, name: str) -> Feature:
        feature = self.spec.features.get(name)
        if feature is None:
            text = f"{self.spec.name} has no feature {name!r}"
            raise ConfigError(text, f"one of {', '.join(self.features)}")
        if feature.after and feature.after not in self.blocks:
            raise ConfigError(
                f"this {self.spec.name} ends before {name}: its weights hold no {name}, "
                "or it was cut",
                f"choose one of {', '.join(self.features)}, or give a file with all weights",
            )
        return feature
