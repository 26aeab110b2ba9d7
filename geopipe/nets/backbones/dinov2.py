"""DINOv2 ViT-S/14: tokens of 14 x 14 px, twelve blocks of attention over all of an image.

Oquab et al. 2023 (arXiv 2304.07193); the vision transformer of Dosovitskiy et al. 2021 (ICLR) with
a learnt factor per channel behind each branch (Touvron et al. 2021, ICCV). Published keys are those
of torch hub, which timm shares.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (torch's usual name)
from torch import Tensor, nn

from geopipe.nets.backbones.library import Definition
from geopipe.nets.backbones.table import DINOV2_WIDTH as WIDTH

BLOCKS = 12
PATCH = 14
"""Pixels a side of a token."""
GRID = 37
"""Tokens a side that positions are known for: 518 px, the size it was trained with last."""
_HEADS = 6
_EPS = 1e-6


class Tokens(NamedTuple):
    """What blocks pass on."""

    values: Tensor
    """(N, 1 + rows * cols, width); the class token comes first."""
    grid: tuple[int, int]
    """Rows and columns of tokens."""

    def as_map(self) -> Tensor:
        """The tokens of patches as a map (N, width, rows, cols)."""
        out: Tensor = self.values[:, 1:].transpose(1, 2).unflatten(2, self.grid)
        return out


class _Embedding(nn.Module):
    """Image (N, 3, h, w) to tokens.

    Sides that are no multiple of 14 px are resampled to the nearest one, so that no border is cut
    off. Positions are interpolated to the grid (bicubic).
    """

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, WIDTH))

    def forward(self, image: Tensor) -> Tokens:
        rows, cols = grid = tuple(max(1, round(n / PATCH)) for n in image.shape[-2:])
        size = rows * PATCH, cols * PATCH
        if image.shape[-2:] != size:
            image = F.interpolate(image, size, mode="bilinear", antialias=True)
        patches = self.projection(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], 1)
        return Tokens(tokens + self._positions((rows, cols)), (grid[0], grid[1]))

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        if grid == (GRID, GRID):
            return self.pos_embed
        on_grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
        resampled = F.interpolate(on_grid.float(), grid, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], resampled.flatten(2).transpose(1, 2)], 1)


class _Block(nn.Module):
    """Attention among all tokens of an image, then two layers on each token."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, _EPS), nn.LayerNorm(WIDTH, _EPS)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.ones(WIDTH)) for _ in range(2))

    def forward(self, tokens: Tokens) -> Tokens:
        x = tokens.values
        x = x + self.gamma1 * self._attention(self.norm1(x))
        x = x + self.gamma2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return tokens._replace(values=x)

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class _Norm(nn.LayerNorm):
    """The norm behind the last block."""

    def forward(self, tokens: Tokens) -> Tokens:  # type: ignore[override]  # tokens, not a tensor
        return tokens._replace(values=super().forward(tokens.values))


def initialise_tokens(layer: nn.Module, generator: torch.Generator | None) -> None:
    """Start values of what only this net has: positions, the class token, factors."""
    if isinstance(layer, _Embedding):
        nn.init.normal_(layer.cls_token, std=0.02, generator=generator)
        nn.init.normal_(layer.pos_embed, std=0.02, generator=generator)
    elif isinstance(layer, _Block):
        nn.init.constant_(layer.gamma1, 0.1)
        nn.init.constant_(layer.gamma2, 0.1)


def dinov2_vits14_blocks() -> Definition:
    """The blocks; published keys are torch hub's and timm's."""
    embedding = _Embedding()
    blocks: dict[str, nn.Module] = {"tokens": embedding}
    published: dict[str, Tensor] = {
        "cls_token": embedding.cls_token,
        "pos_embed": embedding.pos_embed,
    }
    for key, tensor in embedding.projection.state_dict(keep_vars=True).items():
        published[f"patch_embed.proj.{key}"] = tensor
    paths = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    paths |= {"gamma1": "ls1.gamma", "gamma2": "ls2.gamma"}
    for number in range(BLOCKS):
        block = blocks[f"block{number}"] = _Block()
        for key, tensor in block.state_dict(keep_vars=True).items():
            layer, _, kind = key.partition(".")
            path = f"blocks.{number}.{paths.get(layer, layer)}"
            published[f"{path}.{kind}" if kind else path] = tensor
    norm = blocks["norm"] = _Norm(WIDTH, _EPS)
    of_norm = norm.state_dict(keep_vars=True)
    return blocks, published | {f"norm.{key}": tensor for key, tensor in of_norm.items()}
