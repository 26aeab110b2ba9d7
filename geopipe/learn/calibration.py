"""Temperature scaling: scores whose softmax is a probability (Guo et al. 2017, ICML).

One temperature divides the scores of all classes, so the best class stays the best. It is fitted on
pixels of the accurate tile that were held out: the tile is cut into halves, a network trained on
each is scored on the other.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE
from geopipe.learn.sampler import PatchPool, PoolBlock

log = logging.getLogger(__name__)

FOLDS = 2
MAX_TEMPERATURE = 20.0
_GAP_PX = 16
"""Network pixels on each side of the cut that are neither trained on nor scored."""
_SAMPLE = 200_000
"""Pixels that a temperature is fitted to at most."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of pixels by a network that was not trained on them."""

    scores: np.ndarray
    """(n, classes) float32"""
    ids: np.ndarray
    """(n,) class ids"""


def fit_temperature(held_out: HeldOut) -> float:
    """The temperature with the least cross-entropy of ``softmax(scores / temperature)``."""
    rows = np.arange(len(held_out.ids))

    def cross_entropy(log_temperature: float) -> float:
        logs = log_softmax(held_out.scores / np.exp(log_temperature), axis=1)
        return float(-logs[rows, held_out.ids].mean())

    limit = np.log(MAX_TEMPERATURE)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-limit, limit)).x))


Fold = tuple[Checkpoint, PatchPool]
"""A model, and the half of the tile that it was not trained on."""


def cross_fitted(pool: PatchPool, train: Callable[[PatchPool], Checkpoint]) -> list[Fold]:
    """Each half of `pool` with the model that `train` makes of the other.

    Empty where a half lacks a class.
    """
    halves = [_half(pool, fold) for fold in range(FOLDS)]
    if any(len(at) == 0 for half in halves for at in half.positions):
        log.warning("the accurate tile is too small to calibrate: a half of it lacks a class")
        return []
    return [(train(half), other) for half, other in zip(halves[::-1], halves, strict=True)]


def held_out_scores(folds: Sequence[Fold], seed: int = 0) -> HeldOut:
    """Scores of labelled pixels of the halves, each by the model of the other one."""
    pairs = [pair for model, half in folds for pair in scored(model, half)]
    all_scores, all_ids = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    order = np.random.default_rng(seed).permutation(len(all_ids))[:_SAMPLE]
    return HeldOut(all_scores[order], all_ids[order])


def _half(pool: PatchPool, fold: int) -> PatchPool:
    """`pool` with the labels of one half of each block; the other half is IGNORE."""
    blocks = []
    for block in pool.blocks:
        axis = int(np.argmax(block.labels.shape))
        middle = block.labels.shape[axis] // 2
        kept = slice(None, middle - _GAP_PX) if fold == 0 else slice(middle + _GAP_PX, None)
        index = (kept, slice(None)) if axis == 0 else (slice(None), kept)
        labels = _only(block.labels, index)
        cores = None if block.cores is None else _only(block.cores, index)
        blocks.append(PoolBlock(block.image, block.valid, labels, cores))
    positions = tuple(
        at[np.array([blocks[i].labels[r, c] == k for i, r, c in at], bool)]
        for k, at in enumerate(pool.positions)
    )
    return PatchPool(
        tuple(blocks), pool.halo, pool.classes, pool.share / FOLDS, positions, pool.credit
    )


def _only(ids: np.ndarray, index: tuple[slice, slice]) -> np.ndarray:
    """`ids` (h, w) at `index`, IGNORE elsewhere."""
    result = np.full_like(ids, IGNORE)
    result[index] = ids[index]
    return result


def scored(model: Checkpoint, pool: PatchPool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(n, classes) scores and (n,) ids of the labelled pixels of each block."""
    device = next(model.net.parameters()).device
    for block in pool.blocks:
        labelled = block.labels != IGNORE
        if not labelled.any():
            continue
        cells = [_cells(labelled.any(axis), model.net.stride) for axis in (1, 0)]
        read = tuple(slice(c.start, c.stop + 2 * pool.halo) for c in cells)
        image = torch.from_numpy(block.image[:, *read])
        image = model.normalize(image, torch.from_numpy(block.valid[read]))
        inner = labelled[*cells]
        h, w = inner.shape
        with torch.inference_mode():
            scores = model.net(image[None].to(device))[0, :, :h, :w].cpu().numpy()
        yield scores[:, inner].T, block.labels[*cells][inner]


def _cells(occupied: np.ndarray, stride: int) -> slice:
    """The cells of a network along one axis that hold all of `occupied` (n,) bool."""
    at = np.flatnonzero(occupied)
    return slice(at[0] // stride * stride, -(-(at[-1] + 1) // stride) * stride)


def calibrated(model: Checkpoint, held_out: HeldOut) -> Checkpoint:
    """`model` with the temperature of `held_out`, and in its provenance how it was fitted."""
    temperature = fit_temperature(held_out)
    log.info("calibrated: temperature %.2f", temperature)
    entry = {
        "temperature": round(temperature, 4),
        "pixels": len(held_out.ids),
        "held_out": "halves of the accurate tile, each by a network trained on the other",
    }
    provenance = {**model.provenance, "calibration": entry}
    return replace(model, temperature=temperature, provenance=provenance)
