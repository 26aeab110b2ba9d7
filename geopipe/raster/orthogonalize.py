"""Orthogonalize building outlines: from the staircase of a raster to right angles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

SQUARED = "building"
"""The class whose outlines `orthogonalize` squares."""

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


def orthogonalized(outline: Any, pixel: float) -> Any:
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
    shell, *rest = (_orthogonalize(c, angle, _STEP_PX * pixel) for c in [chords, *holes] if c)
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


def _orthogonalize(chords: _Chords, angle: float, step: float) -> np.ndarray | None:
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
