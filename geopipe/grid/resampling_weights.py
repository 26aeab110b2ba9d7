"""Taps: resampling between the scene's grid and the net's as sums over few neighbours.

They follow from global pixel indices in float64, never from the window at hand, so that two tiles
that share a pixel compute the same value for it.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ResamplingWeights:
    """Output i = sum over t of weight[t, i] * input[index[t, i]] along one axis."""

    index: np.ndarray
    weight: np.ndarray


def average_weights(start: int, count: int, factor: float, source_start: int) -> ResamplingWeights:
    """Net pixels `start`... each the mean of the `factor` source pixels it covers."""
    net = np.arange(start, start + count)
    left, right = net * factor, (net + 1) * factor
    first = np.floor(left + 1e-9).astype(int)
    max_count = int(np.max(np.ceil(right - 1e-9) - first))
    index = first + np.arange(max_count)[:, None]
    overlap = np.minimum(index + 1, right) - np.maximum(index, left)
    weight = np.clip(overlap, 0, None) / factor
    last = int(np.ceil((start + count) * factor - 1e-9)) - 1  # taps beyond it weigh nothing
    return ResamplingWeights(np.minimum(index, last) - source_start, weight)


def bilinear_weights(
    start: int, count: int, factor: float, size: int, source_start: int
) -> ResamplingWeights:
    """Scene pixels `start`... between the centres of net pixels 0...`size` - 1, edges held."""
    positions = (np.arange(start, start + count) + 0.5) / factor - 0.5
    first = np.floor(positions)
    right = positions - first
    index = np.clip(np.stack([first, first + 1]).astype(int), 0, size - 1)
    return ResamplingWeights(index - source_start, np.stack([1 - right, right]))
