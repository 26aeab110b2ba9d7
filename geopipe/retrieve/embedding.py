"""EmbeddingConfig: how an image becomes a vector. EmbeddingModel: the network that computes it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.allocator import tune_malloc
from geopipe.checkpoint.weights import load_backbone, weights_hash
from geopipe.errors import ChipIndexError, ConfigError
from geopipe.nets.backbones import BackboneNet, backbone
from geopipe.retrieve.normalization import Norm, normalised
from geopipe.validation import Schema, Text, validated

Pooling = Literal["flat", "mean", "max", "gem"]
BATCH = 32
"""Images that go through the net at once."""
_GEM = 3.0
_VECTORS = ("pooled", "fc6", "fc7", "logits")
"""Features that are no map."""
_LATER = "was it made by a later geopipe?"
_LOAD_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """How an image becomes a vector; JSON values only."""

    backbone: str = "efficientnet_lite0"
    feature: str = "pooled"
    """pool5, fc6, fc7, c5, pooled... of `BACKBONES`."""
    side: int = 0
    """Pixels a side that an image is resized to; 0: what the net was trained with."""
    pooling: Pooling = "flat"
    """Of a map: all its values (as the paper's pool5), or one per channel."""
    norm: Norm = "gauss"
    rotations: int = 1
    """Views that are averaged: 1, 4 (quarter turns) or 8 (and their mirror images)."""
    scales: tuple[float, ...] = (1.0,)
    """Views at several sizes, as shares of `side`, are averaged too."""

    def __post_init__(self) -> None:
        spec = backbone(self.backbone)
        if self.feature not in spec.features:
            raise ConfigError(
                f"{self.backbone} has no feature {self.feature!r}",
                f"one of {', '.join(spec.features)}",
            )
        if self.rotations not in (1, 4, 8) or not self.scales or min(self.scales) <= 0:
            raise ConfigError(
                f"turns={self.rotations}, scales={self.scales}: 1, 4 or 8 turns, positive scales"
            )
        if self.pooling != "flat" and self.feature in _VECTORS:
            raise ConfigError(
                f"{self.feature} is a vector, there is nothing to pool by {self.pooling}",
                "give a map as `feature`, e.g. c5",
            )
        if self.side and self.side * min(self.scales) < 32:
            raise ConfigError(f"side={self.side} at scale {min(self.scales):g} is below 32 px")

    @property
    def px(self) -> int:
        """Pixels a side of an image."""
        return self.side or backbone(self.backbone).px

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EmbeddingConfig":
        """The config that `to_dict` told; TypeError or KeyError for other values."""
        return cls(**{**values, "scales": tuple(values["scales"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(replace(self, side=self.px)), "scales": list(self.scales)}


class _StoredConfig(Schema):
    """An `EmbeddingConfig` as an index's header has it."""

    backbone: Text
    feature: Text
    side: int = Field(ge=0, le=4096)
    pooling: Pooling
    norm: Norm
    rotations: int
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=16)], ...], Field(max_length=16)]


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A config and the weights it means: what an index was made with."""

    config: EmbeddingConfig
    weights: str
    """As for `load_backbone`."""
    sha256: str = ""
    """Of the weights; "" where they were not loaded yet."""
    device: str = "cpu"

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> Self:
        """The model that an index's header tells of; ChipIndexError for one unknown here."""
        values = dict(identity)
        weights, sha256 = str(values.pop("weights")), str(values.pop("weights_sha256"))
        config = validated(
            values, _StoredConfig, "the model that the index was made with", ChipIndexError, _LATER
        )
        try:
            return cls(EmbeddingConfig(**config.model_dump()), weights, sha256)
        except ConfigError as e:
            raise ChipIndexError(f"the index was made with {e.message}", _LATER) from e

    def loaded(self) -> "EmbeddingModel":
        """The same, with the hash of the weights that there are, and where their file is."""
        path = Path(self.weights)
        weights = str(path.resolve()) if path.is_file() else self.weights
        return replace(self, weights=weights, sha256=_net(self.config, weights, self.device)[1])

    def identity(self) -> dict[str, Any]:
        """What decides the vectors, as JSON values."""
        return {**self.config.to_dict(), "weights_sha256": self.sha256}

    def require(self, expected: Mapping[str, Any]) -> None:
        """ChipIndexError naming what differs from the identity `from_identity` of an index."""
        identity = self.identity()
        different = [key for key in expected if identity.get(key) != expected[key]]
        if different:
            differences = "; ".join(
                f"{k}: {_short(expected[k])}, not {_short(identity[k])}" for k in different
            )
            raise ChipIndexError(
                f"the index was made with another model ({differences})",
                "use that model, or build another index",
            )

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors (n, d) float32 of images, each (3, h, w) uint8 of any size.

        Raises ChipIndexError when the weights are others than `sha256` says.
        """
        net, sha256 = _net(self.config, self.weights, self.device)
        if self.sha256 and sha256 != self.sha256:
            raise ChipIndexError(
                f"{self.weights} holds other weights ({_short(sha256)}) than the index was made "
                f"with ({_short(self.sha256)})",
                "give that file as `weights`",
            )
        parts = [
            _embedded(net, self.config, images[i : i + BATCH], self.device)
            for i in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text


@lru_cache(maxsize=1)
def _loaded(config: EmbeddingConfig, weights: str, device: str) -> tuple[BackboneNet, str]:
    tune_malloc()
    torch.backends.cudnn.allow_tf32 = False  # vectors of a GPU are to be those of a processor
    net = load_backbone(config.backbone, weights, last_layer=config.feature).requires_grad_(False)
    digest = weights_hash(net)
    return net.to(device), digest


def _net(config: EmbeddingConfig, weights: str, device: str) -> tuple[BackboneNet, str]:
    with _LOAD_LOCK:  # threads that start together would each load one
        return _loaded(config, weights, device)


def _embedded(
    net: BackboneNet, config: EmbeddingConfig, images: Sequence[np.ndarray], device: str
) -> np.ndarray:
    """Mean of the normalised vectors of all views, normalised."""
    with torch.inference_mode():
        inputs = torch.stack([resized(image, config.px) for image in images]).to(device)
        views = [
            _pooled(net.feature(view.contiguous(), config.feature), config.pooling)
            for scale in config.scales
            for view in _rotated(net.normalize(_scaled(inputs, config.px, scale)), config.rotations)
        ]
    vectors = [normalised(v.float().cpu().numpy(), config.norm) for v in views]
    return vectors[0] if len(vectors) == 1 else normalised(np.mean(vectors, 0), config.norm)


def resized(image: np.ndarray, px: int) -> Tensor:
    """(3, h, w) uint8 to (3, px, px) float32, 0..255, by antialiased bilinear interpolation."""
    pixels = torch.from_numpy(np.array(image, np.float32))[None]
    return _scaled(pixels, px, 1.0)[0]


def _scaled(images: Tensor, px: int, scale: float) -> Tensor:
    side = round(px * scale)
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def _rotated(images: Tensor, rotations: int) -> list[Tensor]:
    rotated = [torch.rot90(images, k, (2, 3)) for k in range(1 if rotations == 1 else 4)]
    return rotated + [q.flip(3) for q in rotated if rotations == 8]


def _pooled(feature: Tensor, pooling: Pooling) -> Tensor:
    """A map (n, c, h, w) to vectors (n, d); vectors pass."""
    if feature.ndim == 2:
        return feature
    match pooling:
        case "flat":
            return feature.flatten(1)
        case "mean":
            return feature.mean((2, 3))
        case "max":
            return feature.amax((2, 3))
        case "gem":
            return generalised_mean(feature)


def generalised_mean(feature: Tensor, power: float = _GEM) -> Tensor:
    """(n, c, h, w) to (n, c): (mean of x^p)^(1/p) of what is positive.

    Radenovic, Tolias, Chum 2019 (TPAMI), eq. (3): p = 1 is the mean, infinite p the maximum.
    """
    return feature.clamp(min=1e-6).pow(power).mean((2, 3)).pow(1 / power)
