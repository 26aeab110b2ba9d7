"""The connected areas of one class, each cut into objects, in bounded memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import shapes
from shapely.geometry import shape

from geopipe.grid import Window
from geopipe.raster.polygons import trace_areas
from geopipe.vectors.instances import SplitOptions, split_instances
from geopipe.vectors.probability import ClassProbability

Counted = tuple[np.ndarray, np.ndarray]
"""Values, and how often each occurs."""
MAX_SIDE = 2048
"""Areas with a longer bounding box are cut into objects block by block..."""
_MARGIN = 256
"""...each block with so many pixels around it."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of the class map."""

    outline: Any
    """Polygon along the edges of pixels, in pixel coordinates (column, row)."""
    pixels: int
    mean: float
    """Of the probability of its pixels; NaN where unknown."""
    q10: float
    """The quantile that 10 % of its pixels do not reach; NaN where unknown."""


def instances_of(
    src: rasterio.DatasetReader,
    class_id: int,
    class_count: int,
    gsd: tuple[float, float],
    min_area: float,
    probability: ClassProbability | None = None,
    options: SplitOptions | None = None,
    *,
    cores: ClassProbability | None = None,
    window_size: int | None = None,
    max_side: int = MAX_SIDE,
) -> Iterator[list[Instance]]:
    """The objects of each connected area of class `class_id`, area by area.

    An area is looked at in its own bounding box, so that neither the order nor the size of the
    windows in which the map is read changes an object. One whose box is longer than `max_side`
    pixels is cut in blocks of that size, counted from the corner of its box: within a block and
    its margin objects are told apart as in a small area; parts that meet on the line between two
    blocks are one object where both blocks see them as one. Areas below `min_area` are left out.
    """
    unwanted = set(range(class_count)) - {class_id}
    min_px = min_area / math.prod(gsd)
    for area_class_id, outline in trace_areas(src, unwanted, window_size):
        if area_class_id != class_id or shapely.area(outline) < min_px:
            continue
        left, top, right, bottom = map(round, shapely.bounds(outline))
        box = Window(top, left, bottom - top, right - left)
        split = _Splitter(outline, box, gsd, min_area, probability, cores, options)
        if max(box.height, box.width) <= max_side:
            objects = split.whole()
        else:
            objects = split.by_blocks(max_side)
        yield [o for o in objects if o.pixels >= min_px]


@dataclass(frozen=True, eq=False)
class _Splitter:
    """One connected area."""

    outline: Any
    box: Window
    gsd: tuple[float, float]
    min_area: float
    probability: ClassProbability | None
    cores: ClassProbability | None
    options: SplitOptions | None

    def labels(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Object numbers (h, w) in `window`, 0 off the area; the probability (h, w)."""
        mask = _pixels_in(self.outline, window)
        scores = self.probability.read(window) if self.probability else None
        area = np.count_nonzero(mask) * math.prod(self.gsd)
        if not area or (window == self.box and area < 2 * self.min_area):
            return mask.astype(np.int32), scores  # nothing, or too small for two objects
        cores = self.cores.read(window) if self.cores else None
        return split_instances(
            mask, self.gsd, self.min_area, scores, self.options, cores=cores
        ), scores

    def whole(self) -> list[Instance]:
        """The objects of an area that fits into memory."""
        labels, scores = self.labels(self.box)
        traced = _as_traced(self.outline) if labels.max() == 1 else None
        outlines = {1: traced} if traced else _outlines(labels, self.box)
        values = _values(labels, scores)
        sizes = np.bincount(labels.ravel())
        return [
            Instance(outlines[i], int(sizes[i]), *_figures(*_counted(values[i])))
            for i in sorted(outlines)
        ]

    def by_blocks(self, side: int) -> list[Instance]:
        """The objects of a larger one."""
        starts = (range(0, n, side) for n in (self.box.height, self.box.width))
        parts: dict[int, Any] = {}
        values: dict[int, Counted] = {}
        edges: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        parent: dict[int, int] = {}
        for row, col in product(*starts):
            size = min(side, self.box.height - row), min(side, self.box.width - col)
            core = Window(self.box.row + row, self.box.col + col, *size)
            around = core.expand(_MARGIN)
            labels, scores = self.labels(around)
            labels = np.where(labels > 0, labels + len(parent), 0)
            new = np.unique(labels)
            parent |= {i: i for i in range(len(parent) + 1, int(new[-1]) + 1)}
            m = slice(_MARGIN, -_MARGIN)
            inner = labels[m, m]
            parts |= _outlines(inner, core)
            inner_scores = scores[m, m] if scores is not None else None
            # All pixels of an area as large as the scene would be as large as the scene.
            values |= {i: _counted(v) for i, v in _values(inner, inner_scores).items()}
            self._join(parent, edges, labels, (row, col), side)
        groups: dict[int, list[int]] = {}
        for i in parts:
            groups.setdefault(_root(parent, i), []).append(i)
        objects = []
        for _, members in sorted(groups.items()):
            merged = shapely.union_all([parts[i] for i in members])
            figures = _figures(*_added([values[i] for i in members]))
            for polygon in shapely.get_parts(merged):
                pixels = round(shapely.area(polygon))
                objects.append(Instance(shapely.simplify(polygon, 0), pixels, *figures))
        return objects

    @staticmethod
    def _join(
        parent: dict[int, int],
        edges: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]],
        labels: np.ndarray,
        corner: tuple[int, int],
        side: int,
    ) -> None:
        """Make objects one that this block and the one above, or left, see across their line.

        `edges`: per block the numbers it gives the pixels on both sides of its lower and of its
        right line, (2, w) and (2, h).
        """
        row, col = corner
        m = _MARGIN
        core_cols, core_rows = slice(m, -m), slice(m, -m)
        top, left = labels[m - 1 : m + 1, core_cols], labels[core_rows, m - 1 : m + 1].T
        for own, neighbour, k in ((top, (row - side, col), 0), (left, (row, col - side), 1)):
            if neighbour not in edges:
                continue
            other = edges[neighbour][k]
            same = (own[0] == own[1]) & (other[0] == other[1]) & (own[0] > 0) & (other[0] > 0)
            pairs = np.unique(np.stack([own[1][same], other[0][same]], axis=1), axis=0)
            for a, b in pairs.tolist():
                a, b = sorted((_root(parent, a), _root(parent, b)))
                parent[b] = a
        bottom = labels[-m - 1 : -m + 1, core_cols].copy()
        right = labels[core_rows, -m - 1 : -m + 1].T.copy()
        edges[corner] = (bottom, right)


def _root(parent: dict[int, int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _pixels_in(outline: Any, window: Window) -> np.ndarray:
    """(h, w) bool: the pixels of `window` inside of `outline`, which runs along their edges."""
    rings = shapely.get_rings(outline)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = np.rint(xy - (window.col, window.row)).astype(int).T
    is_wall = (x[1:] == x[:-1]) & (ring[1:] == ring[:-1])
    col = np.clip(x[:-1][is_wall], 0, window.width)
    ends = np.clip(np.stack([y[:-1][is_wall], y[1:][is_wall]]), 0, window.height)
    # Inside and outside change at each wall that a row crosses.
    walls = np.zeros((window.height + 1, window.width + 1), np.int32)
    np.add.at(walls, (ends.min(axis=0), col), 1)
    np.add.at(walls, (ends.max(axis=0), col), -1)
    crossed = walls.cumsum(axis=0).cumsum(axis=1)
    return np.asarray(crossed[:-1, :-1] % 2 == 1)


def _as_traced(outline: Any) -> Any:
    """`outline` with its vertices in the order of `_outlines`; None where they have several."""
    xy = shapely.get_coordinates(outline)[:-1]
    if shapely.get_num_interior_rings(outline) or len(np.unique(xy, axis=0)) < len(xy):
        return None
    first = np.lexsort((xy[:, 0], xy[:, 1]))[0]
    xy = np.roll(xy, -first, axis=0)
    if xy[1, 0] != xy[0, 0]:  # from the upper left corner down
        xy = np.concatenate([xy[:1], xy[:0:-1]])
    return shapely.polygons(xy)


def _outlines(labels: np.ndarray, window: Window) -> dict[int, Any]:
    """Number -> polygon in pixel coordinates, a multipolygon where it is in several parts."""
    where = Affine.translation(window.col, window.row)
    polygons: dict[int, list[Any]] = {}
    for geometry, number in shapes(labels, labels > 0, connectivity=4, transform=where):
        polygons.setdefault(int(number), []).append(shape(geometry))
    return {i: p[0] if len(p) == 1 else shapely.MultiPolygon(p) for i, p in polygons.items()}


def _values(labels: np.ndarray, scores: np.ndarray | None) -> dict[int, np.ndarray]:
    """Number -> the known probabilities of its pixels."""
    if scores is None:
        return {int(i): np.empty(0, np.float32) for i in np.unique(labels) if i}
    inside = labels > 0
    numbers, values = labels[inside], scores[inside]
    order = np.argsort(numbers, kind="stable")
    numbers, values = numbers[order], values[order]
    kinds, starts = np.unique(numbers, return_index=True)
    split = np.split(values, starts[1:])
    return {int(i): v[np.isfinite(v)] for i, v in zip(kinds, split, strict=True)}


def _counted(values: np.ndarray) -> Counted:
    """The values that occur, in rising order, and how often each does."""
    unique, counts = np.unique(values, return_counts=True)
    return unique, counts


def _added(parts: list[Counted]) -> Counted:
    """The values of all parts."""
    values, number = np.unique(np.concatenate([v for v, _ in parts]), return_inverse=True)
    counts = np.concatenate([n for _, n in parts])
    return values, np.bincount(number, counts, len(values)).astype(int)


def _figures(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and 10 % quantile of values that occur `counts` times; NaN of nothing."""
    if not len(values):
        return math.nan, math.nan
    values = values.astype(np.float64)
    last = np.cumsum(counts) - 1  # where each would be, if all were in one row
    place = 0.1 * last[-1]
    low, high = values[np.searchsorted(last, [math.floor(place), math.ceil(place)])]
    return float(values @ counts / counts.sum()), float(low + (high - low) * (place % 1))
