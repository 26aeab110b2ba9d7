"""Align a frozen backbone's features of a target to the source, whatever its class shares are."""

from dataclasses import dataclass

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.learn.patches import patch_net
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples
from geopipe.nets import SegmentationModel

SHARE = 0.25
"""How far: on features of two networks all the way loses up to 9 points on targets of few classes,
a quarter at most 1.

Measured in docs/results/gid/frozen.md."""
_LEAST = 6
"""Samples that a class must be predicted for to have a say."""


@dataclass(frozen=True, eq=False)
class FeatureAlignment:
    """``features * scale + offset`` of the target look like the source's, each dimension alone."""

    scale: np.ndarray
    """(d,) float32"""
    offset: np.ndarray
    """(d,) float32"""

    @classmethod
    def of(cls, source: SourceSamples, target: TargetSamples) -> "FeatureAlignment":
        """From features as the net gives them, and the classes that the source model predicts.

        Mean and deviation of both sides are taken with equal weight for each class: without that a
        target of other class shares would be pulled towards the source's. Of the target, a class
        that is predicted for fewer than 6 samples is left out.
        """
        predicted = target.probabilities.argmax(1)
        learnt = ~source.held_out
        mean, std = _statistics(source.features[learnt], source.classes[learnt])
        target_mean, target_std = _statistics(target.features, predicted)
        new_mean = (1 - SHARE) * mean + SHARE * target_mean
        new_std = (1 - SHARE) * std + SHARE * target_std
        known = std > 1e-6 * std.max(initial=0)
        scale = np.where(known, std / np.maximum(new_std, 1e-12), 1.0)
        return cls(scale.astype(np.float32), (mean - new_mean * scale).astype(np.float32))

    def applied(self, model: Checkpoint) -> Checkpoint:
        """A copy of the model whose last layer takes this in; its backbone stays."""
        old = patch_net(model)
        net = type(old)(
            old.bands,
            old.classes,
            **{k: v for k, v in old.architecture.items() if k != "net"},
        )
        net.load_state_dict(old.state_dict())
        with torch.no_grad():
            weight = old.head.weight.cpu()
            net.head.weight.copy_(weight * torch.from_numpy(self.scale))
            net.head.bias.copy_(old.head.bias.cpu() + weight @ torch.from_numpy(self.offset))
        network = SegmentationModel(net.eval(), model.net.postprocessor)
        aligned = {"aligned": {"share": SHARE, "classes": "equal weight"}}
        return model.with_net(network.requires_grad_(False), aligned)


def _statistics(features: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (d,) float64 of (n, d), each class of `ids` (n,) with equal weight."""
    counts = np.bincount(ids)
    counts = np.where(counts >= _LEAST, counts, 0) if (counts >= _LEAST).any() else counts
    weights = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)[ids]
    weights /= weights.sum()
    mean = weights @ features.astype(np.float64)
    return mean, np.sqrt(weights @ np.square(features - mean))
