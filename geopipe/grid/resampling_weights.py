"""Taps: resampling between the scene's grid and the net's as sums over few neighbours.

They follow from positions in whole numbers (`GridAxis`), never from the window at hand or from
where a file begins, so that two tiles, or two files, that share a pixel compute the same value.
"""

from dataclasses import dataclass

import numpy as np

from geopipe.grid.axis import GridAxis


@dataclass(frozen=True, slots=True)
class ResamplingWeights:
    """Output i = sum over t of weight[t, i] * input[index[t, i]] along one axis."""

    index: np.ndarray
    weight: np.ndarray


def average_weights(axis: GridAxis, start: int, count: int, source_start: int) -> ResamplingWeights:
    """Net pixels `start`... each the mean of the source pixels it covers."""
    left = np.arange(start, start + count, dtype=np.int64) * axis.p - axis.lead  # in 1 / q px
    first = left // axis.q
    max_count = int(np.max(-((-left - axis.p) // axis.q) - first))
    index = first + np.arange(max_count)[:, None]
    overlap = np.minimum((index + 1) * axis.q, left + axis.p) - np.maximum(index * axis.q, left)
    weight = np.clip(overlap, 0, None) / axis.p
    last = axis.averaged_from(start, start + count)[1] - 1  # taps beyond it weigh nothing
    return ResamplingWeights(np.minimum(index, last) - source_start, weight)


def bilinear_weights(
    axis: GridAxis, start: int, count: int, size: int, source_start: int
) -> ResamplingWeights:
    """Scene pixels `start`... between the centres of net pixels 0...`size` - 1, edges held."""
    pixel = np.arange(start, start + count, dtype=np.int64)
    positions = (2 * pixel + 1) * axis.q + 2 * axis.lead - axis.p  # in 1 / 2p net pixels
    first, rest = np.divmod(positions, 2 * axis.p)
    right = rest / (2 * axis.p)
    index = np.clip(np.stack([first, first + 1]), 0, size - 1)
    return ResamplingWeights(index - source_start, np.stack([1 - right, right]))
