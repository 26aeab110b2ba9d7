"""SegmentationModel: a base network and, optionally, a postprocessor, as one network."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.nets.base import BaseNetwork
from geopipe.nets.kernels import Form, Kernels
from geopipe.nets.matmul import mnih_scores, refine_steps
from geopipe.nets.mnih import MnihCNN
from geopipe.nets.refinement import RefinementRNN
from geopipe.nets.segment_vote import SegmentVote

CL = torch.channels_last
BLOCK = 144
"""Largest side of a block that a CPU refines at once: its hidden layer (8 MB) stays in the cache.

On 2 cores a tile of 516 px took 0.167 s whole and 0.094 s in blocks of 128, with 256 px 0.113 s.
"""


class SegmentationModel(nn.Module):
    """Normalised image to class scores on the net's grid, context trimmed.

    Input (N, bands, H + 2 halo, W + 2 halo), output (N, classes, H, W); H, W and the position of
    the input on the scene's net grid are multiples of `stride`.
    """

    def __init__(
        self, base: BaseNetwork, postprocessor: RefinementRNN | SegmentVote | None = None
    ) -> None:
        super().__init__()
        self.base, self.postprocessor = base, postprocessor
        self.kernels = Kernels()
        """How a CPU computes scores in float32 without gradients."""

    @property
    def stride(self) -> int:
        """Pixels between the positions at which the net sees the same phase."""
        return self.base.stride

    @property
    def patchwise(self) -> bool:
        """Whether its base network looks at patches; see BaseNetwork."""
        return self.base.patchwise

    @property
    def iterations(self) -> int:
        """Refinement steps (0 without a refinement)."""
        return self.postprocessor.iterations if self.postprocessor else 0

    @property
    def halo(self) -> int:
        """Context to supply on each side: what each part uses up, rounded up to the stride."""
        receptive_radius = self.base.receptive_radius + (
            self.postprocessor.receptive_radius if self.postprocessor else 0
        )
        return -(-receptive_radius // self.stride) * self.stride

    @property
    def training_halo(self) -> int:
        """Context around a training patch of a model without postprocessor, see `BaseNetwork`."""
        return -(-self.base.training_radius // self.stride) * self.stride

    def training_scores(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores of training patches (N, classes, H, W), and log-odds of cores (N, 1, H, W).

        The image has `training_halo` pixels of context; None: the base network has no cores.
        """
        size = torch.Size(n - 2 * self.training_halo for n in image.shape[-2:])
        scores, cores = self.base.training_scores(image)
        return center(scores, size), cores if cores is None else center(cores, size)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_steps(image, (self.iterations,))[0]

    def forward_steps(self, image: Tensor, iterations: Sequence[int]) -> list[Tensor]:
        """Scores (N, classes, H, W) after each of `iterations` (0 = the base network alone)."""
        self._require(iterations)
        return self._steps(self._base_scores(image), image, iterations)

    def forward_with_cores(
        self, image: Tensor, iterations: Sequence[int]
    ) -> tuple[list[Tensor], Tensor]:
        """What `forward_steps` gives, and the log-odds of cores (N, 1, H, W).

        For models whose base network has `cores`.
        """
        self._require(iterations)
        scores, cores = self.base.with_cores(image)
        size = torch.Size(n - 2 * self.halo for n in image.shape[-2:])
        return self._steps(scores, image, iterations), center(cores, size)

    def _steps(self, scores: Tensor, image: Tensor, iterations: Sequence[int]) -> list[Tensor]:
        """`forward_steps` from the scores of the base network."""
        size = torch.Size(n - 2 * self.halo for n in image.shape[-2:])
        if self.postprocessor is None or not any(iterations):
            return [center(scores, size)] * len(iterations)
        image = center(image, scores.shape[-2:])
        if isinstance(self.postprocessor, RefinementRNN) and self._by_matmul(
            self.kernels.refinement, image
        ):
            steps = refine_steps(self.postprocessor, scores, image)
        elif image.is_cuda or isinstance(self.postprocessor, SegmentVote):
            steps = self.postprocessor.steps(scores, image)
        else:
            return self._in_blocks(self.postprocessor, scores, image, size, iterations)
        return [center(steps[t], size) for t in iterations]

    def _require(self, iterations: Sequence[int]) -> None:
        if not all(0 <= t <= self.iterations for t in iterations):
            raise ConfigError(f"iterations {list(iterations)}: the model has {self.iterations}")

    def _base_scores(self, image: Tensor) -> Tensor:
        if isinstance(self.base, MnihCNN) and self._by_matmul(self.kernels.base, image):
            return mnih_scores(self.base, image)
        # Not channels last: the base network's algorithm would follow the tile's size, and seams of
        # 3e-5 with it.
        scores: Tensor = self.base(image)
        return scores

    @staticmethod
    def _by_matmul(form: Form, image: Tensor) -> bool:
        exact = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
        return form == "matmul" and exact and not image.is_cuda

    def _in_blocks(
        self,
        refine: RefinementRNN,
        scores: Tensor,
        image: Tensor,
        size: torch.Size,
        iterations: Sequence[int],
    ) -> list[Tensor]:
        """Refinement by convolution, in blocks that stay in the cache."""
        margin = self.halo - self.base.receptive_radius
        out = [scores.new_empty(*scores.shape[:2], *size) for _ in iterations]
        for rows, cols in _blocks(size):
            context = (..., _grown(rows, 2 * margin), _grown(cols, 2 * margin))
            # Channels last: the grouped convolution takes half the time, and no seams.
            part, image_part = (x[context].contiguous(memory_format=CL) for x in (scores, image))
            steps = refine.steps(part, image_part)
            block = torch.Size((rows.stop - rows.start, cols.stop - cols.start))
            for output, t in zip(out, iterations, strict=True):
                output[..., rows, cols] = center(steps[t], block)
        return out


def _blocks(size: torch.Size) -> Iterator[tuple[slice, slice]]:
    """Equal blocks, as few as BLOCK allows."""
    rows, cols = (
        [slice(n * i // k, n * (i + 1) // k) for i in range(k)]
        for n, k in ((n, -(-n // BLOCK)) for n in size)
    )
    return ((r, c) for r in rows for c in cols)


def _grown(part: slice, px: int) -> slice:
    return slice(part.start, part.stop + px)


def center(x: Tensor, size: torch.Size) -> Tensor:
    """The middle `size` (height, width) of x, which is at least as large."""
    if x.shape[-2] < size[0] or x.shape[-1] < size[1]:
        raise ConfigError(f"a net left {tuple(x.shape[-2:])} px where {tuple(size)} are needed")
    rows, cols = ((n - m) // 2 for n, m in zip(x.shape[-2:], size, strict=True))
    return x[..., rows : rows + size[0], cols : cols + size[1]]
