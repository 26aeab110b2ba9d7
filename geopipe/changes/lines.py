"""Compare road lines piece by piece: what a line has beside it on the other side, and how far."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from shapely.ops import substring

from geopipe.changes.matching import AGREE, MOVED

ABSENT = ""
"""Status of a piece that nothing on the other side belongs to."""
_STEP_M = 2.0
"""Lines are compared at points this far apart."""
_MAX_ANGLE = np.radians(35)
"""A line of another direction is a side road, not the same one."""


@dataclass(frozen=True, slots=True)
class LineOptions:
    """When two stretches of road are the same one; metres on the ground."""

    buffer: float = 4.0
    """Up to this distance they agree..."""
    max_move: float = 12.0
    """...and up to this one the road is misplaced."""
    min_length: float = 20.0
    """Shorter stretches take the status of what is beside them on their line."""


@dataclass(frozen=True, eq=False)
class Stretches:
    """Lines cut where their status changes."""

    line: np.ndarray
    """(k,) index of the line that each is a part of."""
    shapes: np.ndarray
    """(k,) LineStrings."""
    status: np.ndarray
    """(k,) `AGREE`, `MOVED` or `ABSENT`."""
    distance: np.ndarray
    """(k,) mean metres to the other side's line; NaN where there is none in reach."""


def cut_lines(
    lines: np.ndarray, others: np.ndarray, options: LineOptions | None = None
) -> Stretches:
    """Cut `lines` (n,) LineStrings by what of `others` (m,) runs beside them, in one plane."""
    options = options or LineOptions()
    index: list[int] = []
    shapes: list[Any] = []
    status: list[str] = []
    distance: list[float] = []
    segments = _segments(others)
    tree = shapely.STRtree(segments)
    bearings = _bearings(segments)
    for number, line in enumerate(lines):
        count = max(1, round(line.length / _STEP_M))
        step = line.length / count
        metres = _beside(line, count, step, segments, tree, bearings, options.max_move)
        kinds = np.where(metres <= options.buffer, 0, np.where(np.isfinite(metres), 1, 2))
        kinds = _without_short_runs(kinds, max(1, round(options.min_length / step)))
        edges = np.r_[0, np.flatnonzero(np.diff(kinds)) + 1, count]
        for start, stop in pairwise(edges.tolist()):
            part = metres[start:stop]
            near = part[np.isfinite(part)]
            index.append(number)
            shapes.append(substring(line, start * step, stop * step))
            status.append((AGREE, MOVED, ABSENT)[kinds[start]])
            distance.append(float(near.mean()) if len(near) else np.nan)
    return Stretches(
        np.array(index, int),
        np.array(shapes, object),
        np.array(status, object),
        np.array(distance, float),
    )


def _segments(lines: np.ndarray) -> np.ndarray:
    """The straight parts of all lines."""
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    same = owner[1:] == owner[:-1]
    pairs = np.stack([xy[:-1], xy[1:]], axis=1)[same]
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]).any(axis=1)]
    return np.asarray(shapely.linestrings(pairs), object) if len(pairs) else np.empty(0, object)


def _bearings(segments: np.ndarray) -> np.ndarray:
    """Direction of each in 0..pi."""
    ends = shapely.get_coordinates(segments).reshape(-1, 2, 2)
    dx, dy = (ends[:, 1] - ends[:, 0]).T
    return np.asarray(np.arctan2(dy, dx) % np.pi)


def _beside(
    line: shapely.LineString,
    count: int,
    step: float,
    segments: np.ndarray,
    tree: shapely.STRtree,
    bearings: np.ndarray,
    reach: float,
) -> np.ndarray:
    """Metres (count,) from the middle of each step to the nearest segment that runs along it."""
    result = np.full(count, np.inf)
    if not len(segments):
        return result
    points = shapely.line_interpolate_point(line, (np.arange(count) + 0.5) * step)
    ends = shapely.line_interpolate_point(line, np.arange(count + 1) * step)
    dx, dy = np.diff(shapely.get_coordinates(ends), axis=0).T
    own = np.arctan2(dy, dx) % np.pi
    i, k = tree.query(points, predicate="dwithin", distance=reach)
    turn = np.abs(own[i] - bearings[k])
    along = np.minimum(turn, np.pi - turn) <= _MAX_ANGLE
    i, k = i[along], k[along]
    np.minimum.at(result, i, shapely.distance(points[i], segments[k]))
    return result


def _without_short_runs(kinds: np.ndarray, shortest: int) -> np.ndarray:
    """`kinds` (n,) in which runs of fewer than `shortest` steps have the kind of a neighbour.

    The shortest run goes first; the longer neighbour takes it.
    """
    kinds = kinds.copy()
    while True:
        edges = np.r_[0, np.flatnonzero(np.diff(kinds)) + 1, len(kinds)]
        lengths = np.diff(edges)
        if len(lengths) == 1 or lengths.min() >= shortest:
            return kinds
        k = int(lengths.argmin())
        before = lengths[k - 1] if k else -1
        after = lengths[k + 1] if k + 1 < len(lengths) else -1
        source = edges[k] - 1 if before >= after else edges[k + 1]
        kinds[edges[k] : edges[k + 1]] = kinds[source]
