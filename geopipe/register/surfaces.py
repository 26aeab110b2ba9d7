"""Agreement of labels and image around each place, as a function of the displacement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from geopipe.grid import Window
from geopipe.register.belief import Belief
from geopipe.register.evidence import CONTRAST_M, correlate, edges, outline
from geopipe.register.plane import PIECE_M, Piece, Plane

BELIEF_SHARE = 0.75
"""Weight of the belief against the edges. A belief learnt from shifted labels is shifted itself by
about their mean, but broad; edges are exact, but there are many. Their sum has the best of both."""


@dataclass(frozen=True)
class Surfaces:
    """For n pieces, agreement at each displacement within `reach` pixels."""

    at: np.ndarray
    """(n, 2) centre of each piece, row and column on the plane."""
    classes: np.ndarray
    """(n,) class ids."""
    edges: np.ndarray
    """(n, 2 reach + 1, 2 reach + 1) float16, of mean 0."""
    belief: np.ndarray
    """Alike."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All pieces of `parts`."""
        return cls(
            np.concatenate([p.at for p in parts]),
            np.concatenate([p.classes for p in parts]),
            np.concatenate([p.edges for p in parts]),
            np.concatenate([p.belief for p in parts]),
        )

    def chosen(self, which: np.ndarray) -> Self:
        """Some of the pieces."""
        return type(self)(
            self.at[which], self.classes[which], self.edges[which], self.belief[which]
        )

    def inside(self, window: Window) -> Self:
        """The pieces whose centre lies in `window`."""
        low, high = (window.row, window.col), (window.bottom, window.right)
        return self.chosen(np.flatnonzero(((self.at >= low) & (self.at < high)).all(1)))

    def summed(self, weights: np.ndarray) -> np.ndarray:
        """Weighted sum over the pieces, both kinds of evidence in deviations, (k, k)."""
        parts = [np.tensordot(weights, s.astype(np.float32), 1) for s in (self.edges, self.belief)]
        a, b = (s / (s.std() + 1e-9) for s in parts)
        return np.asarray((1 - BELIEF_SHARE) * a + BELIEF_SHARE * b)


def agreement(plane: Plane, belief: Belief, window: Window, reach: int) -> Surfaces:
    """Surfaces of the pieces that begin in `window`."""
    around = window.expand(plane.px(PIECE_M) + reach + 4)
    image, valid = plane.image(around)
    drawn = edges(image, valid, plane.px(CONTRAST_M))
    likely = belief.read(around)
    for of_class in likely:
        of_class -= of_class[valid].mean() if valid.any() else 0
        of_class[~valid] = 0
    at, classes, by_edges, by_belief = [], [], [], []
    for piece in plane.pieces(window):
        if not valid[piece.window.expand(0).within(around)].any():
            continue
        near = piece.window.expand(reach).within(around)
        line = outline(piece.mask)
        length = float(np.sqrt((np.abs(line) ** 2).sum()))
        at.append(_centre(piece))
        classes.append(piece.class_id)
        by_edges.append(correlate(drawn[near], line) / max(length, 1e-6))
        area = np.sqrt(piece.mask.sum())
        by_belief.append(correlate(likely[piece.class_id][near], piece.mask) / area)
    side = 2 * reach + 1
    return Surfaces(
        np.array(at, float).reshape(-1, 2),
        np.array(classes, np.uint8),
        _around_zero(by_edges, side),
        _around_zero(by_belief, side),
    )


def _centre(piece: Piece) -> tuple[float, float]:
    rows, cols = np.nonzero(piece.mask)
    return piece.window.row + rows.mean() + 0.5, piece.window.col + cols.mean() + 0.5


def _around_zero(surfaces: list[np.ndarray], side: int) -> np.ndarray:
    stack = np.array(surfaces, np.float32).reshape(-1, side, side)
    # Half precision: thousands of pieces are kept at a time.
    return np.asarray(stack - stack.mean((1, 2), keepdims=True), np.float16)
