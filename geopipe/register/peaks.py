"""Tie points: peaks of sums of correlation surfaces."""

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from geopipe.register.correlation import CorrelationSurfaces
from geopipe.register.grid import RegistrationGrid
from geopipe.register.tie_point import EDGE, FEW, FLAT, TORN, TiePoint

SCALES_M = (25.0, 50.0, 100.0, 150.0)
"""Deviations of the weights around a tie point; the next larger one where evidence is weak.

In dense towns 25 m hold enough buildings, and fields that turn within 100 m are still followed."""
_SIGHT = 2.5
"""Deviations beyond which a part has no weight."""
SIGHT_M = _SIGHT * max(SCALES_M)
LEAST_PARTS = 4.0
"""Sum of weights below which nothing is said."""
LEAST_HEIGHT = 1.7
"""Deviations that a peak stands above its surface."""
MOST_ERROR_M = 1.5
LIKELIHOOD_SHARE = 0.75
"""Weight of the likelihood against the edges. A likelihood learnt from shifted labels is shifted
itself by about their mean, but broad; edges are exact, but there are many. Their sum has the best
of both."""
_AT_ONCE = 256
"""Nodes whose surfaces are summed at a time (some 20 MB at 33 x 33 displacements)."""


def tie_points_at(
    plane: RegistrationGrid, found: CorrelationSurfaces, places: np.ndarray, reach: int
) -> list[TiePoint]:
    """A tie point for each class at each of `places` (n, 2) that has a part of it near."""
    tie_points: list[TiePoint] = []
    for class_id in np.unique(found.classes):
        part = found.chosen(found.classes == class_id)
        near = cKDTree(part.at).query_ball_point(
            places, plane.px(2 * SCALES_M[1]), return_length=True
        )
        tie_points += _estimates(plane, part, places[near > 0], int(class_id), reach)
    return tie_points


def _estimates(
    plane: RegistrationGrid,
    found: CorrelationSurfaces,
    places: np.ndarray,
    class_id: int,
    reach: int,
) -> list[TiePoint]:
    """The shift at each of `places` from the parts `found` around it, all of one class."""
    tie_points = [
        TiePoint(r, c, class_id, 0.0, 0.0, np.inf, 0.0, 0.0, FEW) for r, c in places.tolist()
    ]
    kinds = [s.reshape(len(s), -1).astype(np.float32) for s in (found.edges, found.likelihood)]
    tree = cKDTree(found.at * plane.gsd)
    for scale in SCALES_M:
        refused = np.array([i for i, n in enumerate(tie_points) if n.rejected], int)
        for start in range(0, len(refused), _AT_ONCE):
            which = refused[start : start + _AT_ONCE]
            weights = _weights(tree, places[which] * plane.gsd, scale)
            enough = weights.sum(1) >= LEAST_PARTS
            which, weights = which[enough], weights[enough]
            if len(which):
                peaks = _peaks(kinds, weights, reach, plane.gsd)
                for i, peak in zip(which, peaks, strict=True):
                    tie_points[i] = TiePoint(tie_points[i].row, tie_points[i].col, class_id, *peak)
    return tie_points


def _weights(tree: cKDTree, metres: np.ndarray, scale: float) -> sparse.csr_array:
    """(n, parts) weights of the parts in `tree` by their distance from each place (n, 2)."""
    near = tree.query_ball_point(metres, _SIGHT * scale, return_sorted=True)
    counts = [len(n) for n in near]
    parts = np.concatenate([np.empty(0), *near]).astype(int)
    far = np.hypot(*(tree.data[parts] - metres.repeat(counts, 0)).T)
    weights = np.exp(-((far / scale) ** 2) / 2).astype(np.float32)
    return sparse.csr_array((weights, parts, np.cumsum([0, *counts])), (len(near), tree.n))


def _peaks(
    kinds: list[np.ndarray], weights: sparse.csr_array, reach: int, gsd: float
) -> list[tuple[float, float, float, float, float, str]]:
    """What a Node says from `down` on, for each row of `weights`."""
    turn = np.arange(weights.nnz) - weights.indptr[:-1].repeat(np.diff(weights.indptr))
    parts = []
    for half in (0, 1):
        chosen = weights.copy()
        chosen.data[turn % 2 != half] = 0
        parts.append([chosen @ kind for kind in kinds])
    a, b = (_summed(*half) for half in parts)
    whole = _summed(*(x + y for x, y in zip(*parts, strict=True)))
    at, inside = peaks_of(whole.reshape(-1, 2 * reach + 1, 2 * reach + 1))
    at_a, at_b = (peaks_of(half.reshape(-1, 2 * reach + 1, 2 * reach + 1))[0] for half in (a, b))
    errors = np.hypot(*(at_a - at_b).T) / 2 * gsd
    heights = (whole.max(1) - whole.mean(1)) / (whole.std(1) + 1e-9)
    reasons = np.select(
        [~inside, heights < LEAST_HEIGHT, errors > MOST_ERROR_M], [EDGE, FLAT, TORN], ""
    )
    moves = (at - reach) * gsd
    columns = (*moves.T, errors, heights, weights.sum(1), reasons)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def _summed(edges: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    """Both kinds of evidence (n, k), each in its deviations, as one."""
    a, b = (s / (s.std(1, keepdims=True) + 1e-9) for s in (edges, likelihood))
    return np.asarray((1 - LIKELIHOOD_SHARE) * a + LIKELIHOOD_SHARE * b)


def peaks_of(surfaces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (n, 2) of the maxima of `surfaces` (n, h, w), and whether they lie inside.

    Inside, to a fraction of a pixel: by a parabola through the maximum and its neighbours along
    each axis.
    """
    n, height, width = surfaces.shape
    rows, cols = np.divmod(surfaces.reshape(n, -1).argmax(1), width)
    inside = (rows > 0) & (rows < height - 1) & (cols > 0) & (cols < width - 1)
    at = np.column_stack([rows, cols]).astype(float)
    i, r, c = np.flatnonzero(inside), rows[inside], cols[inside]
    top = surfaces[i, r, c]
    at[i, 0] += _vertices(surfaces[i, r - 1, c], top, surfaces[i, r + 1, c])
    at[i, 1] += _vertices(surfaces[i, r, c - 1], top, surfaces[i, r, c + 1])
    return at, inside


def _vertices(before: np.ndarray, top: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where parabolas through three values have their tops, from the middle one; 0: nowhere."""
    bend = before - 2 * top + after
    return np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0)
