"""Resampling of tensors by taps."""

import torch
from torch import Tensor

from geopipe.grid import Taps


def resample(x: Tensor, rows: Taps, cols: Taps) -> Tensor:
    """(..., h, w) float32 -> (..., rows, cols): rows first, then columns."""
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
