"""The refinement: a recurrent net that learns the iterations sharpening a score map.

Maggiori et al. 2017 (IEEE TGRS 55:9), section II, equations 5-8, and section III.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

KERNEL = 5
FILTERS = 32
HIDDEN = 32


class Update(nn.Module):
    """One step's parameters: du_k = f_k(M_i * u_k, N_j * I), eq. 6-7, f_k an MLP 64 -> 32 -> 1.

    Up to its ReLU the step is linear, so filters and first layer fold, exactly, into one 5 x 5
    convolution per class on the scores and one on the image; gradients flow to the unfolded
    weights. Filters carry no bias of their own: the MLP's first layer has one.
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

    def image_term(self, image: Tensor) -> Tensor:
        """(N, bands, h, w) -> (N, classes * 32, h - 4, w - 4): the image's share of the MLPs."""
        kernel = torch.einsum("khf,fbyx->khbyx", self.w1[..., FILTERS:], self.n)
        kernel, bias = kernel.flatten(0, 1), self.b1.flatten()
        return self._per_class(F.conv2d(image, kernel, bias))

    def forward(self, scores: Tensor, image_term: Tensor) -> Tensor:
        """du (N, classes, h - 4, w - 4) from scores (N, classes, h, w) and the image's term."""
        kernel = torch.einsum("khf,fyx->khyx", self.w1[..., :FILTERS], self.m[:, 0])
        kernel = self._per_class(kernel.reshape(1, -1, KERNEL, KERNEL))
        kernel = kernel.reshape(-1, 1, KERNEL, KERNEL)  # (classes * 32, 1, 5, 5)
        hidden = torch.relu(F.conv2d(scores, kernel, groups=self.classes) + image_term)
        w2 = self._per_class(self.w2.reshape(1, -1, 1, 1)).reshape(self.classes, HIDDEN, 1, 1)
        return F.conv2d(hidden, w2, self.b2.expand(self.classes), groups=self.classes)

    def _per_class(self, x: Tensor) -> Tensor:
        """Channels (classes * 32) also where one MLP serves all classes."""
        return x if len(self.w1) == self.classes else x.repeat(1, self.classes, 1, 1)


class RefineNet(nn.Module):
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
    def reach(self) -> int:
        """Pixels of context used up on each side: two per iteration."""
        return KERNEL // 2 * self.iterations

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        return self.steps(scores, image)[-1]

    def steps(self, scores: Tensor, image: Tensor) -> list[Tensor]:
        """u_0 ... u_T, each smaller than the one before by 2 pixels on every side."""
        out, term = [scores], None
        for t in range(self.iterations):
            update = self.updates[0 if self.recurrent else t]
            assert isinstance(update, Update)
            if term is None or not self.recurrent:
                term = update.image_term(_trim(image, KERNEL // 2 * t))
            else:
                term = _trim(term, KERNEL // 2)
            u = out[-1]
            out.append(_trim(u, KERNEL // 2) + update(u, term))
        return out


def _trim(x: Tensor, px: int) -> Tensor:
    return x[..., px:-px, px:-px] if px else x
