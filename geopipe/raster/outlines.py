"""Outlines of areas: traced window by window, joined across the seams.

Tracing and joining work in pixel coordinates of the map (column, row): whole numbers, so that
joining is exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import shapely
from affine import Affine
from rasterio.features import shapes

from geopipe.grid import Window

_CHUNK = 20_000
"""Outlines turned into polygons at a time."""


@dataclass(frozen=True, slots=True)
class OutlinePart:
    """What one window holds of an area."""

    class_id: int
    outline: Any
    """Polygon; whole numbers, (column, row) of the map."""
    spans: list[tuple[str, int, int]]
    """(side of the window, first pixel, last + 1) wherever it meets another window."""


def trace_outlines(
    ids: np.ndarray, mask: np.ndarray, window: Window, shape: tuple[int, int]
) -> Iterator[OutlinePart]:
    """The areas of equal class id among the `mask` pixels of one window."""
    transform = Affine.translation(window.col, window.row)
    polygons = shapes(ids, mask=mask, connectivity=4, transform=transform)
    while chunk := list(islice(polygons, _CHUNK)):
        rings = [outline["coordinates"] for outline, _ in chunk]
        ring_ends = np.cumsum([0, *(len(ring) for part in rings for ring in part)])
        part_ends = np.cumsum([0, *map(len, rings)])
        xy = np.array([point for part in rings for ring in part for point in ring])
        outlines = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, xy, (ring_ends, part_ends)
        )
        spans = _spans(xy, ring_ends[part_ends], window, shape)
        for i, (_, class_id) in enumerate(chunk):
            yield OutlinePart(int(class_id), outlines[i], spans.get(i, []))


def _spans(
    xy: np.ndarray, ring_ends: np.ndarray, window: Window, shape: tuple[int, int]
) -> dict[int, list[tuple[str, int, int]]]:
    """Where parts meet other windows: the edges of their outlines on its inner sides.

    `xy` (vertices, 2) holds all outlines, `xy[ends[i]:ends[i + 1]]` those of part i. Holes never
    reach a side, so two vertices of a part that follow each other on one are an edge.
    """
    spans: dict[int, list[tuple[str, int, int]]] = {}
    for side, axis, line, start, inner in (
        ("top", 1, window.row, window.col, window.row > 0),
        ("left", 0, window.col, window.row, window.col > 0),
        ("bottom", 1, window.bottom, window.col, window.bottom < shape[0]),
        ("right", 0, window.right, window.row, window.right < shape[1]),
    ):
        if not inner:
            continue
        on_border = xy[:, axis] == line
        next_on_border = np.append(on_border[1:], False)
        next_on_border[ring_ends[1:] - 1] = False  # there the next part begins
        edges = np.flatnonzero(on_border & next_on_border)
        parts = np.searchsorted(ring_ends, edges, side="right") - 1
        intervals = (
            np.sort(np.stack([xy[edges, 1 - axis], xy[edges + 1, 1 - axis]], axis=1)) - start
        )
        for i, (a, b) in zip(parts.tolist(), intervals.astype(int).tolist(), strict=True):
            spans.setdefault(i, []).append((side, a, b))
    return spans


@dataclass(slots=True)
class _Area:
    """A connected area as far as it is known."""

    class_id: int
    open_border_px: int
    """Pixels of it whose neighbour lies in a window still to come."""
    members: list[int]


class OutlineMerger:
    """Parts that windows have cut, kept until no window to come can hold more of their area.

    Windows must come row by row. Parts of one class that share a side of a pixel across a seam
    are joined (union-find).
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.parts: dict[int, Any] = {}
        self._parent: dict[int, int] = {}
        self._areas: dict[int, _Area] = {}
        self._count = 0
        # The part that owns the last pixel above each column, left of each row; -1: none.
        self._above = np.full(shape[1], -1)
        self._left = np.empty(0, int)
        self._sides: dict[str, np.ndarray] = {}

    def begin_tile(self, window: Window) -> None:
        """Begin with `window`."""
        bottom_owners, right_owners = np.full(window.width, -1), np.full(window.height, -1)
        if window.col == 0:
            self._left = right_owners
        sides = {
            "top": bottom_owners,
            "left": right_owners,
            "bottom": bottom_owners,
            "right": right_owners,
        }
        self._sides = {side: owners.copy() for side, owners in sides.items()}

    def add(self, part: OutlinePart) -> None:
        """Keep a part of the window entered that meets other windows."""
        number = self._count
        self._count += 1
        for side, first, end in part.spans:
            self._sides[side][first:end] = number
        open_border_px = sum(b - a for side, a, b in part.spans if side in ("bottom", "right"))
        self.parts[number] = part.outline
        self._parent[number] = number
        self._areas[number] = _Area(part.class_id, open_border_px, [number])

    def end_tile(self, window: Window) -> list[tuple[int, Any]]:
        """End with `window`: (class id, polygon) of the areas that are whole now."""
        columns = slice(window.col, window.right)
        borders = (self._above[columns], self._sides["top"]), (self._left, self._sides["left"])
        touching = {i for side in self._sides.values() for i in np.unique(side).tolist()}
        for old, new in borders:
            for i, n in zip(*(v.tolist() for v in np.unique(old, return_counts=True)), strict=True):
                touching.add(i)
                if i >= 0:
                    self._areas[self._find(i)].open_border_px -= n
            both_areas = (old >= 0) & (new >= 0)
            for a, b in np.unique(
                np.stack([old[both_areas], new[both_areas]], axis=1), axis=0
            ).tolist():
                self._join(a, b)
        self._above[columns], self._left = self._sides["bottom"], self._sides["right"]
        roots = {self._find(i) for i in touching - {-1}}
        return [self._close(i) for i in sorted(roots) if not self._areas[i].open_border_px]

    def _find(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def _join(self, a: int, b: int) -> None:
        a, b = self._find(a), self._find(b)
        first, second = self._areas[a], self._areas[b]
        if a == b or first.class_id != second.class_id:
            return
        if len(first.members) < len(second.members):
            a, b, first, second = b, a, second, first
        self._parent[b] = a
        first.open_border_px += second.open_border_px
        first.members += second.members
        del self._areas[b]

    def _close(self, root: int) -> tuple[int, Any]:
        area = self._areas.pop(root)
        for i in area.members:
            del self._parent[i]
        return area.class_id, _merged([self.parts.pop(i) for i in area.members])


def _merged(parts: list[Any]) -> Any:
    """The polygon that `parts` of one area make, without the vertices the seams left."""
    if len(parts) == 1:
        return parts[0]
    shells = shapely.polygons(shapely.get_exterior_ring(parts))
    shell, *interiors = _without_flat_vertices(shapely.get_rings(shapely.union_all(shells)))
    # The holes of a part reach no side of its window: joining leaves them as they are.
    rings, ring_owner = shapely.get_rings(parts, return_index=True)
    interiors.extend(rings[np.diff(ring_owner, prepend=-1) == 0])
    return shapely.polygons(shell, holes=interiors or None)


def _without_flat_vertices(rings: np.ndarray) -> Any:
    """`rings` along rows and columns with nothing but their corners."""
    xy, ring_index = shapely.get_coordinates(rings, return_index=True)
    is_start = (
        np.diff(ring_index, prepend=-1) > 0
    )  # a ring is closed: its first vertex is there twice
    xy, ring_index = xy[~is_start], ring_index[~is_start]
    first = np.flatnonzero(np.diff(ring_index, prepend=-1))
    last = np.append(first[1:], len(ring_index)) - 1
    before, after = np.arange(len(ring_index)) - 1, np.arange(len(ring_index)) + 1
    before[first], after[last] = last, first
    corner = (xy[before] != xy[after]).all(axis=1)  # both coordinates change around a corner only
    return shapely.linearrings(xy[corner], indices=ring_index[corner])
