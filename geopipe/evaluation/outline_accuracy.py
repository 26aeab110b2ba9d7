"""How near mapped outlines lie to true ones, and how squared they are."""

import math

import numpy as np
import shapely

BOUNDARY_M = 1.0
"""How far off a boundary still counts as right."""
_STEP_M = 0.5
"""Boundaries are compared at points this far apart."""
_RIGHT_DEGREES = 5.0
"""Off 90 degrees, inwards or outwards, up to which a corner is a right angle."""
_ON_A_WALL_M = 1e-3
"""A vertex this near to the line between its neighbours is no corner."""


def corners(polygons: np.ndarray) -> np.ndarray:
    """`polygons` (n,) without the vertices that lie on a wall."""
    return np.asarray(shapely.simplify(polygons, _ON_A_WALL_M))


def count_corners(polygons: np.ndarray) -> np.ndarray:
    """(n,) corners of each polygon: the last vertex of a ring is its first."""
    plain = corners(polygons)
    return np.asarray(
        shapely.get_num_coordinates(plain) - shapely.get_num_interior_rings(plain) - 1
    )


def polis(mapped: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n,) the PoLiS distance of each pair of polygons, in the unit of their plane.

    The mean distance from the corners of one to the boundary of the other, courtyards included,
    and the other way round; then the mean of both (Avbelj et al. 2015).
    """
    return np.asarray((_to_boundary(mapped, truth) + _to_boundary(truth, mapped)) / 2)


def _to_boundary(polygons: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) mean distance from the corners of each of `polygons` to the boundary of its other."""
    xy, owner = _vertices(polygons)
    distances = shapely.distance(shapely.points(xy), shapely.boundary(others)[owner])
    number = np.bincount(owner, minlength=len(polygons))
    return np.asarray(np.bincount(owner, distances, len(polygons)) / number)


def _vertices(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, 2) corners, each once, and (m,) the polygon of each."""
    rings, polygon = shapely.get_rings(corners(polygons), return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    first = np.diff(ring, prepend=-1) > 0
    return xy[~first], np.asarray(polygon)[ring[~first]]


def right_angle_share(polygons: np.ndarray) -> float:
    """Share of the corners of all `polygons` that are right angles; NaN without corners."""
    rings = shapely.get_rings(corners(polygons))
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    if not len(xy):
        return math.nan
    is_last = np.diff(ring, append=ring[-1] + 1) > 0
    walls = np.diff(xy, axis=0)[~is_last[:-1]]  # from each corner to the next
    ring = ring[~is_last]
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    before = np.arange(len(ring)) - 1
    before[starts] = np.append(starts[1:], len(ring)) - 1
    into = walls[before]
    lengths = np.hypot(*walls.T) * np.hypot(*into.T)
    cosine = np.einsum("ij,ij->i", walls, into) / lengths
    return float((np.abs(cosine) <= math.sin(math.radians(_RIGHT_DEGREES))).mean())


def boundary_f1(mapped: np.ndarray, truth: np.ndarray, distance: float = BOUNDARY_M) -> float:
    """F1 of the boundaries of all polygons: what lies within `distance` of the other is right.

    Precision is the share of the mapped length, recall that of the true one; NaN without either.
    """
    shares = _near(mapped, truth, distance), _near(truth, mapped, distance)
    total = sum(shares)
    return 2 * math.prod(shares) / total if total else total


def _near(polygons: np.ndarray, others: np.ndarray, distance: float) -> float:
    """Share of the length of all boundaries within `distance` of the boundaries of `others`."""
    lines = shapely.boundary(polygons)
    lengths = shapely.length(lines)
    if not lengths.sum():
        return math.nan if not len(others) else 0.0
    if not len(others):
        return 0.0
    tree = shapely.STRtree(shapely.get_rings(others))
    near = 0.0
    for line, length in zip(lines, lengths, strict=True):
        count = max(math.ceil(length / _STEP_M), 1)
        middles = (np.arange(count) + 0.5) * (length / count)
        points = shapely.line_interpolate_point(line, middles)
        hits, _ = tree.query(points, predicate="dwithin", distance=distance)
        near += len(np.unique(hits)) * length / count
    return float(near / lengths.sum())
