"""The one place where the peers meet what makes geopipe's engine fast."""

from __future__ import annotations

import torch
from torch import Tensor

from geopipe.allocator import tune_malloc
from geopipe.mapping.kernels import fastest_kernels
from geopipe.mapping.tile import Precision, autocast, best_class
from geopipe.nets import SegmentationModel
from geopipe.nets.segmentation import center

CORE = 1024
"""Scene pixels a side of a window, geopipe's default and every peer's."""
CACHE_MB = 64
"""GDAL's cache in the tuned loop; GDAL itself takes a twentieth of the machine's memory."""

__all__ = [
    "CACHE_MB",
    "CORE",
    "Precision",
    "best_class",
    "plain_scores",
    "tune_malloc",
    "tuned_scores",
]


def plain_scores(net: SegmentationModel, image: Tensor) -> Tensor:
    """The folded nets, each layer over the whole window: what the paper's reader would write."""
    with torch.no_grad():
        scores: Tensor = net.base(image)
        if net.postprocessor:
            scores = net.postprocessor(scores, center(image, scores.shape[-2:]))
        size = torch.Size(n - 2 * net.halo for n in image.shape[-2:])
        return center(scores, size)


def tuned_scores(net: SegmentationModel, image: Tensor, precision: Precision) -> Tensor:
    """The folded nets as geopipe runs them: in the form that is the fastest on this processor."""
    if precision == "float32":
        net.kernels = fastest_kernels()
    with torch.inference_mode(), autocast("cpu", precision):
        return net.forward_steps(image, (net.iterations,))[0].float()
