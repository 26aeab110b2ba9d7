"""ShiftField: by how much labels of each class are off, place by place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from geopipe.grid import Window
from geopipe.progress import progress
from geopipe.register.belief import Belief
from geopipe.register.plane import Plane
from geopipe.register.surfaces import Surfaces, agreement

SPACING_M = 25.0
"""Between the nodes of the field."""
BETWEEN_M = 15.0
"""Deviation of the weights of the nodes around a place between them."""
SCALES_M = (25.0, 50.0, 100.0, 150.0)
"""Deviation of the weights around a node; the next larger one where evidence is weak.

In dense towns 25 m hold enough buildings, and fields that turn within 100 m are still followed."""
_SIGHT = 2.5
"""Deviations beyond which a piece has no weight."""
SHEET_PX = 2048
"""Side, on the plane, of the part of a scene that is looked at at once."""
LEAST_PIECES = 4.0
"""Sum of weights below which nothing is said."""
LEAST_HEIGHT = 1.7
"""Deviations that a peak stands above its surface."""
MOST_ERROR_M = 1.5
_NEIGHBOURS_M = 3.0
"""A node that differs by more from the median of those around it is not believed."""
_NOTHING = 0.05
"""Weight of a shift of zero, so that the field fades out away from its nodes."""
_ROUND_M = 125.0
_CHANCE = 1 / 3
"""Of pure noise one estimate in ten passes all that is asked of a single one, and the field would
spread it over its neighbours. Where no more than this share within _ROUND_M passes, none counts."""
_AT_ONCE = 1 << 14
"""Places whose shifts are interpolated at a time (some 20 MB)."""

FEW, EDGE, FLAT, TORN, ODD, CHANCE = (
    "too few features",
    "best at the edge of the search",
    "no clear best displacement",
    "halves of the evidence disagree",
    "unlike its neighbours",
    "too few estimates around are believed",
)


@dataclass(frozen=True)
class Node:
    """An estimate at one place for one class; metres on the ground, down and right positive."""

    row: float
    col: float
    class_id: int
    down: float
    """What has to be added to the labels' position to fit the image."""
    right: float
    error: float
    """Half the distance between the estimates of two halves of the evidence."""
    height: float
    """Of the peak, in deviations of its surface."""
    pieces: float
    """Sum of the weights."""
    refused: str = ""
    """Why nothing is believed here; empty when it is."""


@dataclass(frozen=True)
class ShiftField:
    """Nodes, and the smooth field between them."""

    plane: Plane
    nodes: tuple[Node, ...]
    most: float
    """Metres; no shift is longer."""

    @property
    def classes(self) -> set[int]:
        """Classes with nodes, believed or not."""
        return {n.class_id for n in self.nodes}

    def count(self, class_id: int) -> int:
        """Nodes of a class, believed or not."""
        return sum(n.class_id == class_id for n in self.nodes)

    def of_class(self, class_id: int) -> tuple[Node, ...]:
        """The believed nodes of a class."""
        return tuple(n for n in self.nodes if n.class_id == class_id and not n.refused)

    def at(self, places: np.ndarray, class_id: int) -> np.ndarray:
        """Metres down and right (n, 2) to add to labels at `places` (n, 2) row, column.

        A mean of the nodes around, by nearness and certainty, each shortened by what may be chance
        in it: a share of (error / length)^2. It fades to 0 where there are no nodes, and is 0 at
        places that are not finite.
        """
        nodes = self.of_class(class_id)
        metres = np.zeros((len(places), 2))
        if not nodes:
            return metres
        where = np.array([(n.row, n.col) for n in nodes]) * self.plane.gsd
        moves = np.array([(n.down, n.right) for n in nodes])
        errors = np.array([n.error for n in nodes])
        chance = (errors / np.maximum(np.hypot(*moves.T), 1e-9)) ** 2
        moves *= np.maximum(0, 1 - chance)[:, None]
        sure = 1 / (errors**2 + 0.3**2)
        tree, known = cKDTree(where), np.flatnonzero(np.isfinite(places).all(1))
        for start in range(0, len(known), _AT_ONCE):
            at = known[start : start + _AT_ONCE]
            far, which = tree.query(
                places[at] * self.plane.gsd, k=[*range(1, min(24, len(nodes)) + 1)]
            )
            weights = np.exp(-((far / BETWEEN_M) ** 2) / 2) * sure[which] / sure.mean()
            moved = (weights[..., None] * moves[which]).sum(1)
            moved /= (weights.sum(1) + _NOTHING)[:, None]
            length = np.maximum(np.hypot(*moved.T), 1e-9)
            metres[at] = moved * np.minimum(1, self.most / length)[:, None]
        return metres


def estimate_field(plane: Plane, belief: Belief, most: float) -> ShiftField:
    """Find the shifts of up to `most` metres, sheet by sheet.

    Surfaces of up to three rows of sheets are kept: a node looks into the sheets around its own.
    """
    reach = plane.px(most)
    nodes: list[Node] = []
    rows, cols = (-(-n // SHEET_PX) for n in plane.shape)
    kept: dict[tuple[int, int], Surfaces] = {}
    with progress("comparing labels with the image", rows * cols) as advance:
        for row in range(rows + 1):
            for col in range(cols if row < rows else 0):
                kept[row, col] = agreement(plane, belief, _sheet(plane, row, col), reach)
                advance()
            for col in range(cols if row else 0):
                around = [kept.get((row + i, col + j)) for i in (-2, -1, 0) for j in (-1, 0, 1)]
                core = _sheet(plane, row - 1, col)
                seen = core.expand(plane.px(_SIGHT * max(SCALES_M)) + 1)
                found = Surfaces.joined([s.inside(seen) for s in around if s is not None])
                nodes += _nodes(plane, found, core, reach)
            kept = {at: s for at, s in kept.items() if at[0] >= row - 1}
    return ShiftField(plane, _checked(plane, nodes), most)


def _sheet(plane: Plane, row: int, col: int) -> Window:
    return Window(row * SHEET_PX, col * SHEET_PX, SHEET_PX, SHEET_PX).clip(plane.shape)


def _nodes(plane: Plane, found: Surfaces, core: Window, reach: int) -> Iterator[Node]:
    step = plane.px(SPACING_M)
    rows, cols = (
        np.arange(-(-start // step) * step, stop, step)
        for start, stop in ((core.row, core.bottom), (core.col, core.right))
    )
    for class_id in np.unique(found.classes):
        part = found.chosen(found.classes == class_id)
        tree = cKDTree(part.at)
        for row, col in product(rows, cols):
            if tree.query_ball_point((row, col), plane.px(2 * SCALES_M[1])):
                yield estimate(plane, part, (float(row), float(col)), int(class_id), reach)


def estimate(
    plane: Plane, found: Surfaces, place: tuple[float, float], class_id: int, reach: int
) -> Node:
    """The shift at `place` from the pieces around it, all of one class."""
    far = np.hypot(*(found.at - place).T) * plane.gsd
    node = Node(*place, class_id, 0.0, 0.0, np.inf, 0.0, 0.0, FEW)
    for scale in SCALES_M:
        weights = np.where(far < _SIGHT * scale, np.exp(-((far / scale) ** 2) / 2), 0)
        if weights.sum() < LEAST_PIECES:
            continue
        node = _peak(plane, found, weights, node, reach)
        if not node.refused:
            break
    return node


def _peak(plane: Plane, found: Surfaces, weights: np.ndarray, node: Node, reach: int) -> Node:
    chosen = np.flatnonzero(weights > 0.01)
    surface = _part(found, chosen, weights)
    halves = [_part(found, chosen[k::2], weights) for k in (0, 1)]
    (down, right), inside = peak_of(surface)
    (a, _), (b, _) = (peak_of(half) for half in halves)
    error = float(np.hypot(*(np.array(a) - b))) / 2 * plane.gsd
    height = float((surface.max() - surface.mean()) / (surface.std() + 1e-9))
    refused = ""
    if not inside:
        refused = EDGE
    elif height < LEAST_HEIGHT:
        refused = FLAT
    elif error > MOST_ERROR_M:
        refused = TORN
    return Node(
        node.row, node.col, node.class_id, (down - reach) * plane.gsd,
        (right - reach) * plane.gsd, error, height, float(weights.sum()), refused,
    )  # fmt: skip


def _part(found: Surfaces, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return found.chosen(chosen).summed(weights[chosen])


def peak_of(surface: np.ndarray) -> tuple[tuple[float, float], bool]:
    """Row and column of the maximum to a fraction of a pixel, and whether it lies inside.

    A parabola through the maximum and its neighbours along each axis.
    """
    row, col = np.unravel_index(int(surface.argmax()), surface.shape)
    inside = 0 < row < surface.shape[0] - 1 and 0 < col < surface.shape[1] - 1
    if not inside:
        return (float(row), float(col)), False
    down = _vertex(*surface[row - 1 : row + 2, col].tolist())
    right = _vertex(*surface[row, col - 1 : col + 2].tolist())
    return (float(row) + down, float(col) + right), True


def _vertex(before: float, top: float, after: float) -> float:
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _checked(plane: Plane, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """`nodes`; refused are those that differ much from the believed ones around, or lack them."""
    out = list(nodes)
    for class_id in {n.class_id for n in nodes}:
        mine = [i for i, n in enumerate(nodes) if n.class_id == class_id]
        passed = _refuse_odd(plane, [out[i] for i in mine])
        for i, node in zip(mine, _refuse_chance(plane, passed), strict=True):
            out[i] = node
    return tuple(out)


def _refuse_odd(plane: Plane, nodes: Sequence[Node]) -> list[Node]:
    believed = [n for n in nodes if not n.refused]
    if not believed:
        return list(nodes)
    moves = np.array([(n.down, n.right) for n in believed])
    tree, out = cKDTree(_places(plane, believed)), list(nodes)
    around = tree.query_ball_point(_places(plane, nodes), 2.1 * SPACING_M, p=np.inf)
    for i, (node, near) in enumerate(zip(nodes, around, strict=True)):
        if node.refused or len(near) <= 3:
            continue
        off = np.hypot(*(np.median(moves[near], axis=0) - (node.down, node.right)))
        if off > _NEIGHBOURS_M:
            out[i] = replace(node, refused=ODD)
    return out


def _refuse_chance(plane: Plane, nodes: Sequence[Node]) -> list[Node]:
    judged = [n for n in nodes if n.refused != FEW]
    if not judged:
        return list(nodes)
    passed = np.array([not n.refused for n in judged])
    around = cKDTree(_places(plane, judged)).query_ball_point(_places(plane, nodes), _ROUND_M)
    return [
        replace(n, refused=CHANCE) if not n.refused and passed[near].mean() <= _CHANCE else n
        for n, near in zip(nodes, around, strict=True)
    ]


def _places(plane: Plane, nodes: Sequence[Node]) -> np.ndarray:
    """(n, 2) metres down and right."""
    return np.array([(n.row, n.col) for n in nodes]) * plane.gsd
