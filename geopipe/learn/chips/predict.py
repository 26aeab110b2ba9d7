"""Features, class probabilities and class activation maps of chips."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.errors import ConfigError
from geopipe.learn.chips.decoded import DecodedChips
from geopipe.nets.chips import AttentionNet, ChipNet
from geopipe.nets.patches import BATCH
from geopipe.progress import progress


def chip_net(model: Checkpoint) -> ChipNet:
    """The model's net of chips; ConfigError when it has another."""
    net = model.net.base
    if not isinstance(net, ChipNet):
        raise ConfigError(
            "the model does not classify scenes", "give one that geopipe chips train made"
        )
    return net


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of chips, in their order."""

    features: np.ndarray
    """(n, d) float32: what the last layer classifies."""
    probabilities: np.ndarray
    """(n, classes) float32."""

    @property
    def best(self) -> np.ndarray:
        """(n,) uint8: the predicted class."""
        return np.asarray(self.probabilities.argmax(1).astype(np.uint8))


def predict(
    model: Checkpoint,
    decoded: DecodedChips,
    rows: np.ndarray,
    classes: np.ndarray | None = None,
    device: str = "cpu",
) -> Predictions:
    """Run the model's net over the chips `rows`.

    `classes` (one for each picture): DDRL-AM takes the attention map of this class instead of the
    predicted one. That is no fair test; see `ScenePlan.attention`.
    """
    net = chip_net(model).to(device).eval()
    features, probabilities = [], []
    with torch.inference_mode(), progress("classifying", len(rows)) as advance:
        for part, pixels in decoded.batches(rows, BATCH):
            image = mean_cam(model, pixels, device)
            if classes is not None and isinstance(net.backbone, AttentionNet):
                cam = net.backbone.cam(image, _ids(classes[part], device))
                vectors = net.backbone.features(image, cam)
            else:
                vectors = net.backbone.features(image)
            features.append(vectors.float().cpu().numpy())
            probabilities.append(net.backbone.head(vectors).float().softmax(1).cpu().numpy())
            advance(len(part))
    net.to("cpu")
    return Predictions(np.concatenate(features), np.concatenate(probabilities))


def cams(
    model: Checkpoint,
    decoded: DecodedChips,
    rows: np.ndarray,
    classes: np.ndarray | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Grad-CAM (n, h, w) float32 of the predicted classes of chips, or of the given ones."""
    net = chip_net(model).to(device).eval()
    maps = []
    with torch.inference_mode(), progress("attention maps", len(rows)) as advance:
        for part, pixels in decoded.batches(rows, BATCH):
            class_ids = None if classes is None else _ids(classes[part], device)
            maps.append(net.backbone.cam(mean_cam(model, pixels, device), class_ids).cpu().numpy())
            advance(len(part))
    net.to("cpu")
    return np.concatenate(maps)


def mean_cam(model: Checkpoint, pixels: Tensor, device: str) -> Tensor:
    """Chips (n, 3, side, side) uint8 as the model's net takes them."""
    return model.normalize(
        pixels.to(device).float(), torch.ones((), dtype=torch.bool, device=device)
    )


def _ids(classes: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(classes.astype(np.int64)).to(device)
