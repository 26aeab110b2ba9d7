"""Reference scores: one forward pass over a whole crop, without tiles."""

import math

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint
from geopipe.grid import NetworkGrid, Window
from geopipe.mapping.tile import autocast
from geopipe.nets.segmentation import SegmentationModel, center
from geopipe.raster import Scene


def reference_scores(
    scene: Scene, model: Checkpoint, crop: Window, context: int, device: str = "cpu"
) -> np.ndarray:
    """(classes, h, w) float32 at the pixels of `crop` by one forward of the bare nets: the oracle.

    Shares only the net's weights, its grid and reading with the way of a map. Pixels are counted
    from the anchor of the grid here, not from the scene's corner. The image is averaged
    and the scores are interpolated by matrices written from the definition (float64), `context`
    net pixels are supplied around the crop, and base network and refinement are called one after
    the other, whatever `SegmentationModel` does to be quick.
    """
    grid, net = NetworkGrid.of(scene.geobox, model.gsd), model.net
    upsampling = [
        _bilinear(start + pixel, count, f, range(first, first + n), net.base.stride)
        for start, pixel, count, f, first, n in zip(
            (crop.row, crop.col),
            grid.origin,
            crop.shape,
            grid.factor,
            grid.first,
            grid.shape,
            strict=True,
        )
    ]
    margin = -(-context // net.base.stride) * net.base.stride
    (row, rows), (col, cols) = (
        (first - margin, m.shape[1] + 2 * margin) for first, m in upsampling
    )
    corner = row - grid.first[0], col - grid.first[1]
    source = grid.averaged_from(Window(*corner, rows, cols))
    factor_y, factor_x = (
        _average(first, n, f, start + pixel, count)
        for first, n, f, start, pixel, count in (
            (row, rows, grid.factor[0], source.row, grid.origin[0], source.height),
            (col, cols, grid.factor[1], source.col, grid.origin[1], source.width),
        )
    )
    raster = scene.read(source)
    share = factor_y @ raster.valid @ factor_x.T
    image = factor_y @ raster.data.astype(np.float64) @ factor_x.T / np.maximum(share, 1e-6)
    size = torch.Size(m.shape[1] for _, m in upsampling)
    pixels, valid = (torch.from_numpy(x).to(device) for x in (image, share > 1e-6))
    if net.patchwise:
        pixels, valid = (_mirrored(x, corner, grid.shape) for x in (pixels, valid))
    scores = _untiled_scores(net, model.normalize(pixels.float(), valid)[None], size)
    return np.asarray(
        upsampling[0][1] @ scores.cpu().double().numpy() @ upsampling[1][1].T, np.float32
    )


def _untiled_scores(net: SegmentationModel, image: Tensor, size: torch.Size) -> Tensor:
    with torch.inference_mode(), autocast(image.device.type, "float32"):
        scores: Tensor = net.base(image)
        if net.postprocessor:
            scores = net.postprocessor.steps(scores, center(image, scores.shape[-2:]))[-1]
        return center(scores, size)[0]


def _mirrored(x: Tensor, corner: tuple[int, int], scene_shape: tuple[int, int]) -> Tensor:
    """(..., h, w) from `corner` on, what lies beyond the plane replaced by its mirror image."""
    for axis, (first, n) in enumerate(zip(corner, scene_shape, strict=True), x.ndim - 2):
        end = first + x.shape[axis]
        inside = x.narrow(axis, max(-first, 0), min(end, n) - max(first, 0))
        pads = [(0, 0)] * x.ndim
        pads[axis] = (max(-first, 0), max(end - n, 0))
        x = torch.from_numpy(np.pad(inside.cpu().numpy(), pads, "symmetric")).to(x.device)
    return x


def _average(first: int, n: int, factor: float, start: int, count: int) -> np.ndarray:
    """(n, count): the share of each scene pixel from `start` on in each net pixel from `first`."""
    net, pixel = first + np.arange(n)[:, None], start + np.arange(count)
    overlap = np.minimum((net + 1) * factor, pixel + 1) - np.maximum(net * factor, pixel)
    return np.asarray(np.maximum(overlap, 0) / factor)


def _bilinear(
    start: int, count: int, factor: float, plane: range, stride: int
) -> tuple[int, np.ndarray]:
    """First net pixel, a multiple of `stride`, and (count, n): weights of n net pixels from it on.

    The net pixels of `plane` have scores; edges are held. All are counted from the grid's anchor.
    """
    positions = (start + np.arange(count) + 0.5) / factor - 0.5
    positions = np.clip(positions, plane.start, plane.stop - 1)[:, None]
    first = math.floor(positions[0, 0]) // stride * stride
    n = -(-(math.ceil(positions[-1, 0]) + 1 - first) // stride) * stride
    return first, np.maximum(1 - np.abs(positions - (first + np.arange(n))), 0)
