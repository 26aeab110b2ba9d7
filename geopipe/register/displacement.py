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
from geopipe.register.peaks import SIGHT_M, tie_points_at
from geopipe.register.threads import in_order
from geopipe.register.tie_point import CHANCE, FEW, ODD, TiePoint

SPACING_M = 25.0
"""Between the tie points of the field."""
BETWEEN_M = 15.0
"""Deviation of the weights of the tie points around a place between them."""
SHEET_PX = 2048
"""Side, on the plane, of the part of a scene that is looked at at once."""
_NEIGHBOURS_M = 3.0
"""A tie point that differs by more from the median of those around it is not believed."""
_NOTHING = 0.05
"""Weight of a shift of zero, so that the field fades out away from its tie points."""
_ROUND_M = 125.0
_CHANCE = 1 / 3
"""Of pure noise one estimate in ten passes all that is asked of a single one, and the field would
spread it over its neighbours. Where no more than this share within _ROUND_M passes, none counts."""
_AT_ONCE = 1 << 14
"""Places whose shifts are interpolated at a time (some 20 MB)."""


@dataclass(frozen=True)
class DisplacementField:
    """Nodes, and the smooth field between them."""

    plane: RegistrationGrid
    tie_points: tuple[TiePoint, ...]
    most: float
    """Metres; no shift is longer."""

    @property
    def classes(self) -> set[int]:
        """Classes with tie points, believed or not."""
        return {n.class_id for n in self.tie_points}

    def count(self, class_id: int) -> int:
        """Nodes of a class, believed or not."""
        return sum(n.class_id == class_id for n in self.tie_points)

    def of_class(self, class_id: int) -> tuple[TiePoint, ...]:
        """The believed tie points of a class."""
        return tuple(n for n in self.tie_points if n.class_id == class_id and not n.rejected)

    def at(self, places: np.ndarray, class_id: int) -> np.ndarray:
        """Metres down and right (n, 2) to add to labels at `places` (n, 2) row, column.

        A mean of the tie points around, by nearness and certainty, each shortened by what may be
        chance in it: a share of (error / length)^2. It fades to 0 where there are no tie points,
        and is 0 at places that are not finite.
        """
        tie_points = self.of_class(class_id)
        metres = np.zeros((len(places), 2))
        if not tie_points:
            return metres
        where = np.array([(n.row, n.col) for n in tie_points]) * self.plane.gsd
        moves = np.array([(n.down, n.right) for n in tie_points])
        errors = np.array([n.error for n in tie_points])
        chance = (errors / np.maximum(np.hypot(*moves.T), 1e-9)) ** 2
        moves *= np.maximum(0, 1 - chance)[:, None]
        sure = 1 / (errors**2 + 0.3**2)
        tree, known = cKDTree(where), np.flatnonzero(np.isfinite(places).all(1))
        for start in range(0, len(known), _AT_ONCE):
            at = known[start : start + _AT_ONCE]
            far, which = tree.query(
                places[at] * self.plane.gsd, k=[*range(1, min(24, len(tie_points)) + 1)]
            )
            weights = np.exp(-((far / BETWEEN_M) ** 2) / 2) * sure[which] / sure.mean()
            moved = (weights[..., None] * moves[which]).sum(1)
            moved /= (weights.sum(1) + _NOTHING)[:, None]
            length = np.maximum(np.hypot(*moved.T), 1e-9)
            metres[at] = moved * np.minimum(1, self.most / length)[:, None]
        return metres


def estimate_field(
    plane: RegistrationGrid, likelihood: ClassLikelihood, most: float
) -> DisplacementField:
    """Find the shifts of up to `most` metres, sheet by sheet."""
    with progress("aligning labels", len(sheets_of(plane))) as advance:
        return estimate(Correlator(plane, plane.px(most)), likelihood, most, advance)


def estimate(
    agreement: Correlator, likelihood: ClassLikelihood, most: float, advance: Advance
) -> DisplacementField:
    """As `estimate_field`, with a correlator that may have served another likelihood before.

    Surfaces of up to three rows of sheets are kept: a tie point looks into the sheets around its
    own.
    """
    sheets = sheets_of(agreement.plane)
    rows, cols = (n + 1 for n in max(sheets))
    kept: dict[tuple[int, int], CorrelationSurfaces] = {}
    tie_points: list[TiePoint] = []
    found = in_order(lambda sheet: agreement.of(likelihood, sheet), [*sheets.values()])
    for (row, col), surfaces in zip(sheets, found, strict=True):
        kept[row, col] = surfaces
        advance()
        if col == cols - 1:
            complete = (row - 1, row) if row == rows - 1 else (row - 1,)
            for at in (a for a in sheets if a[0] in complete):
                tie_points += _tie_points(agreement, kept, at, sheets[at])
            kept = {at: s for at, s in kept.items() if at[0] >= row - 1}
    plane = agreement.plane
    return DisplacementField(plane, _checked(plane, tie_points), most)


def sheets_of(plane: RegistrationGrid) -> dict[tuple[int, int], Window]:
    """The parts of a scene that are looked at one by one, by row and column."""
    rows, cols = (range(-(-n // SHEET_PX)) for n in plane.shape)
    side = SHEET_PX
    return {
        (row, col): Window(row * side, col * side, side, side).clip(plane.shape)
        for row in rows
        for col in cols
    }


def _tie_points(
    agreement: Correlator,
    kept: dict[tuple[int, int], CorrelationSurfaces],
    at: tuple[int, int],
    sheet: Window,
) -> list[TiePoint]:
    """The tie points of the sheet `at` row, column, from its parts and those around it."""
    plane = agreement.plane
    seen, step = sheet.expand(plane.px(SIGHT_M) + 1), plane.px(SPACING_M)
    around = [kept.get((at[0] + i, at[1] + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    found = CorrelationSurfaces.joined([s.inside(seen) for s in around if s is not None])
    rows, cols = (
        np.arange(-(-start // step) * step, stop, step)
        for start, stop in ((sheet.row, sheet.bottom), (sheet.col, sheet.right))
    )
    places = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1).reshape(-1, 2)
    return tie_points_at(plane, found, places.astype(float), agreement.search_px)


def _checked(plane: RegistrationGrid, tie_points: Sequence[TiePoint]) -> tuple[TiePoint, ...]:
    """Refuse tie points that differ much from the accepted ones around them, or have none."""
    out = list(tie_points)
    for class_id in {n.class_id for n in tie_points}:
        mine = [i for i, n in enumerate(tie_points) if n.class_id == class_id]
        passed = _refuse_odd(plane, [out[i] for i in mine])
        for i, tie_point in zip(mine, _refuse_chance(plane, passed), strict=True):
            out[i] = tie_point
    return tuple(out)


def _refuse_odd(plane: RegistrationGrid, tie_points: Sequence[TiePoint]) -> list[TiePoint]:
    out, believed = list(tie_points), [i for i, n in enumerate(tie_points) if not n.rejected]
    if not believed:
        return out
    at = _places(plane, [tie_points[i] for i in believed])
    moves = np.array([(tie_points[i].down, tie_points[i].right) for i in believed])
    counts, near = _flat(cKDTree(at).query_ball_point(at, 2.1 * SPACING_M, p=np.inf))
    medians = np.column_stack([_medians(column[near], counts) for column in moves.T])
    odd = (counts > 3) & (np.hypot(*(medians - moves).T) > _NEIGHBOURS_M)
    for i in np.flatnonzero(odd):
        out[believed[i]] = replace(tie_points[believed[i]], rejected=ODD)
    return out


def _refuse_chance(plane: RegistrationGrid, tie_points: Sequence[TiePoint]) -> list[TiePoint]:
    out, judged = list(tie_points), [i for i, n in enumerate(tie_points) if n.rejected != FEW]
    if not judged:
        return out
    at = _places(plane, [tie_points[i] for i in judged])
    passed = np.array([not tie_points[i].rejected for i in judged])
    counts, near = _flat(cKDTree(at).query_ball_point(at, _ROUND_M))
    shares = np.add.reduceat(passed[near], np.cumsum(counts) - counts, dtype=float) / counts
    for i in np.flatnonzero(passed & (shares <= _CHANCE)):
        out[judged[i]] = replace(tie_points[judged[i]], rejected=CHANCE)
    return out


def _flat(near: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """How many are near each place, and all of them in a row; each place is near itself."""
    return np.array([len(n) for n in near]), np.concatenate(near).astype(int)


def _medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of each group of `counts` (n,) of the `values`, which lie in a row."""
    ranked = values[np.lexsort((values, np.arange(len(counts)).repeat(counts)))]
    starts = np.cumsum(counts) - counts
    return np.asarray((ranked[starts + (counts - 1) // 2] + ranked[starts + counts // 2]) / 2)


def _places(plane: RegistrationGrid, tie_points: Sequence[TiePoint]) -> np.ndarray:
    """(n, 2) metres down and right."""
    return np.array([(n.row, n.col) for n in tie_points]) * plane.gsd
