"""Resampling of tensors between the grids of scene and network."""

import torch
from torch import Tensor

from geopipe.grid import ResamplingWeights


def is_integer(factor: tuple[float, float]) -> bool:
    """Whether a whole number of scene pixels lies under a net pixel: slices do instead of taps."""
    return all(f >= 1 and f == int(f) for f in factor)


def average(x: Tensor, factor: tuple[float, float]) -> Tensor:
    """(c, h fy, w fx) float32 -> (c, h, w): the means of blocks of a whole factor.

    Sums of strided slices: six times as fast as torch's pooling, on one thread.
    """
    fy, fx = (int(f) for f in factor)
    c, h, w = x.shape
    rows = x.view(c, h // fy, fy, w)
    row_sums = _sum([rows[:, :, i] for i in range(fy)]).view(c, h // fy, w // fx, fx)
    return _sum([row_sums[..., j] for j in range(fx)]) * (1 / (fy * fx))


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0].clone() if len(parts) == 1 else parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total


def enlarge(x: Tensor, factor: tuple[float, float]) -> Tensor:
    """(c, h, w) float32 -> (c, h fy, w fx), bilinear, edges held, by a whole factor.

    Columns first, while there are few rows. Weights depend on the phase alone, so a pixel has the
    same value in any window; five times as fast as torch's interpolation.
    """
    return _phases(_phases(x, int(factor[1]), 2), int(factor[0]), 1)


def _phases(x: Tensor, factor: int, dim: int) -> Tensor:
    """Pixel p of the `factor` under each input lies between that input and a neighbour."""
    if factor == 1:
        return x
    n, shape = x.shape[dim], list(x.shape)
    padded = torch.cat([x.narrow(dim, 0, 1), x, x.narrow(dim, n - 1, 1)], dim)
    out = x.new_empty([*shape[: dim + 1], factor, *shape[dim + 1 :]])
    for p in range(factor):
        position = (p + 0.5) / factor - 0.5
        left = 0 if position < 0 else 1  # in `padded`
        weight = position if left else position + 1
        interpolated = torch.lerp(
            padded.narrow(dim, left, n), padded.narrow(dim, left + 1, n), weight
        )
        out.select(dim + 1, p).copy_(interpolated)
    shape[dim] *= factor
    return out.view(shape)


def resample(
    x: Tensor, rows: ResamplingWeights, cols: ResamplingWeights, *, columns_first: bool = False
) -> Tensor:
    """(..., h, w) float32 -> (..., rows, cols) by taps.

    The order decides the last bit: always rows first to reduce, columns first to enlarge, so that
    the slower axis handles the fewer pixels.
    """
    if columns_first:
        return _resample_axis(_resample_axis(x, cols, -1), rows, -2)
    return _resample_axis(_resample_axis(x, rows, -2), cols, -1)


def _resample_axis(x: Tensor, weights: ResamplingWeights, dim: int) -> Tensor:
    shape = (-1, 1) if dim == -2 else (-1,)
    out = None
    for index, weight in zip(weights.index, weights.weight, strict=True):
        w = torch.as_tensor(weight, dtype=x.dtype, device=x.device).reshape(shape)
        term = x.index_select(dim, torch.as_tensor(index, device=x.device)) * w
        out = term if out is None else out.add_(term)
    assert out is not None
    return out
