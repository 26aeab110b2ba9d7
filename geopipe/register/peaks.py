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
_RADIUS_SCALES = 2.5
"""Deviations beyond which a part has no weight."""
SEARCH_RADIUS_M = _RADIUS_SCALES * max(SCALES_M)
MIN_PARTS = 4.0
"""Sum of weights below which nothing is said."""
MIN_HEIGHT = 1.7
"""Deviations that a peak stands above its surface."""
MAX_ERROR_M = 1.5
LIKELIHOOD_SHARE = 0.75
"""Weight of the likelihood against the edges. A likelihood learnt from shifted labels is shifted
itself by about their mean, but broad; edges are exact, but there are many. Their sum has the best
of both."""
_AT_ONCE = 256
"""Nodes whose surfaces are summed at a time (some 20 MB at 33 x 33 displacements)."""


def tie_points_at(
    grid: RegistrationGrid, surfaces: CorrelationSurfaces, positions: np.ndarray, search_px: int
) -> list[TiePoint]:
    """A tie point for each class at each of `positions` (n, 2) that has a part of it near."""
    tie_points: list[TiePoint] = []
    for class_id in np.unique(surfaces.classes):
        part = surfaces.subset(surfaces.classes == class_id)
        part_counts = cKDTree(part.positions).query_ball_point(
            positions, grid.px(2 * SCALES_M[1]), return_length=True
        )
        tie_points += _estimates(grid, part, positions[part_counts > 0], int(class_id), search_px)
    return tie_points


def _estimates(
    grid: RegistrationGrid,
    surfaces: CorrelationSurfaces,
    positions: np.ndarray,
    class_id: int,
    search_px: int,
) -> list[TiePoint]:
    """The shift at each of `positions` from the parts `surfaces` around it, all of one class."""
    tie_points = [
        TiePoint(r, c, class_id, 0.0, 0.0, np.inf, 0.0, 0.0, FEW) for r, c in positions.tolist()
    ]
    kinds = [
        s.reshape(len(s), -1).astype(np.float32) for s in (surfaces.edges, surfaces.likelihood)
    ]
    tree = cKDTree(surfaces.positions * grid.gsd)
    for scale in SCALES_M:
        refused = np.array([i for i, n in enumerate(tie_points) if n.rejected], int)
        for start in range(0, len(refused), _AT_ONCE):
            batch = refused[start : start + _AT_ONCE]
            weights = _weights(tree, positions[batch] * grid.gsd, scale)
            enough = weights.sum(1) >= MIN_PARTS
            batch, weights = batch[enough], weights[enough]
            if len(batch):
                peaks = _peaks(kinds, weights, search_px, grid.gsd)
                for i, peak in zip(batch, peaks, strict=True):
                    tie_points[i] = TiePoint(tie_points[i].row, tie_points[i].col, class_id, *peak)
    return tie_points


def _weights(tree: cKDTree, metres: np.ndarray, scale: float) -> sparse.csr_array:
    """(n, parts) weights of the parts in `tree` by their distance from each place (n, 2)."""
    neighbours = tree.query_ball_point(metres, _RADIUS_SCALES * scale, return_sorted=True)
    counts = [len(n) for n in neighbours]
    parts = np.concatenate([np.empty(0), *neighbours]).astype(int)
    distances = np.hypot(*(tree.data[parts] - metres.repeat(counts, 0)).T)
    weights = np.exp(-((distances / scale) ** 2) / 2).astype(np.float32)
    return sparse.csr_array((weights, parts, np.cumsum([0, *counts])), (len(neighbours), tree.n))


def _peaks(
    kinds: list[np.ndarray], weights: sparse.csr_array, search_px: int, gsd: float
) -> list[tuple[float, float, float, float, float, str]]:
    """What a Node says from `down` on, for each row of `weights`."""
    rank_in_row = np.arange(weights.nnz) - weights.indptr[:-1].repeat(np.diff(weights.indptr))
    parts = []
    for half in (0, 1):
        half_weights = weights.copy()
        half_weights.data[rank_in_row % 2 != half] = 0
        parts.append([half_weights @ kind for kind in kinds])
    a, b = (_summed(*half) for half in parts)
    total = _summed(*(x + y for x, y in zip(*parts, strict=True)))
    positions, inside = peaks_of(total.reshape(-1, 2 * search_px + 1, 2 * search_px + 1))
    at_a, at_b = (
        peaks_of(half.reshape(-1, 2 * search_px + 1, 2 * search_px + 1))[0] for half in (a, b)
    )
    errors = np.hypot(*(at_a - at_b).T) / 2 * gsd
    heights = (total.max(1) - total.mean(1)) / (total.std(1) + 1e-9)
    reasons = np.select(
        [~inside, heights < MIN_HEIGHT, errors > MAX_ERROR_M], [EDGE, FLAT, TORN], ""
    )
    shifts = (positions - search_px) * gsd
    columns = (*shifts.T, errors, heights, weights.sum(1), reasons)
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
    positions = np.column_stack([rows, cols]).astype(float)
    i, r, c = np.flatnonzero(inside), rows[inside], cols[inside]
    top = surfaces[i, r, c]
    positions[i, 0] += _vertices(surfaces[i, r - 1, c], top, surfaces[i, r + 1, c])
    positions[i, 1] += _vertices(surfaces[i, r, c - 1], top, surfaces[i, r, c + 1])
    return positions, inside


def _vertices(before: np.ndarray, top: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where parabolas through three values have their tops, from the middle one; 0: nowhere."""
    bend = before - 2 * top + after
    return np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0)
