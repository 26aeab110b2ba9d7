"""Features of frozen backbones in cells of crops, computed once and kept in files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geopipe.checkpoint.weights import load_backbone, weights_hash
from geopipe.classes import IGNORE
from geopipe.files import atomic_file
from geopipe.learn.patches import PatchGrid
from geopipe.learn.patches.rasters import read_patch
from geopipe.nets.backbones import BackboneNet
from geopipe.nets.patches import BATCH, resized
from reproduce.gid import data

SIZES = (56, 112, 224)
SIDE = 128
BLOCKS = tuple(f"block{i}" for i in range(9))
"""Of DINOv2: those behind it are spoilt in the weights at hand."""
LITE, DINO = "efficientnet_lite0", "dinov2_vits14"


@dataclass(frozen=True, eq=False)
class DomainFeatures:
    """What the backbones give of cells whose class is known."""

    lite: np.ndarray
    """(n, sizes, 1280) float16"""
    dino: np.ndarray
    """(n, sizes, blocks, 384) float16: means of the tokens"""
    ids: np.ndarray
    """(n,) class ids"""
    crops: np.ndarray
    """(n,) numbers of crops"""

    def of(self, kind: str) -> np.ndarray:
        """(n, sizes, d) float32 of "lite", "dino 5-7" (blocks from, to), or "lite + dino 6-8"."""
        parts = []
        for part in kind.split(" + "):
            if part == "lite":
                parts.append(self.lite)
                continue
            first, last = map(int, part.removeprefix("dino ").split("-"))
            chosen = self.dino[:, :, first : last + 1]
            parts.append(chosen.reshape(*chosen.shape[:2], -1))
        return np.concatenate(parts, 2).astype(np.float32)


def compute(patches: PatchGrid, weights: dict[str, str], folder: Path, name: str) -> DomainFeatures:
    """Of all cells of `patches`; what an earlier run computed of the same is read again."""
    lite = load_backbone(LITE, weights.get(LITE, "auto"), "pooled")
    dino = load_backbone(DINO, weights[DINO], BLOCKS[-1])
    key = hashlib.sha256(
        "\n".join(
            [
                weights_hash(lite),
                weights_hash(dino),
                data.names_digest(patches),
                repr((SIZES, SIDE)),
                hashlib.sha256(patches.positions.tobytes()).hexdigest(),
            ]
        ).encode()
    ).hexdigest()[:16]
    file = folder / f"{name}-{key}.npz"
    if not file.exists():
        arrays = _computed(patches, lite, dino)
        with atomic_file(file, parents=True) as part, part.open("wb") as stream:
            np.savez(stream, lite=arrays[0], dino=arrays[1])
    with np.load(file) as stored:
        return DomainFeatures(stored["lite"], stored["dino"], patches.ids, patches.positions[:, 0])


def _computed(
    patches: PatchGrid, lite: BackboneNet, dino: BackboneNet
) -> tuple[np.ndarray, np.ndarray]:
    count = len(patches) * len(SIZES)
    lites = np.zeros((count, lite.width()), np.float16)
    dinos = np.zeros((count, len(BLOCKS), dino.width("block0")), np.float16)
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        images = torch.stack([_patch(patches, i) for i in rows])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            lites[rows.start : rows.stop] = lite(lite.normalize(images)).float().numpy()
            tokens = _block_means(dino, dino.normalize(images))
        dinos[rows.start : rows.stop] = tokens
    shape = len(patches), len(SIZES)
    return lites.reshape(*shape, -1), dinos.reshape(*shape, len(BLOCKS), -1)


def _block_means(net: BackboneNet, images: torch.Tensor) -> np.ndarray:
    """(n, blocks, width): every block is run once, for all of its features."""
    means, x = [], images
    for name, block in net.blocks.items():
        x = block(x)
        if name in BLOCKS:
            means.append(x.as_map().mean((2, 3)).float())
    return torch.stack(means, 1).numpy()


def _patch(patches: PatchGrid, number: int) -> torch.Tensor:
    index, size = divmod(number, len(SIZES))
    raster = patches.rasters[patches.positions[index, 0]]
    image, _ = read_patch(raster, patches.window(index, SIZES[size]))
    return resized(image[None], SIDE)[0]


def spread_cells(patches: PatchGrid) -> PatchGrid:
    """Two cells of each crop, of those that are labelled."""
    wanted = ((1, 1), (2, 3))
    chosen = np.zeros(len(patches), bool)
    for row, col in wanted:
        chosen |= (patches.positions[:, 1] == row) & (patches.positions[:, 2] == col)
    return patches.subset(chosen & (patches.ids != IGNORE))
