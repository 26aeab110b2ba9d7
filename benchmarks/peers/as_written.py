"""The refinement as the paper writes it, with a trained model's weights: what most users run.

Maggiori et al. 2017 (IEEE TGRS 55:9), equations 5-8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geopipe.nets import RefinementRNN, SegmentationModel
from geopipe.nets.refinement import FILTERS, HIDDEN, KERNEL, Update

TOLERANCE = 1e-3
"""Largest difference of scores, relative to the largest score, that rounding explains."""


class Step(nn.Module):
    """du_k = MLP(M_i * u_k, N_j * I): filters, concatenation, 1 x 1 convolutions per class."""

    def __init__(self, folded: Update, bands: int) -> None:
        super().__init__()
        same = {"padding": KERNEL // 2, "bias": False}
        self.score_filters = nn.Conv2d(1, FILTERS, KERNEL, **same)  # type: ignore[arg-type]
        self.image_filters = nn.Conv2d(bands, FILTERS, KERNEL, **same)  # type: ignore[arg-type]
        self.mlps = nn.ModuleList()
        with torch.no_grad():
            self.score_filters.weight.copy_(folded.m)
            self.image_filters.weight.copy_(folded.n)
            for k in range(folded.classes):
                i = min(k, len(folded.w1) - 1)  # one MLP may serve all classes
                first, last = nn.Conv2d(2 * FILTERS, HIDDEN, 1), nn.Conv2d(HIDDEN, 1, 1)
                for layer, weight, bias in (
                    (first, folded.w1[i], folded.b1[i]),
                    (last, folded.w2[i], folded.b2[i]),
                ):
                    layer.weight.copy_(weight.reshape(layer.weight.shape))
                    assert layer.bias is not None
                    layer.bias.copy_(bias)
                self.mlps.append(nn.Sequential(first, nn.ReLU(), last))

    def forward(self, scores: Tensor, image_features: Tensor) -> Tensor:
        """One iteration from scores (n, classes, h, w) and the filtered image (n, 32, h, w)."""
        changes = [
            mlp(torch.cat([self.score_filters(scores[:, k : k + 1]), image_features], 1))
            for k, mlp in enumerate(self.mlps)
        ]
        return scores + torch.cat(changes, 1)


class AsWritten(nn.Module):
    """SegmentationModel's twin: "same" padding throughout, whose border effects the trimmed halo
    takes along.

    The image's filters run once a window where the weights are shared by all iterations: a kindness
    to this peer.
    """

    def __init__(self, folded: SegmentationModel) -> None:
        super().__init__()
        self.base, self.halo = folded.base, folded.halo
        refine = folded.postprocessor if isinstance(folded.postprocessor, RefinementRNN) else None
        self.recurrent = refine is None or refine.recurrent
        self.iterations = folded.iterations
        self.steps = nn.ModuleList()
        for update in refine.updates if refine else ():
            assert isinstance(update, Update)
            self.steps.append(Step(update, folded.base.bands))
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """(n, bands, h + 2 halo, w + 2 halo) to scores (n, classes, h, w)."""
        scores: Tensor = self.base(image)
        margin = (image.shape[-1] - scores.shape[-1]) // 2
        image = image[..., margin:-margin, margin:-margin]
        image_features = None
        for t in range(self.iterations):
            step = self.steps[0 if self.recurrent else t]
            assert isinstance(step, Step)
            if image_features is None or not self.recurrent:
                image_features = step.image_filters(image)
            scores = step(scores, image_features)
        trim = self.halo - margin
        return scores[..., trim:-trim, trim:-trim] if trim else scores


def disagreement(net: AsWritten, folded: SegmentationModel, bands: int) -> float:
    """Largest difference of scores between the twins; ValueError when they are none."""
    generator = torch.Generator().manual_seed(0)
    side = 64 + 2 * folded.halo
    image = torch.randn(1, bands, side, side, generator=generator)
    with torch.no_grad():
        expected, got = folded(image), net(image)
    difference = float((got - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ValueError(f"the refinement as written differs from the folded one by {difference:g}")
    return difference
