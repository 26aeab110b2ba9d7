"""DisplacementField: by how much the labels of each class are shifted, position by position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from geopipe.grid import Window
from geopipe.progress import Advance, progress
from geopipe.register.correlation import CorrelationSurfaces, Correlator
from geopipe.register.grid import RegistrationGrid
from geopipe.register.likelihood import ClassLikelihood
from geopipe.register.peaks import SEARCH_RADIUS_M, tie_points_at
from geopipe.register.threads import in_order
from geopipe.register.tie_point import CHANCE, FEW, ODD, TiePoint

SPACING_M = 25.0
"""Between the tie points of the field."""
KERNEL_M = 15.0
"""Deviation of the weights of the tie points around a place between them."""
BLOCK_PX = 2048
"""Side, on the plane, of the part of a scene that is looked at at once."""
_NEIGHBOURS_M = 3.0
"""A tie point that differs by more from the median of those around it is not accepted."""
_ZERO_WEIGHT = 0.05
"""Weight of a shift of zero, so that the field fades out away from its tie points."""
_CHANCE_RADIUS_M = 125.0
_MAX_CHANCE_SHARE = 1 / 3
"""Of pure noise one estimate in ten passes all that is asked of a single one, and the field would
spread it over its neighbours. Where no more than this share within _ROUND_M passes, none counts."""
_AT_ONCE = 1 << 14
"""Places whose shifts are interpolated at a time (some 20 MB)."""


@dataclass(frozen=True)
class DisplacementField:
    """Nodes, and the smooth field between them."""

    grid: RegistrationGrid
    tie_points: tuple[TiePoint, ...]
    max_shift: float
    """Metres; no shift is longer."""

    @property
    def classes(self) -> set[int]:
        """Classes with tie points, accepted or not."""
        return {n.class_id for n in self.tie_points}

    def count(self, class_id: int) -> int:
        """Nodes of a class, accepted or not."""
        return sum(n.class_id == class_id for n in self.tie_points)

    def of_class(self, class_id: int) -> tuple[TiePoint, ...]:
        """The accepted tie points of a class."""
        return tuple(n for n in self.tie_points if n.class_id == class_id and not n.rejected)

    def at(self, positions: np.ndarray, class_id: int) -> np.ndarray:
        """Metres down and right (n, 2) to add to labels at `positions` (n, 2) row, column.

        A mean of the tie points around, by nearness and certainty, each shortened by what may be
        chance in it: a share of (error / length)^2. It fades to 0 where there are no tie points,
        and is 0 at places that are not finite.
        """
        tie_points = self.of_class(class_id)
        metres = np.zeros((len(positions), 2))
        if not tie_points:
            return metres
        tie_point_positions = np.array([(n.row, n.col) for n in tie_points]) * self.grid.gsd
        shifts = np.array([(n.down, n.right) for n in tie_points])
        errors = np.array([n.error for n in tie_points])
        chance = (errors / np.maximum(np.hypot(*shifts.T), 1e-9)) ** 2
        shifts *= np.maximum(0, 1 - chance)[:, None]
        precision = 1 / (errors**2 + 0.3**2)
        tree, finite = cKDTree(tie_point_positions), np.flatnonzero(np.isfinite(positions).all(1))
        for start in range(0, len(finite), _AT_ONCE):
            batch = finite[start : start + _AT_ONCE]
            distances, neighbours = tree.query(
                positions[batch] * self.grid.gsd, k=[*range(1, min(24, len(tie_points)) + 1)]
            )
            weights = (
                np.exp(-((distances / KERNEL_M) ** 2) / 2)
                * precision[neighbours]
                / precision.mean()
            )
            weighted = (weights[..., None] * shifts[neighbours]).sum(1)
            weighted /= (weights.sum(1) + _ZERO_WEIGHT)[:, None]
            length = np.maximum(np.hypot(*weighted.T), 1e-9)
            metres[batch] = weighted * np.minimum(1, self.max_shift / length)[:, None]
        return metres


def estimate_field(
    grid: RegistrationGrid, likelihood: ClassLikelihood, max_shift: float
) -> DisplacementField:
    """Find the shifts of up to `max_shift` metres, sheet by sheet."""
    with progress("aligning labels", len(blocks_of(grid))) as advance:
        return estimate(Correlator(grid, grid.px(max_shift)), likelihood, max_shift, advance)


def estimate(
    correlator: Correlator, likelihood: ClassLikelihood, max_shift: float, advance: Advance
) -> DisplacementField:
    """As `estimate_field`, with a correlator that may have served another likelihood before.

    Surfaces of up to three rows of sheets are kept: a tie point looks into the sheets around its
    own.
    """
    blocks = blocks_of(correlator.grid)
    rows, cols = (n + 1 for n in max(blocks))
    surfaces_by_sheet: dict[tuple[int, int], CorrelationSurfaces] = {}
    tie_points: list[TiePoint] = []
    results = in_order(lambda block: correlator.of(likelihood, block), [*blocks.values()])
    for (row, col), surfaces in zip(blocks, results, strict=True):
        surfaces_by_sheet[row, col] = surfaces
        advance()
        if col == cols - 1:
            complete = (row - 1, row) if row == rows - 1 else (row - 1,)
            for key in (a for a in blocks if a[0] in complete):
                tie_points += _tie_points(correlator, surfaces_by_sheet, key, blocks[key])
            surfaces_by_sheet = {
                key: s for key, s in surfaces_by_sheet.items() if key[0] >= row - 1
            }
    grid = correlator.grid
    return DisplacementField(grid, _checked(grid, tie_points), max_shift)


def blocks_of(grid: RegistrationGrid) -> dict[tuple[int, int], Window]:
    """The parts of a scene that are looked at one by one, by row and column."""
    rows, cols = (range(-(-n // BLOCK_PX)) for n in grid.shape)
    side = BLOCK_PX
    return {
        (row, col): Window(row * side, col * side, side, side).clip(grid.shape)
        for row in rows
        for col in cols
    }


def _tie_points(
    correlator: Correlator,
    surfaces_by_sheet: dict[tuple[int, int], CorrelationSurfaces],
    key: tuple[int, int],
    block: Window,
) -> list[TiePoint]:
    """The tie points of the sheet `key` (row, column), from its parts and those around it."""
    grid = correlator.grid
    search_window, step = block.expand(grid.px(SEARCH_RADIUS_M) + 1), grid.px(SPACING_M)
    neighbouring = [
        surfaces_by_sheet.get((key[0] + i, key[1] + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)
    ]
    surfaces = CorrelationSurfaces.joined(
        [s.inside(search_window) for s in neighbouring if s is not None]
    )
    rows, cols = (
        np.arange(-(-start // step) * step, stop, step)
        for start, stop in ((block.row, block.bottom), (block.col, block.right))
    )
    positions = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1).reshape(-1, 2)
    return tie_points_at(grid, surfaces, positions.astype(float), correlator.search_px)


def _checked(grid: RegistrationGrid, tie_points: Sequence[TiePoint]) -> tuple[TiePoint, ...]:
    """Reject tie points that differ much from the accepted ones around them, or have none."""
    out = list(tie_points)
    for class_id in {n.class_id for n in tie_points}:
        class_indices = [i for i, n in enumerate(tie_points) if n.class_id == class_id]
        consistent = _reject_outliers(grid, [out[i] for i in class_indices])
        for i, tie_point in zip(class_indices, _reject_by_chance(grid, consistent), strict=True):
            out[i] = tie_point
    return tuple(out)


def _reject_outliers(grid: RegistrationGrid, tie_points: Sequence[TiePoint]) -> list[TiePoint]:
    out, accepted = list(tie_points), [i for i, n in enumerate(tie_points) if not n.rejected]
    if not accepted:
        return out
    positions = _positions(grid, [tie_points[i] for i in accepted])
    shifts = np.array([(tie_points[i].down, tie_points[i].right) for i in accepted])
    counts, neighbours = _flattened(
        cKDTree(positions).query_ball_point(positions, 2.1 * SPACING_M, p=np.inf)
    )
    medians = np.column_stack([_medians(column[neighbours], counts) for column in shifts.T])
    is_outlier = (counts > 3) & (np.hypot(*(medians - shifts).T) > _NEIGHBOURS_M)
    for i in np.flatnonzero(is_outlier):
        out[accepted[i]] = replace(tie_points[accepted[i]], rejected=ODD)
    return out


def _reject_by_chance(grid: RegistrationGrid, tie_points: Sequence[TiePoint]) -> list[TiePoint]:
    out, candidates = list(tie_points), [i for i, n in enumerate(tie_points) if n.rejected != FEW]
    if not candidates:
        return out
    positions = _positions(grid, [tie_points[i] for i in candidates])
    accepted = np.array([not tie_points[i].rejected for i in candidates])
    counts, neighbours = _flattened(
        cKDTree(positions).query_ball_point(positions, _CHANCE_RADIUS_M)
    )
    shares = np.add.reduceat(accepted[neighbours], np.cumsum(counts) - counts, dtype=float) / counts
    for i in np.flatnonzero(accepted & (shares <= _MAX_CHANCE_SHARE)):
        out[candidates[i]] = replace(tie_points[candidates[i]], rejected=CHANCE)
    return out


def _flattened(neighbours: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """How many are near each place, and all of them in a row; each place is near itself."""
    return np.array([len(n) for n in neighbours]), np.concatenate(neighbours).astype(int)


def _medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of each group of `counts` (n,) of the `values`, which lie in a row."""
    ranked = values[np.lexsort((values, np.arange(len(counts)).repeat(counts)))]
    starts = np.cumsum(counts) - counts
    return np.asarray((ranked[starts + (counts - 1) // 2] + ranked[starts + counts // 2]) / 2)


def _positions(grid: RegistrationGrid, tie_points: Sequence[TiePoint]) -> np.ndarray:
    """(n, 2) metres down and right."""
    return np.array([(n.row, n.col) for n in tie_points]) * grid.gsd
