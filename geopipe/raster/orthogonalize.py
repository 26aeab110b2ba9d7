"""Orthogonalize building outlines: from the staircase of a raster to right angles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

_DETAIL_PX = 1.5
"""Vertices this near to a straight line are noise of the raster: half its diagonal either way."""
_STEP_PX = 2.0
"""The shortest wall of a squared outline."""
_ASKEW = np.radians(25)
"""A wall that turns more than this from both main directions runs askew: a cut corner."""
_MAX_ASKEW = 1 / 2
"""Share of the outline that may run askew."""
_ROUND_IOU = 0.94
"""From this intersection over union with the ellipse of its moments on an outline is round. That of
a square or a rectangle is 0.84."""
_MIN_IOU = 0.8
"""Intersection over union with the outline as traced."""


def orthogonalized(outline: Any, pixel: float, *, close_corners: bool = True) -> Any:
    """`outline` with walls in one direction and across it only, or itself where that is no fit.

    `outline`: a polygon traced from pixels of side `pixel`, in a plane of true angles and in the
    unit of `pixel`. The direction is the one its walls have on average (least squares); a wall
    lies in the middle of the pixel edges it replaces, so areas hardly change. Steps, bays and
    holes finer than two pixels go. The polygon itself is returned when it is round or oval, when
    half of its outline runs askew, when it is too small to have a direction, and when the result
    would be invalid or have an IoU below 0.8 with it. `close_corners`: where the outline runs askew
    the walls beside it meet in a corner; else it becomes a wall of the nearer direction, and the
    result stays nearer to the outline. Neighbours are not looked at: the result
    may overlap one, or leave a gap, where the two are within about two pixels of each other.
    """
    chords = _chords(outline.exterior, _DETAIL_PX * pixel)
    if chords is None or _is_round(outline.exterior):
        return outline
    angle = _direction(chords)
    length = abs(np.diff(chords.endpoints))
    if length[_orientation(chords, angle)[1] > _ASKEW].sum() > _MAX_ASKEW * length.sum():
        return outline
    interior_chords = [_chords(ring, _DETAIL_PX * pixel) for ring in outline.interiors]
    shell, *interiors = (
        _orthogonalize(c, angle, _STEP_PX * pixel, close_corners)
        for c in [chords, *interior_chords]
        if c
    )
    if shell is None:
        return outline
    squared = shapely.Polygon(shell, [ring for ring in interiors if ring is not None])
    if not squared.is_valid:
        return outline
    common = squared.intersection(outline).area
    iou = common / (squared.area + outline.area - common)
    return squared if iou >= _MIN_IOU else outline


def _is_round(ring: Any) -> bool:
    """Whether a ring is much like the ellipse that has its area's moments."""
    x, y = shapely.get_coordinates(ring).T
    x, y = x - x.mean(), y - y.mean()
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    area = cross.sum() / 2
    centre = [((q[:-1] + q[1:]) * cross).sum() / (6 * area) for q in (x, y)]
    xx, yy = (((q[:-1] ** 2 + q[:-1] * q[1:] + q[1:] ** 2) * cross).sum() / 12 for q in (x, y))
    xy = (x[:-1] * y[1:] + 2 * x[:-1] * y[:-1] + 2 * x[1:] * y[1:] + x[1:] * y[:-1]) @ cross / 24
    moments = np.array([[xx, xy], [xy, yy]]) / area - np.outer(centre, centre)
    # Of an ellipse of half axes a and b they are a^2 / 4 and b^2 / 4 along these axes.
    to_circle = np.linalg.inv(2 * np.linalg.cholesky(moments))
    shape = shapely.Polygon((np.column_stack([x, y]) - centre) @ to_circle.T)
    if not shape.is_valid:  # it touches itself
        return False
    common = shape.intersection(_CIRCLE).area
    return bool(common / (shape.area + _CIRCLE.area - common) >= _ROUND_IOU)


_CIRCLE = shapely.Point(0, 0).buffer(1, 16)


@dataclass(frozen=True, slots=True)
class _Chords:
    """A ring as straight lines; points are complex, x + iy."""

    endpoints: np.ndarray
    """(chords + 1) where each begins; the last is the first again."""
    edges: np.ndarray
    """(edges) of the ring, from vertex to vertex..."""
    midpoints: np.ndarray
    """...where their middles are..."""
    chord_index: np.ndarray
    """...and the chord that stands for each."""

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Per chord: the mean of `values` (edges) along the ring."""
        lengths = abs(self.edges)
        return np.bincount(self.chord_index, lengths * values) / np.bincount(
            self.chord_index, lengths
        )


def _chords(ring: Any, tolerance: float) -> _Chords | None:
    """Douglas and Peucker's lines of a closed ring; None when fewer than three are left."""
    z = shapely.get_coordinates(ring)[:-1] @ np.array([1, 1j])
    z = np.roll(z, -np.argmax(abs(z - z.mean())))  # begin at a corner, not within a wall
    z = np.append(z, z[0])
    line = shapely.linestrings(z.real, z.imag)
    line = shapely.simplify(line, tolerance, preserve_topology=False)
    simplified = shapely.get_coordinates(line) @ np.array([1, 1j])
    index_of = {vertex: i for i, vertex in enumerate(z[:-1].tolist())}
    indices = np.array([*(index_of[vertex] for vertex in simplified[:-1].tolist()), len(z) - 1])
    if len(indices) < 4:
        return None
    edges, chord_index = np.diff(z), np.repeat(np.arange(len(indices) - 1), np.diff(indices))
    return _Chords(z[indices], edges, z[:-1] + edges / 2, chord_index)


def _orientation(chords: _Chords, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Per chord: 0 when it runs along `angle`, 1 across; how far from that it turns (radians)."""
    quarter_turns = (np.angle(np.diff(chords.endpoints)) - angle) / (np.pi / 2)
    return np.round(quarter_turns).astype(int) % 2, abs(
        quarter_turns - np.round(quarter_turns)
    ) * np.pi / 2


def _direction(chords: _Chords) -> float:
    """The angle (radians) that fits all walls, those across turned by a right angle."""
    directions = np.diff(chords.endpoints)
    # Four times the angle is the same for all four directions of a rectangle's walls.
    angle = float(np.angle(np.sum(abs(directions) ** 2 * np.exp(4j * np.angle(directions)))) / 4)
    is_across, deviation = _orientation(chords, angle)
    is_wall = (deviation <= _ASKEW)[chords.chord_index]
    if not is_wall.any():
        return angle
    centre = chords.mean(chords.midpoints.real) + 1j * chords.mean(chords.midpoints.imag)
    # The principal axis of points z about their mean is half the angle of the sum of z squared;
    # the points of an edge add its own square over twelve, those across turn by a right angle.
    offsets = chords.midpoints - centre[chords.chord_index]
    moments = (
        abs(chords.edges)
        * (offsets**2 + chords.edges**2 / 12)
        * (-1) ** is_across[chords.chord_index]
    )
    return float(np.angle(moments[is_wall].sum()) / 2)


def _orthogonalize(
    chords: _Chords, angle: float, step: float, close_corners: bool
) -> np.ndarray | None:
    """Corners (n, 2) of the ring whose walls follow `angle`; None when no four walls are left."""
    rotation = np.exp(-1j * angle)
    is_across, deviation = _orientation(chords, angle)
    midpoints, endpoints = chords.midpoints * rotation, chords.endpoints * rotation
    positions = np.where(is_across, chords.mean(midpoints.real), chords.mean(midpoints.imag))
    weights = abs(np.diff(endpoints))
    walls: list[tuple[int, float, float]] = []  # across, place, weight; taking turns
    is_wall = (deviation <= _ASKEW) | (not close_corners)
    wall_indices = np.flatnonzero(is_wall).tolist()
    for k, next_index in zip(wall_indices, wall_indices[1:] + wall_indices[:1], strict=True):
        walls.append((int(is_across[k]), float(positions[k]), float(weights[k])))
        if is_across[k] == is_across[next_index]:  # a step leads from one to the other
            midpoint = (endpoints[k + 1] + endpoints[next_index]) / 2
            walls.append(
                (1 - is_across[k], float(midpoint.imag if is_across[k] else midpoint.real), 0.0)
            )
    while len(walls) > 4:
        wall_positions = np.array([position for _, position, _ in walls])
        lengths = abs(np.roll(wall_positions, -1) - np.roll(wall_positions, 1))
        shortest = int(lengths.argmin())
        if lengths[shortest] >= step:
            break
        _, after, *others, before = walls[shortest:] + walls[:shortest]
        walls = [*others, _merged_wall(before, after)]
    if len(walls) < 4:
        return None
    pairs = zip(walls, walls[1:] + walls[:1], strict=True)
    corners = [complex(a[1], b[1]) if a[0] else complex(b[1], a[1]) for a, b in pairs]
    z = np.array(corners) / rotation
    return np.column_stack([z.real, z.imag])


def _merged_wall(
    a: tuple[int, float, float], b: tuple[int, float, float]
) -> tuple[int, float, float]:
    """Two parallel walls in their weighted middle."""
    weight = a[2] + b[2]
    position = (a[1] * a[2] + b[1] * b[2]) / weight if weight else (a[1] + b[1]) / 2
    return a[0], position, weight
