"""Outlines of areas: traced window by window, joined across the seams, squared on request.

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

_DETAIL_PX = 1.5
"""Vertices this near to a straight line are noise of the raster: half its diagonal either way."""
_STEP_PX = 2.0
"""The shortest wall of a squared outline."""
_ASKEW = np.radians(25)
"""A wall that turns more than this from both main directions is no wall but a cut corner."""
_MAX_ASKEW = 1 / 3
"""Share of the outline that may run askew."""
_MIN_IOU = 0.8
"""Intersection over union with the outline as traced."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one window holds of an area."""

    class_id: int
    outline: Any
    """Polygon; whole numbers, (column, row) of the map."""
    spans: list[tuple[str, int, int]]
    """(side of the window, first pixel, last + 1) wherever it meets another window."""


def trace(
    ids: np.ndarray, traced: np.ndarray, window: Window, shape: tuple[int, int]
) -> Iterator[Part]:
    """The areas of equal class id among the `traced` pixels of one window."""
    place = Affine.translation(window.col, window.row)
    found = shapes(ids, mask=traced, connectivity=4, transform=place)
    while chunk := list(islice(found, _CHUNK)):
        rings = [outline["coordinates"] for outline, _ in chunk]
        ring_ends = np.cumsum([0, *(len(ring) for part in rings for ring in part)])
        part_ends = np.cumsum([0, *map(len, rings)])
        xy = np.array([point for part in rings for ring in part for point in ring])
        outlines = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, xy, (ring_ends, part_ends)
        )
        spans = _spans(xy, ring_ends[part_ends], window, shape)
        for i, (_, class_id) in enumerate(chunk):
            yield Part(int(class_id), outlines[i], spans.get(i, []))


def _spans(
    xy: np.ndarray, ends: np.ndarray, window: Window, shape: tuple[int, int]
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
        on = xy[:, axis] == line
        on_next = np.append(on[1:], False)
        on_next[ends[1:] - 1] = False  # there the next part begins
        edges = np.flatnonzero(on & on_next)
        parts = np.searchsorted(ends, edges, side="right") - 1
        along = np.sort(np.stack([xy[edges, 1 - axis], xy[edges + 1, 1 - axis]], axis=1)) - start
        for i, (a, b) in zip(parts.tolist(), along.astype(int).tolist(), strict=True):
            spans.setdefault(i, []).append((side, a, b))
    return spans


@dataclass(slots=True)
class _Area:
    """A connected area as far as it is known."""

    class_id: int
    open_px: int
    """Pixels of it whose neighbour lies in a window still to come."""
    members: list[int]


class Seams:
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

    def enter(self, window: Window) -> None:
        """Begin with `window`."""
        along, down = np.full(window.width, -1), np.full(window.height, -1)
        if window.col == 0:
            self._left = down
        sides = {"top": along, "left": down, "bottom": along, "right": down}
        self._sides = {side: owners.copy() for side, owners in sides.items()}

    def hold(self, part: Part) -> None:
        """Keep a part of the window entered that meets other windows."""
        number = self._count
        self._count += 1
        for side, first, end in part.spans:
            self._sides[side][first:end] = number
        open_px = sum(b - a for side, a, b in part.spans if side in ("bottom", "right"))
        self.parts[number] = part.outline
        self._parent[number] = number
        self._areas[number] = _Area(part.class_id, open_px, [number])

    def leave(self, window: Window) -> list[tuple[int, Any]]:
        """End with `window`: (class id, polygon) of the areas that are whole now."""
        columns = slice(window.col, window.right)
        borders = (self._above[columns], self._sides["top"]), (self._left, self._sides["left"])
        touched = {i for side in self._sides.values() for i in np.unique(side).tolist()}
        for old, new in borders:
            for i, n in zip(*(v.tolist() for v in np.unique(old, return_counts=True)), strict=True):
                touched.add(i)
                if i >= 0:
                    self._areas[self._find(i)].open_px -= n
            both = (old >= 0) & (new >= 0)
            for a, b in np.unique(np.stack([old[both], new[both]], axis=1), axis=0).tolist():
                self._join(a, b)
        self._above[columns], self._left = self._sides["bottom"], self._sides["right"]
        roots = {self._find(i) for i in touched - {-1}}
        return [self._close(i) for i in sorted(roots) if not self._areas[i].open_px]

    def _find(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def _join(self, a: int, b: int) -> None:
        a, b = self._find(a), self._find(b)
        one, other = self._areas[a], self._areas[b]
        if a == b or one.class_id != other.class_id:
            return
        if len(one.members) < len(other.members):
            a, b, one, other = b, a, other, one
        self._parent[b] = a
        one.open_px += other.open_px
        one.members += other.members
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
    shell, *holes = _without_flat_vertices(shapely.get_rings(shapely.union_all(shells)))
    # The holes of a part reach no side of its window: joining leaves them as they are.
    rings, owner = shapely.get_rings(parts, return_index=True)
    holes.extend(rings[np.diff(owner, prepend=-1) == 0])
    return shapely.polygons(shell, holes=holes or None)


def _without_flat_vertices(rings: np.ndarray) -> Any:
    """`rings` along rows and columns with nothing but their corners."""
    xy, owner = shapely.get_coordinates(rings, return_index=True)
    begins = np.diff(owner, prepend=-1) > 0  # a ring is closed: its first vertex is there twice
    xy, owner = xy[~begins], owner[~begins]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    last = np.append(first[1:], len(owner)) - 1
    before, after = np.arange(len(owner)) - 1, np.arange(len(owner)) + 1
    before[first], after[last] = last, first
    corner = (xy[before] != xy[after]).all(axis=1)  # both coordinates change around a corner only
    return shapely.linearrings(xy[corner], indices=owner[corner])


def right_angled(outline: Any, pixel: float) -> Any:
    """`outline` with walls in one direction and across it only, or itself where that is no fit.

    `outline`: a polygon traced from pixels of side `pixel`, in a plane of true angles and in the
    unit of `pixel`. The direction is the one its walls have on average (least squares); a wall
    lies in the middle of the pixel edges it replaces, so areas hardly change. Steps, bays and
    holes finer than two pixels go. The polygon itself is returned when a third of its outline
    runs askew (round buildings), when it is too small to have a direction, and when the result
    would be invalid or have an IoU below 0.8 with it. Neighbours are not looked at: the result
    may overlap one, or leave a gap, where the two are within about two pixels of each other.
    """
    chords = _chords(outline.exterior, _DETAIL_PX * pixel)
    if chords is None:
        return outline
    angle = _direction(chords)
    length = abs(np.diff(chords.ends))
    if length[_turns(chords, angle)[1] > _ASKEW].sum() > _MAX_ASKEW * length.sum():
        return outline
    holes = [_chords(ring, _DETAIL_PX * pixel) for ring in outline.interiors]
    shell, *rest = (_squared(c, angle, _STEP_PX * pixel) for c in [chords, *holes] if c)
    if shell is None:
        return outline
    squared = shapely.Polygon(shell, [ring for ring in rest if ring is not None])
    if not squared.is_valid:
        return outline
    common = squared.intersection(outline).area
    iou = common / (squared.area + outline.area - common)
    return squared if iou >= _MIN_IOU else outline


@dataclass(frozen=True, slots=True)
class _Chords:
    """A ring as straight lines; points are complex, x + iy."""

    ends: np.ndarray
    """(chords + 1) where each begins; the last is the first again."""
    edges: np.ndarray
    """(edges) of the ring, from vertex to vertex..."""
    middles: np.ndarray
    """...where their middles are..."""
    owner: np.ndarray
    """...and the chord that stands for each."""

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Per chord: the mean of `values` (edges) along the ring."""
        lengths = abs(self.edges)
        return np.bincount(self.owner, lengths * values) / np.bincount(self.owner, lengths)


def _chords(ring: Any, tolerance: float) -> _Chords | None:
    """Douglas and Peucker's lines of a closed ring; None when fewer than three are left."""
    z = shapely.get_coordinates(ring)[:-1] @ np.array([1, 1j])
    z = np.roll(z, -np.argmax(abs(z - z.mean())))  # begin at a corner, not within a wall
    z = np.append(z, z[0])
    line = shapely.linestrings(z.real, z.imag)
    line = shapely.simplify(line, tolerance, preserve_topology=False)
    kept = shapely.get_coordinates(line) @ np.array([1, 1j])
    place = {vertex: i for i, vertex in enumerate(z[:-1].tolist())}
    at = np.array([*(place[vertex] for vertex in kept[:-1].tolist()), len(z) - 1])
    if len(at) < 4:
        return None
    edges, owner = np.diff(z), np.repeat(np.arange(len(at) - 1), np.diff(at))
    return _Chords(z[at], edges, z[:-1] + edges / 2, owner)


def _turns(chords: _Chords, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Per chord: 0 when it runs along `angle`, 1 across; how far from that it turns (radians)."""
    quarters = (np.angle(np.diff(chords.ends)) - angle) / (np.pi / 2)
    return np.round(quarters).astype(int) % 2, abs(quarters - np.round(quarters)) * np.pi / 2


def _direction(chords: _Chords) -> float:
    """The angle (radians) that fits all walls, those across turned by a right angle."""
    chord = np.diff(chords.ends)
    # Four times the angle is the same for all four directions of a rectangle's walls.
    angle = float(np.angle(np.sum(abs(chord) ** 2 * np.exp(4j * np.angle(chord)))) / 4)
    across, turn = _turns(chords, angle)
    wall = (turn <= _ASKEW)[chords.owner]
    if not wall.any():
        return angle
    centre = chords.mean(chords.middles.real) + 1j * chords.mean(chords.middles.imag)
    # The principal axis of points z about their mean is half the angle of the sum of z squared;
    # the points of an edge add its own square over twelve, those across turn by a right angle.
    away = chords.middles - centre[chords.owner]
    squares = abs(chords.edges) * (away**2 + chords.edges**2 / 12) * (-1) ** across[chords.owner]
    return float(np.angle(squares[wall].sum()) / 2)


def _squared(chords: _Chords, angle: float, step: float) -> np.ndarray | None:
    """Corners (n, 2) of the ring whose walls follow `angle`; None when no four walls are left."""
    back = np.exp(-1j * angle)
    across, turn = _turns(chords, angle)
    middles, ends = chords.middles * back, chords.ends * back
    places = np.where(across, chords.mean(middles.real), chords.mean(middles.imag))
    weights = abs(np.diff(ends))
    walls: list[tuple[int, float, float]] = []  # across, place, weight; taking turns
    kept = np.flatnonzero(turn <= _ASKEW).tolist()
    for k, following in zip(kept, kept[1:] + kept[:1], strict=True):
        walls.append((int(across[k]), float(places[k]), float(weights[k])))
        if across[k] == across[following]:  # a step leads from one to the other
            middle = (ends[k + 1] + ends[following]) / 2
            walls.append((1 - across[k], float(middle.imag if across[k] else middle.real), 0.0))
    while len(walls) > 4:
        at = np.array([place for _, place, _ in walls])
        lengths = abs(np.roll(at, -1) - np.roll(at, 1))
        shortest = int(lengths.argmin())
        if lengths[shortest] >= step:
            break
        _, after, *others, before = walls[shortest:] + walls[:shortest]
        walls = [*others, _one_wall(before, after)]
    if len(walls) < 4:
        return None
    pairs = zip(walls, walls[1:] + walls[:1], strict=True)
    corners = [complex(a[1], b[1]) if a[0] else complex(b[1], a[1]) for a, b in pairs]
    z = np.array(corners) / back
    return np.column_stack([z.real, z.imag])


def _one_wall(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[int, float, float]:
    """Two parallel walls in their weighted middle."""
    weight = a[2] + b[2]
    place = (a[1] * a[2] + b[1] * b[2]) / weight if weight else (a[1] + b[1]) / 2
    return a[0], place, weight
