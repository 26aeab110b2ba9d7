"""MapNet: coarse classifier and, if there is one, its refinement, seen as one net."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.nets.coarse import CoarseNet
from geopipe.nets.refine import RefineNet


class MapNet(nn.Module):
    """Normalised image to class scores on the net's grid, context trimmed.

    Input (N, bands, H + 2 halo, W + 2 halo), output (N, classes, H, W); H, W and the position of
    the input on the scene's net grid are multiples of `stride`.
    """

    def __init__(self, coarse: CoarseNet, refine: RefineNet | None = None) -> None:
        super().__init__()
        self.coarse, self.refine = coarse, refine

    @property
    def stride(self) -> int:
        """Pixels between the positions at which the net sees the same phase."""
        return self.coarse.stride

    @property
    def iterations(self) -> int:
        """Refinement steps (0 without a refinement)."""
        return self.refine.iterations if self.refine else 0

    @property
    def halo(self) -> int:
        """Context to supply on each side: what each part uses up, rounded up to the stride."""
        reach = self.coarse.reach + (self.refine.reach if self.refine else 0)
        return -(-reach // self.stride) * self.stride

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_steps(image, (self.iterations,))[0]

    def forward_steps(self, image: Tensor, iterations: Sequence[int]) -> list[Tensor]:
        """Scores (N, classes, H, W) after each of `iterations` (0 = the coarse net alone)."""
        if not all(0 <= t <= self.iterations for t in iterations):
            raise ConfigError(f"iterations {list(iterations)}: the model has {self.iterations}")
        scores = self.coarse(image)
        steps = [scores]
        if self.refine and any(iterations):
            steps = self.refine.steps(scores, center(image, scores.shape[-2:]))
        size = torch.Size(n - 2 * self.halo for n in image.shape[-2:])
        return [center(steps[t], size) for t in iterations]


def center(x: Tensor, size: torch.Size) -> Tensor:
    """The middle `size` (height, width) of x."""
    rows, cols = ((n - m) // 2 for n, m in zip(x.shape[-2:], size, strict=True))
    return x[..., rows : rows + size[0], cols : cols + size[1]]
