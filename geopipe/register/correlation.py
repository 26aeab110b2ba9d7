"""Correlation of labels and image around each position, as a function of the displacement."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import ndimage

from geopipe.grid import Window
from geopipe.register.evidence import CONTRAST_M, correlate, edges, outline
from geopipe.register.grid import PART_M, LabelPart, RegistrationGrid
from geopipe.register.likelihood import ClassLikelihood

_KEPT_BYTES = 256 << 20
"""Of outlines and edges that a second turn needs not compute again: a town of some 10 km wide."""
_SAMPLED_M = 8.0
"""Between the pixels that the mean of a likelihood is taken of: what it is where nothing is
known."""


@dataclass(frozen=True)
class CorrelationSurfaces:
    """For n parts, agreement at each displacement within `reach` pixels."""

    at: np.ndarray
    """(n, 2) centre of each part, row and column on the plane."""
    classes: np.ndarray
    """(n,) class ids."""
    edges: np.ndarray
    """(n, 2 reach + 1, 2 reach + 1) float16, of mean 0."""
    likelihood: np.ndarray
    """Alike."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All parts of `parts`."""
        return cls(
            np.concatenate([p.at for p in parts]),
            np.concatenate([p.classes for p in parts]),
            np.concatenate([p.edges for p in parts]),
            np.concatenate([p.likelihood for p in parts]),
        )

    def chosen(self, which: np.ndarray) -> Self:
        """Some of the parts."""
        return type(self)(
            self.at[which], self.classes[which], self.edges[which], self.likelihood[which]
        )

    def inside(self, window: Window) -> Self:
        """The parts whose centre lies in `window`."""
        low, high = (window.row, window.col), (window.bottom, window.right)
        return self.chosen(np.flatnonzero(((self.at >= low) & (self.at < high)).all(1)))


@dataclass(frozen=True)
class _Outlines:
    """The parts that begin in a window, and what edges say of them."""

    parts: tuple[LabelPart, ...]
    at: np.ndarray
    """(n, 2), as in Surfaces."""
    edges: np.ndarray
    """(n, 2 reach + 1, 2 reach + 1) float16, of mean 0."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.edges.nbytes + sum(p.mask.nbytes for p in self.parts)


@dataclass
class Correlator:
    """Surfaces of parts of labels, by edges and by a likelihood, up to `reach` pixels.

    Edges are the same whatever the likelihood: they are kept for the next one, as far as there is
    room.
    """

    plane: RegistrationGrid
    search_px: int
    _kept: dict[Window, _Outlines] = field(default_factory=dict, repr=False)
    _room: int = field(default=_KEPT_BYTES, repr=False)

    def of(self, likelihood: ClassLikelihood, window: Window) -> CorrelationSurfaces:
        """Surfaces of the parts that begin in `window`; threads may ask at the same time."""
        outlines = self._kept.get(window)
        if outlines is None:
            outlines = self._outlines(window)
            self._room -= outlines.nbytes
            if self._room >= 0:
                self._kept[window] = outlines
        return CorrelationSurfaces(
            outlines.at,
            np.array([p.class_id for p in outlines.parts], np.uint8),
            outlines.edges,
            self._by_likelihood(likelihood, outlines.parts, self._around(window)),
        )

    def _around(self, window: Window) -> Window:
        return window.expand(self.plane.px(PART_M) + self.search_px + 4)

    def _outlines(self, window: Window) -> _Outlines:
        around = self._around(window)
        parts = tuple(self.plane.parts(window))
        if parts:
            image, valid = self.plane.image(around)
            parts = tuple(p for p in parts if valid[p.window.within(around)].any())
        found = []
        if parts:
            drawn = edges(image, valid, self.plane.px(CONTRAST_M))
        for part in parts:
            line = outline(part.mask)
            length = float(np.sqrt((line**2).sum()))
            near = drawn[(slice(None), *part.window.expand(self.search_px).within(around))]
            found.append(correlate(near, line) / max(length, 1e-6))
        at = np.array([_centre(p) for p in parts], float).reshape(-1, 2)
        return _Outlines(parts, at, self._around_zero(found))

    def _by_likelihood(
        self, likelihood: ClassLikelihood, parts: Sequence[LabelPart], around: Window
    ) -> np.ndarray:
        found = []
        if parts:
            needed = self._needed(parts, around)
            likely = likelihood.read(around, needed)
            known = needed & (likely.sum(0) > 0)
            sampled = (slice(None, None, self.plane.px(_SAMPLED_M)),) * 2
        for class_id in {p.class_id for p in parts}:
            of_class = likely[class_id]
            ground = of_class[sampled][known[sampled]]
            of_class -= ground.mean() if len(ground) else 0
            of_class[~known] = 0
        for part in parts:
            near = likely[part.class_id][part.window.expand(self.search_px).within(around)]
            mask = part.mask.astype(np.float32)
            found.append(correlate(near[None], mask[None]) / np.sqrt(mask.sum()))
        return self._around_zero(found)

    def _needed(self, parts: Sequence[LabelPart], around: Window) -> np.ndarray:
        """(h, w) bool: pixels that some part meets at some displacement, and samples of all."""
        under = np.zeros(around.shape, np.uint8)
        for part in parts:
            under[part.window.within(around)] |= part.mask
        near = ndimage.maximum_filter(under, 2 * self.search_px + 1, mode="constant")
        needed = np.asarray(near, bool)
        step = self.plane.px(_SAMPLED_M)
        needed[::step, ::step] = True
        return needed

    def _around_zero(self, surfaces: list[np.ndarray]) -> np.ndarray:
        side = 2 * self.search_px + 1
        stack = np.array(surfaces, np.float32).reshape(-1, side, side)
        # Half precision: thousands of parts are kept at a time.
        return np.asarray(stack - stack.mean((1, 2), keepdims=True), np.float16)


def _centre(part: LabelPart) -> tuple[float, float]:
    rows, cols = np.nonzero(part.mask)
    return part.window.row + rows.mean() + 0.5, part.window.col + cols.mean() + 0.5
