"""The refinement: a recurrent net that learns the iterations sharpening a score map.

Maggiori et al. 2017 (IEEE TGRS 55:9), section II, equations 5-8, and section III.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

KERNEL = 5
FILTERS = 32
HIDDEN = 32


class Folded(NamedTuple):
    """An Update with its linear parts folded, exactly: two 5 x 5 convolutions and one 1 x 1.

    Channels k * 32 ... k * 32 + 31 are the hidden layer of class k.
    """

    scores: Tensor
    """(classes * 32, 1, 5, 5): M and the first layer's share of the scores."""
    image: Tensor
    """(classes * 32, bands, 5, 5): N and the first layer's share of the image."""
    bias: Tensor
    out: Tensor
    """(classes, 32, 1, 1): the second layer."""
    out_bias: Tensor

    def image_term(self, image: Tensor) -> Tensor:
        """(N, bands, h, w) -> (N, classes * 32, h - 4, w - 4): the image's share of the MLPs."""
        return F.conv2d(image, self.image, self.bias)

    def change(self, scores: Tensor, image_term: Tensor) -> Tensor:
        """du (N, classes, h - 4, w - 4) from scores (N, classes, h, w) and the image's term."""
        classes = len(self.out)
        hidden = F.conv2d(scores, self.scores, groups=classes).add_(image_term).relu_()
        return F.conv2d(hidden, self.out, self.out_bias, groups=classes)


class Update(nn.Module):
    """One step's parameters: du_k = f_k(M_i * u_k, N_j * I), eq. 6-7, f_k an MLP 64 -> 32 -> 1.

    Filters carry no bias of their own: the MLP's first layer has one.
    """

    def __init__(self, bands: int, classes: int, class_agnostic: bool) -> None:
        super().__init__()
        self.classes = classes
        mlps = 1 if class_agnostic else classes
        self.m = nn.Parameter(torch.empty(FILTERS, 1, KERNEL, KERNEL))
        self.n = nn.Parameter(torch.empty(FILTERS, bands, KERNEL, KERNEL))
        self.w1 = nn.Parameter(torch.empty(mlps, HIDDEN, 2 * FILTERS))
        self.b1 = nn.Parameter(torch.zeros(mlps, HIDDEN))
        self.w2 = nn.Parameter(torch.empty(mlps, HIDDEN))
        self.b2 = nn.Parameter(torch.zeros(mlps))
        # Glorot's uniform as Caffe draws it, +-sqrt(3 / inputs); the last layer a tenth of that,
        # so that the first du is near zero and the untrained process near the identity.
        for weight, inputs, gain in (
            (self.m, KERNEL**2, 1.0),
            (self.n, bands * KERNEL**2, 1.0),
            (self.w1, 2 * FILTERS, 1.0),
            (self.w2, HIDDEN, 0.1),
        ):
            bound = gain * math.sqrt(3 / inputs)
            nn.init.uniform_(weight, -bound, bound)

    def folded(self) -> Folded:
        """Up to its ReLU the step is linear; gradients flow to the unfolded weights."""
        one_each = self.classes // len(self.w1)  # classes that share an MLP
        w1 = self.w1.repeat(one_each, 1, 1)
        return Folded(
            torch.einsum("khf,fyx->khyx", w1[..., :FILTERS], self.m[:, 0]).flatten(0, 1)[:, None],
            torch.einsum("khf,fbyx->khbyx", w1[..., FILTERS:], self.n).flatten(0, 1),
            self.b1.repeat(one_each, 1).flatten(),
            self.w2.repeat(one_each, 1)[..., None, None],
            self.b2.repeat(one_each),
        )


class RefinementRNN(nn.Module):
    """u_{t+1} = u_t + du_t (eq. 8), `iterations` times.

    `class_agnostic`: one MLP for all classes; `recurrent=False`: own weights for each step (both
    are the paper's comparisons). Inputs (N, classes, H + 4T, W + 4T) and (N, bands, H + 4T,
    W + 4T), output (N, classes, H, W).
    """

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        iterations: int = 5,
        class_agnostic: bool = False,
        recurrent: bool = True,
    ) -> None:
        super().__init__()
        self.bands, self.classes = bands, classes
        self.iterations, self.class_agnostic = iterations, class_agnostic
        self.recurrent = recurrent
        self.updates = nn.ModuleList(
            Update(bands, classes, class_agnostic) for _ in range(1 if recurrent else iterations)
        )

    @property
    def architecture(self) -> dict[str, Any]:
        """What `build_postprocessor` makes an untrained one from (JSON values)."""
        return {
            "iterations": self.iterations,
            "class_agnostic": self.class_agnostic,
            "recurrent": self.recurrent,
        }

    @property
    def receptive_radius(self) -> int:
        """Pixels of context used up on each side: two per iteration."""
        return KERNEL // 2 * self.iterations

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        return self.steps(scores, image)[-1]

    def steps(self, scores: Tensor, image: Tensor) -> list[Tensor]:
        """u_0 ... u_T, each smaller than the one before by 2 pixels on every side."""
        folded = [u.folded() for u in self.updates if isinstance(u, Update)]
        out, term = [scores], None
        for t in range(self.iterations):
            update = folded[0 if self.recurrent else t]
            if term is None or not self.recurrent:
                term = update.image_term(_trim(image, KERNEL // 2 * t))
            else:
                term = _trim(term, KERNEL // 2)
            u = out[-1]
            out.append(_trim(u, KERNEL // 2) + update.change(u, term))
        return out


def _trim(x: Tensor, px: int) -> Tensor:
    return x[..., px:-px, px:-px] if px else x
