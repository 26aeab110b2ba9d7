"""PatchPool and PatchSampler: random training patches of a scene, with data augmentation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch

from geopipe.checkpoint import network_input
from geopipe.classes import IGNORE
from geopipe.errors import LabelError, SceneError
from geopipe.grid import NetworkGrid, Window
from geopipe.labels import LabelSource
from geopipe.learn.warp import Warp
from geopipe.nets import MnihCNN
from geopipe.progress import progress
from geopipe.raster import Scene
from geopipe.raster.credit import joined_credits, scene_credit
from geopipe.raster.scene import window_geobox

BLOCK_PX = 1024
MAX_PX = 36_000_000
"""Net pixels held in memory (about 600 MB of RGB); of a larger scene a random part is used."""
MIN_PATCH = 64
"""Side of the smallest patch, that of the paper."""
POSITIONS = 50_000
"""Pixels remembered per class and block to centre patches on."""


@dataclass(frozen=True)
class PoolBlock:
    """A piece of the scene: labels of its core, image of core + halo.

    The core starts on a multiple of the net's stride; the image's far sides are rounded up to it.
    """

    image: np.ndarray
    """(bands, h + 2 halo, w + 2 halo) and up to the stride, float32, scene units, 0 if not valid"""
    valid: np.ndarray
    """(height, width) of the image, bool"""
    labels: np.ndarray
    """(h, w) uint8; IGNORE where unknown or not valid"""
    cores: np.ndarray | None = None
    """(h, w) uint8: 1 in the core of a building, IGNORE where unknown; None: all of it is."""


@dataclass(frozen=True)
class PatchPool:
    """Blocks and, for each class, where its pixels are."""

    blocks: tuple[PoolBlock, ...]
    halo: int
    classes: int
    share: float
    """Share of the scene that the blocks cover."""
    positions: tuple[np.ndarray, ...] = field(repr=False)
    """Per class (n, 3) int32: block, row, column."""
    credit: str = ""
    """Whom the labels and the image come from."""

    @cached_property
    def counts(self) -> np.ndarray:
        """Labelled pixels per class (classes,)."""
        ids = [np.bincount(b.labels.ravel(), minlength=256)[: self.classes] for b in self.blocks]
        return np.asarray(np.sum(ids, axis=0))

    @property
    def has_cores(self) -> bool:
        """Whether the core of a building is labelled."""
        return any(b.cores is not None and (b.cores == 1).any() for b in self.blocks)

    @cached_property
    def shares(self) -> np.ndarray:
        """`counts` as shares of one."""
        return np.asarray(self.counts / self.counts.sum())

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per band over labelled pixels: no test pixel has a part."""
        count = 0
        total, squared_sum = np.zeros((2, len(self.blocks[0].image)))
        for block in self.blocks:
            h, w = block.labels.shape
            core = block.image[:, self.halo : self.halo + h, self.halo : self.halo + w]
            pixels = core[:, block.labels != IGNORE].astype(np.float64)
            count += pixels.shape[1]
            total += pixels.sum(1)
            squared_sum += (pixels**2).sum(1)
        mean = total / count
        std = np.sqrt(np.maximum(squared_sum / count - mean**2, 0))
        if (std <= 1e-6 * np.abs(mean)).any():
            raise SceneError("a band of the training scene is constant; choose others with bands")
        return tuple(mean.tolist()), tuple(std.tolist())


@dataclass(frozen=True)
class PatchSampler:
    """How patches are drawn from a pool.

    A patch is placed so that a random pixel of one class lies anywhere in it. `balanced`: the
    classes take turns. Rare classes are seen as often as the background, which alone fills 90 % of
    a scene and would else win everywhere, yet inside each patch the classes keep their true
    surroundings. Patch `number` depends on (seed, number) alone, so a resumed training draws the
    same ones.
    """

    pool: PatchPool
    patch: int
    seed: int
    augment: bool = True
    """Random flips and transpositions, alike for all arrays of a patch."""
    jitter: float = 0.0
    """Deviation of a random change of light, in those of the image; see `radiometric_jitter`."""
    balanced: bool = True
    """Classes take turns; else each comes as often as it is labelled."""
    warp: float = 0.0
    """Strength of random changes of angle and scale, see `Warp.draw`; 0: none."""

    def sample(self, number: int) -> tuple[int, int, int, int]:
        """Block, row, column of a patch's core and one of the 8 symmetries."""
        rng = np.random.default_rng([self.seed, number])
        class_id = number % self.pool.classes
        if not self.balanced:
            class_id = int(rng.choice(self.pool.classes, p=self.pool.shares))
        positions = self.pool.positions[class_id]
        index, row, col = positions[rng.integers(len(positions))]
        row, col = row - rng.integers(self.patch), col - rng.integers(self.patch)
        symmetry = int(rng.integers(8)) if self.augment else 0
        h, w = self.pool.blocks[index].labels.shape
        row, col = (int(np.clip(x, 0, n - self.patch)) for x, n in ((row, h), (col, w)))
        return int(index), row, col, symmetry

    def warped(self, number: int) -> Warp | None:
        """How patch `number` is turned and scaled; None: it is not."""
        if not (self.augment and self.warp):
            return None
        return Warp.draw(np.random.default_rng([self.seed, number, 2]), self.warp)

    def radiometric_jitter(self, image: torch.Tensor, number: int) -> torch.Tensor:
        """Patch `number`, normalised (bands, h, w), under another light.

        One offset for all bands and a quarter as much for each band; a gain that varies half as
        much, drawn alike: what two days of one sensor differ by.
        """
        if not self.jitter:
            return image
        rng = np.random.default_rng([self.seed, number, 1])
        offset = rng.normal() + rng.normal(0, 0.25, len(image))
        gain = rng.normal() + rng.normal(0, 0.25, len(image))
        shift, scale = (
            image.new_tensor(self.jitter * x)[:, None, None] for x in (offset, gain / 2)
        )
        return image * (1 + scale) + shift


def fitting_patch(shape: tuple[int, int], patch: int, batch: int) -> tuple[int, int]:
    """Side and number of the patches of a step, halved and four times as many until they fit.

    `shape` is the scene's on the net's grid. Patches are not made smaller than MIN_PATCH.
    """
    while patch > min(shape) and patch >= 2 * MIN_PATCH:
        patch, batch = patch // 2, batch * 4
    return patch, batch


def dihedral(x: torch.Tensor, symmetry: int) -> torch.Tensor:
    """One of the 8 symmetries of a square, applied to (..., h, w)."""
    if symmetry & 1:
        x = x.flip(-1)
    if symmetry & 2:
        x = x.flip(-2)
    return x.transpose(-1, -2) if symmetry & 4 else x


def build_pool(
    scene: Scene,
    source: LabelSource,
    grid: NetworkGrid,
    *,
    halo: int,
    patch: int,
    seed: int,
    stride: int = MnihCNN.stride,
    max_px: int | None = None,
    every_class: bool = True,
    cores: LabelSource | None = None,
) -> PatchPool:
    """Read the scene (or, if it is large, random labelled blocks of it) onto the net's grid.

    `cores`: labels of the scheme CORES on the same ground.
    `halo` and `stride` are those of the net to be trained; of more than `max_px` net pixels
    (default MAX_PX) a part is read. Raises SceneError when not one patch fits and, with
    `every_class`, LabelError when a class has no labelled pixel.
    """
    max_px = MAX_PX if max_px is None else max_px
    if min(grid.shape) < patch:
        rows, cols = grid.shape
        raise SceneError(
            f"{scene.path} is {rows} x {cols} px at the net's resolution, less than one training "
            f"patch of {patch} x {patch}",
            "train on a larger scene",
        )
    windows = list(_blocks(grid.shape, stride))
    if math.prod(grid.shape) > max_px:  # the labels may fill a corner only
        geobox = grid.geobox(scene.geobox)
        windows = [
            w for w in windows if (source.read(window_geobox(geobox, w)) != IGNORE).any()
        ] or windows[:1]
    order = np.random.default_rng(seed).permutation(len(windows))
    area = np.cumsum([windows[i].height * windows[i].width for i in order])
    selected = sorted(order[: max(1, int(np.searchsorted(area, max_px, "right")))])
    blocks = []
    with progress("reading training pixels", len(selected)) as advance:
        for i in selected:
            context = windows[i].snap(stride).expand(halo)
            blocks.append(_read_block(scene, source, cores, grid, windows[i], context))
            advance()
    classes = len(source.scheme)
    pool = PatchPool(
        tuple(blocks),
        halo,
        classes,
        sum(b.labels.size for b in blocks) / (grid.shape[0] * grid.shape[1]),
        tuple(_positions(blocks, c, seed) for c in range(classes)),
        joined_credits([source.credit, scene_credit(scene)]),
    )
    if every_class:
        require_classes(pool, source.scheme.names, [scene.path])
    return pool


def join_pools(pools: Sequence[PatchPool]) -> PatchPool:
    """The blocks of several scenes as one pool; a patch comes from each by its labelled pixels."""
    firsts = np.cumsum([0, *(len(pool.blocks) for pool in pools)])
    positions = [
        np.concatenate(
            [p.positions[c] + [first, 0, 0] for p, first in zip(pools, firsts[:-1], strict=True)]
        )
        for c in range(pools[0].classes)
    ]
    pixels = [sum(b.labels.size for b in pool.blocks) for pool in pools]
    scenes_px = sum(n / pool.share for n, pool in zip(pixels, pools, strict=True))
    credit_lines = dict.fromkeys(pool.credit for pool in pools if pool.credit)
    return PatchPool(
        tuple(block for pool in pools for block in pool.blocks),
        pools[0].halo,
        pools[0].classes,
        sum(pixels) / scenes_px,
        tuple(p.astype(np.int32) for p in positions),
        "; ".join(credit_lines),
    )


def require_classes(pool: PatchPool, names: Sequence[str], scenes: Sequence[str]) -> None:
    """Raise LabelError when a class has no labelled pixel in the pool of `scenes`."""
    missing = [name for name, at in zip(names, pool.positions, strict=True) if not len(at)]
    if missing:
        raise LabelError(
            f"the labels of {', '.join(scenes)} have no pixel of class {', '.join(missing)}",
            "give labels that have it, or a class scheme without it, such as `classes` buildings",
        )


def _blocks(shape: tuple[int, int], stride: int = MnihCNN.stride) -> Iterator[Window]:
    """Near-equal pieces that start on the net's stride."""
    rows, cols = (_boundaries(n, stride) for n in shape)
    for r0, r1 in pairwise(rows):
        for c0, c1 in pairwise(cols):
            yield Window(r0, c0, r1 - r0, c1 - c0)


def _boundaries(size: int, stride: int) -> list[int]:
    inner = np.linspace(0, size / stride, -(-size // BLOCK_PX) + 1).round().astype(int) * stride
    return [*inner[:-1].tolist(), size]


def _read_block(
    scene: Scene,
    source: LabelSource,
    cores: LabelSource | None,
    grid: NetworkGrid,
    core: Window,
    context: Window,
) -> PoolBlock:
    image, valid = (x.numpy() for x in network_input(scene, grid, context))
    geobox = window_geobox(grid.geobox(scene.geobox), core)
    inner = valid[core.within(context)]
    labels = np.where(inner, source.read(geobox), IGNORE).astype(np.uint8)
    if cores is None:
        return PoolBlock(image, valid, labels)
    known = np.where(inner, cores.read(geobox), IGNORE).astype(np.uint8)
    return PoolBlock(image, valid, labels, known)


def _positions(blocks: list[PoolBlock], class_id: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, class_id])
    positions = []
    for i, block in enumerate(blocks):
        rows, cols = np.nonzero(block.labels == class_id)
        pick = rng.choice(len(rows), min(POSITIONS, len(rows)), replace=False)
        positions.append(np.stack([np.full(len(pick), i), rows[pick], cols[pick]], 1))
    return np.concatenate(positions).astype(np.int32)
