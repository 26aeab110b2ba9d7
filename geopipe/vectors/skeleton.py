"""The skeleton of the roads in a class map, block by block, the same for any size of block."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import rasterio
from scipy import ndimage
from scipy.spatial import cKDTree

from geopipe.grid import Window
from geopipe.progress import progress
from geopipe.vectors.probability import ClassProbability, read_window
from geopipe.vectors.thinning import thin

BLOCK = 2048
"""Side of the blocks, from the raster's own corner."""
_HOLE_M2 = 20.0
"""Holes smaller than this (cars, crowns, noise) are no islands that a road goes around..."""
_HOLE_M = 40.0
"""...unless they are longer: a strip between two carriageways."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Pixels in the middle of roads, sorted by row and column."""

    rows: np.ndarray
    """(n,) int32"""
    cols: np.ndarray
    """(n,) int32"""
    half_width: np.ndarray
    """(n,) float32: metres to the edge of the road"""
    score: np.ndarray
    """(n,) float32: probability of road, NaN where unknown"""
    road_px: int
    """Pixels of the class."""
    wide_px: int
    """Of these, in areas too wide for a road, which have no centre-line."""


def skeletonize(
    src: rasterio.DatasetReader,
    class_id: int,
    gsd: tuple[float, float],
    max_width: float,
    probability: ClassProbability | None = None,
    block: int = BLOCK,
) -> Skeleton:
    """The skeleton of the pixels of `class_id` in band 1 of `src`.

    Blocks are read with a margin as wide as what thinning a road of `max_width` metres looks at,
    so that two blocks agree where they meet. Held in memory: one block, and the skeleton (16 bytes
    a pixel of centre-line). `gsd`: metres on the ground per pixel, down and across.
    """
    radius = max(2, round(max_width / 2 / min(gsd)))
    margin = 4 * radius + 32
    hole_px = round(_HOLE_M2 / (gsd[0] * gsd[1]))
    hole_side = min(hole_px, round(_HOLE_M / min(gsd)))
    windows = [
        Window(row, col, block, block).clip(src.shape)
        for row, col in product(range(0, src.height, block), range(0, src.width, block))
    ]
    columns: list[tuple[str, type, list[np.ndarray]]] = [
        ("rows", np.int32, []),
        ("cols", np.int32, []),
        ("half_width", np.float32, []),
        ("score", np.float32, []),
    ]
    road_px = wide_px = 0
    with progress("thinning roads", len(windows)) as advance:
        for window in windows:
            advance()
            outer = window.expand(margin)
            # Of holes that reach into `outer` all is seen that decides whether they are filled.
            around = outer.expand(hole_side)
            roads = read_window(src, around) == class_id
            if not roads.any():
                continue
            filled = _without_small_holes(roads, hole_px, hole_side)[outer.within(around)]
            roads, core = roads[outer.within(around)], window.within(outer)
            road_px += int(np.count_nonzero(roads[core]))
            lines, mask, wide = _thinned(np.ascontiguousarray(filled), radius)
            wide_px += int(np.count_nonzero(wide[core] & roads[core])) if wide is not None else 0
            row, col = np.nonzero(lines[core])
            if not len(row):
                continue
            half_width = _half_width(mask, row + margin, col + margin, gsd)
            score = np.full(len(row), np.nan, np.float32)
            if probability is not None:
                score = probability.read(window)[row, col]
            block_columns: list[np.ndarray] = [
                row + window.row,
                col + window.col,
                half_width,
                score,
            ]
            for (_, kind, parts), values in zip(columns, block_columns, strict=True):
                parts.append(values.astype(kind))
    joined: dict[str, np.ndarray] = {}
    for name, kind, parts in columns:
        joined[name] = np.concatenate([np.empty(0, kind), *parts])
        parts.clear()
    order = np.lexsort((joined["cols"], joined["rows"]))
    for values in joined.values():
        values[:] = values[order]
    return Skeleton(**joined, road_px=road_px, wide_px=wide_px)


def _without_small_holes(roads: np.ndarray, most_px: int, most_side: int) -> np.ndarray:
    """`roads`, and their holes of at most `most_px` pixels and `most_side` pixels a side."""
    labels, count = ndimage.label(~roads)
    if most_px < 1 or count < 2:
        return roads
    small = np.bincount(labels.ravel()) <= most_px
    small[0] = False  # the roads themselves
    boxes = ndimage.find_objects(labels)
    for i in np.flatnonzero(small):
        small[i] = max(s.stop - s.start for s in boxes[i - 1]) <= most_side
    return np.asarray(roads | small[labels])


def _thinned(mask: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(lines, the mask they are the middle of, what was too wide or None), each (h, w) bool."""
    lines, done = thin(mask, radius)
    if done:  # then no square of 2 x radius + 1 pixels fits into the mask
        return lines, mask, None
    # Something may be wider than a road. Squares of that side, wherever they fit, are taken out.
    size = 2 * radius + 1
    wide = ndimage.maximum_filter(ndimage.minimum_filter(mask.view(np.uint8), size), size) > 0
    narrow = mask & ~wide
    # A diagonal band may be as wide as the square's diagonal.
    return thin(narrow, 2 * radius)[0], narrow, wide


def _half_width(
    mask: np.ndarray, rows: np.ndarray, cols: np.ndarray, gsd: tuple[float, float]
) -> np.ndarray:
    """Metres from pixels (rows, cols) of `mask` to its edge.

    The edge lies half a pixel before the first pixel outside; a road of an even number of pixels
    has its middle half a pixel off. On average a quarter of a pixel is to be taken away.
    """
    outside = ~mask
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    edge = np.argwhere(outside & near)
    if not len(edge):
        return np.full(len(rows), np.inf, np.float32)
    nearest, _ = cKDTree(edge * gsd).query(np.column_stack([rows, cols]) * gsd)
    return np.asarray(nearest - 0.25 * min(gsd), np.float32)


def neighbours(skeleton: Skeleton, width: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Pairs of adjacent pixels as two arrays of their numbers, and whether they are diagonal.

    Diagonal pairs are left out where a third pixel joins them by its sides.
    """
    index = skeleton.rows.astype(np.int64) * (width + 2) + skeleton.cols + 1

    def find(keys: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(index, keys), len(index) - 1)
        return np.where(index[at] == keys, at, -1).astype(np.int32)

    step = width + 2
    right, below, left = find(index + 1), find(index + step), find(index - 1)
    for side in (right, below):
        a = np.flatnonzero(side >= 0)
        yield a.astype(np.int32), side[a], False
    for offset, beside in ((step + 1, right), (step - 1, left)):
        diagonal = find(index + offset)
        a = np.flatnonzero((diagonal >= 0) & (beside < 0) & (below < 0))
        yield a.astype(np.int32), diagonal[a], True
