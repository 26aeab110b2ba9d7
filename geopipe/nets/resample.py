"""Resampling of tensors between the scene's grid and the net's."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.grid import Taps

_EXACT = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors whose positions are exact in float32 from wherever the window starts."""


def is_whole(factor: tuple[float, float]) -> bool:
    """Whether scene pixels lie evenly in net pixels, so that torch's own kernels agree on tiles."""
    return all(f in _EXACT for f in factor)


def average(x: Tensor, factor: tuple[float, float]) -> Tensor:
    """(c, h fy, w fx) float32 -> (c, h, w): the means of blocks of a whole factor."""
    return F.avg_pool2d(x, (int(factor[0]), int(factor[1])))


def enlarge(x: Tensor, factor: tuple[float, float]) -> Tensor:
    """(c, h, w) float32 -> (c, h fy, w fx), bilinear, edges held; for factors that `is_whole`."""
    size = [round(n * f) for n, f in zip(x.shape[-2:], factor, strict=True)]
    return F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]


def resample(x: Tensor, rows: Taps, cols: Taps, *, columns_first: bool = False) -> Tensor:
    """(..., h, w) float32 -> (..., rows, cols) by taps.

    The order decides the last bit: always rows first to reduce, columns first to enlarge, so that
    the slower axis handles the fewer pixels.
    """
    if columns_first:
        return _along(_along(x, cols, -1), rows, -2)
    return _along(_along(x, rows, -2), cols, -1)


def _along(x: Tensor, taps: Taps, dim: int) -> Tensor:
    shape = (-1, 1) if dim == -2 else (-1,)
    out = None
    for index, weight in zip(taps.index, taps.weight, strict=True):
        w = torch.as_tensor(weight, dtype=x.dtype, device=x.device).reshape(shape)
        term = x.index_select(dim, torch.as_tensor(index, device=x.device)) * w
        out = term if out is None else out.add_(term)
    assert out is not None
    return out
