"""Class maps of crops from what a model sees in their cells, and how right they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE
from geopipe.grid import Window, mirror_pad
from geopipe.learn.patches import ChipRaster, Embeddings, PatchGrid, PatchRaster, patch_net
from geopipe.learn.patches.rasters import read_patch
from geopipe.learn.transfer import SampleStatus, Selection
from geopipe.metrics import Metrics
from geopipe.nets import SegmentationModel, SegmentVote
from geopipe.nets.segment_vote import SCALES, segment

ALL, SEGMENTS = "all", "segments"
"""Maps by all sizes of patches, and by the votes of these in segments."""
_KEPT = 2500
"""Segmented crops that stay in memory, 0.1 MB each: every model maps them."""


def evaluate(model: Checkpoint, patches: PatchGrid, embeddings: Embeddings) -> dict[str, Metrics]:
    """Pixels of the crops by true and mapped class: by each size of patch, all, and segments."""
    names = model.scheme.names
    metrics: dict[str, Metrics] = {}
    for plane, maps in crop_maps(model, patches, embeddings):
        truth = plane.labels(Window.of_shape(plane.shape))
        for key, ids in maps.items():
            metrics[key] = metrics.get(key, Metrics.empty(names)) + Metrics.of(names, truth, ids)
    return metrics


def crop_maps(
    model: Checkpoint, patches: PatchGrid, embeddings: Embeddings
) -> Iterator[tuple[PatchRaster, dict[str, np.ndarray]]]:
    """Each plane with its class maps (h, w) uint8; `patches` are all cells of their planes.

    Kinds of maps: sizes of patches as text, ALL and SEGMENTS.
    """
    net, classes = patch_net(model), len(model.scheme)
    summed = embeddings.summed(net.weights).argmax(1)
    margin = SegmentationModel(net, SegmentVote(classes)).halo - net.receptive_radius
    for number in np.unique(patches.positions[:, 0]):
        crop_rows = np.flatnonzero(patches.positions[:, 0] == number)
        plane = patches.rasters[number]
        assert isinstance(plane, ChipRaster)
        grid = tuple((patches.positions[crop_rows, 1:].max(0) + 1).tolist())
        where = cell_of(Window.of_shape(plane.shape), plane.shape, patches.cell, grid)
        by_size = embeddings.probabilities[crop_rows].argmax(2)
        maps = {
            **{str(size): by_size[:, i][where] for i, size in enumerate(net.sizes)},
            ALL: summed[crop_rows][where],
            SEGMENTS: voted(
                plane, summed[crop_rows], (grid, patches.cell, margin), _look_of(model)
            ),
        }
        yield plane, {key: ids.astype(np.uint8) for key, ids in maps.items()}


Look = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation that normalise an image."""


def voted(
    plane: ChipRaster, ids: np.ndarray, crop_grid: tuple[tuple[int, int], int, int], by: Look
) -> np.ndarray:
    """(h, w) class ids: of the votes `ids` (cells,), most in a pixel's segment.

    As `SegmentVote` does in mapping, where the plane is continued by its mirror image by `margin`
    px; so are the votes here, that the net need not look at mirrored cells too. `crop_grid`: (rows,
    columns) of cells, px of a cell, margin.
    """
    labels, counts = _outlined(plane, crop_grid, by)
    shares = 0.0
    for scale, pixels in zip(labels, counts, strict=True):
        ballots = pixels @ np.eye(int(ids.max()) + 1)[ids]
        shares = shares + (ballots / ballots.sum(1, keepdims=True))[scale]
    return np.asarray(np.asarray(shares).argmax(2))


@lru_cache(_KEPT)
def _outlined(
    plane: ChipRaster, crop_grid: tuple[tuple[int, int], int, int], by: Look
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Segments of a plane at each scale.

    Labels (scales, h, w) int16, and for each scale (segments, cells) pixels: how many of a cell,
    its mirror images included, a segment has. Only segments that reach into the plane.
    """
    grid, cell, margin = crop_grid
    window = Window.of_shape(plane.shape)
    image, _ = read_patch(plane, window.expand(margin))
    mean, std = (np.array(x, np.float32)[:, None, None] for x in by)
    normalized = (image.numpy() - mean) / std
    where = cell_of(window.expand(margin), plane.shape, cell, grid).ravel()
    core = np.s_[margin : margin + window.height, margin : margin + window.width]
    labels, counts = [], []
    count = grid[0] * grid[1]
    for segment_ids in segment(normalized, (normalized != 0).any(0), SCALES):
        found_ids, inside = np.unique(segment_ids[core], return_inverse=True)
        pixels = np.bincount(
            segment_ids.ravel().astype(np.int64) * count + where,
            minlength=(segment_ids.max() + 1) * count,
        )
        labels.append(inside.reshape(window.shape).astype(np.int16))
        counts.append(pixels.reshape(-1, count)[found_ids].astype(np.float64))
    return np.stack(labels), tuple(counts)


def cell_of(window: Window, shape: tuple[int, int], cell: int, grid: tuple[int, int]) -> np.ndarray:
    """(h, w) int64 of a window, mirrored at the edges of a plane: numbers of its cells.

    Pixels beyond the last row or column of cells, which are less than half a cell, are theirs.
    """
    part, rows, cols = mirror_pad(window, shape)
    row = np.minimum((part.row + rows) // cell, grid[0] - 1)
    col = np.minimum((part.col + cols) // cell, grid[1] - 1)
    return np.asarray(row[:, None] * grid[1] + col[None])


def _look_of(model: Checkpoint) -> Look:
    return tuple(model.mean), tuple(model.std)


STAGES = {
    "sure": (
        SampleStatus.DISAGREE,
        SampleStatus.MIXED,
        SampleStatus.NEAR,
        SampleStatus.SURPLUS,
        SampleStatus.KEPT,
    ),
    "confirmed": (SampleStatus.NEAR, SampleStatus.SURPLUS, SampleStatus.KEPT),
    "kept": (SampleStatus.KEPT,),
}
"""Pseudo-labels before retrieval, after it, and after thinning."""


def precision(selection: Selection, truth: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Stage -> class name or "all" -> samples, those of known class, and the share that is right.

    `truth` (n,): majority of each cell's labels, IGNORE where there is none.
    """

    def row(mask: np.ndarray) -> dict[str, Any]:
        labelled = mask & (truth != IGNORE)
        right = (selection.labels[labelled] == truth[labelled]).mean() if labelled.any() else None
        return {
            "samples": int(mask.sum()),
            "known": int(labelled.sum()),
            "precision": None if right is None else float(right),
        }

    rows = {}
    for stage, statuses in STAGES.items():
        is_passed = np.isin(selection.statuses, statuses)
        of_classes = {
            name: row(is_passed & (selection.labels == k)) for k, name in enumerate(names)
        }
        rows[stage] = {"all": row(is_passed), **of_classes}
    return rows
