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

_CACHE_BYTES = 256 << 20
"""Of outlines and edges that a second turn needs not compute again: a town of some 10 km wide."""
_SAMPLING_M = 8.0
"""Between the pixels that the mean of a likelihood is taken of: what it is where nothing is
known."""


@dataclass(frozen=True)
class CorrelationSurfaces:
    """For n parts, agreement at each displacement within `reach` pixels."""

    positions: np.ndarray
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
            np.concatenate([p.positions for p in parts]),
            np.concatenate([p.classes for p in parts]),
            np.concatenate([p.edges for p in parts]),
            np.concatenate([p.likelihood for p in parts]),
        )

    def subset(self, mask: np.ndarray) -> Self:
        """Some of the parts."""
        return type(self)(
            self.positions[mask], self.classes[mask], self.edges[mask], self.likelihood[mask]
        )

    def inside(self, window: Window) -> Self:
        """The parts whose centre lies in `window`."""
        low, high = (window.row, window.col), (window.bottom, window.right)
        return self.subset(
            np.flatnonzero(((self.positions >= low) & (self.positions < high)).all(1))
        )


@dataclass(frozen=True)
class _Outlines:
    """The parts that begin in a window, and what edges say of them."""

    parts: tuple[LabelPart, ...]
    positions: np.ndarray
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

    grid: RegistrationGrid
    search_px: int
    _cache: dict[Window, _Outlines] = field(default_factory=dict, repr=False)
    _free_bytes: int = field(default=_CACHE_BYTES, repr=False)

    def of(self, likelihood: ClassLikelihood, window: Window) -> CorrelationSurfaces:
        """Surfaces of the parts that begin in `window`; threads may ask at the same time."""
        outlines = self._cache.get(window)
        if outlines is None:
            outlines = self._outlines(window)
            self._free_bytes -= outlines.nbytes
            if self._free_bytes >= 0:
                self._cache[window] = outlines
        return CorrelationSurfaces(
            outlines.positions,
            np.array([p.class_id for p in outlines.parts], np.uint8),
            outlines.edges,
            self._by_likelihood(likelihood, outlines.parts, self._search_window(window)),
        )

    def _search_window(self, window: Window) -> Window:
        return window.expand(self.grid.px(PART_M) + self.search_px + 4)

    def _outlines(self, window: Window) -> _Outlines:
        search_window = self._search_window(window)
        parts = tuple(self.grid.parts(window))
        if parts:
            image, valid = self.grid.image(search_window)
            parts = tuple(p for p in parts if valid[p.window.within(search_window)].any())
        surfaces = []
        if parts:
            image_edges = edges(image, valid, self.grid.px(CONTRAST_M))
        for part in parts:
            line = outline(part.mask)
            length = float(np.sqrt((line**2).sum()))
            local_edges = image_edges[
                (slice(None), *part.window.expand(self.search_px).within(search_window))
            ]
            surfaces.append(correlate(local_edges, line) / max(length, 1e-6))
        positions = np.array([_centre(p) for p in parts], float).reshape(-1, 2)
        return _Outlines(parts, positions, self._around_zero(surfaces))

    def _by_likelihood(
        self, likelihood: ClassLikelihood, parts: Sequence[LabelPart], search_window: Window
    ) -> np.ndarray:
        surfaces = []
        if parts:
            needed = self._needed(parts, search_window)
            class_likelihood = likelihood.read(search_window, needed)
            valid = needed & (class_likelihood.sum(0) > 0)
            sampled = (slice(None, None, self.grid.px(_SAMPLING_M)),) * 2
        for class_id in {p.class_id for p in parts}:
            of_class = class_likelihood[class_id]
            ground = of_class[sampled][valid[sampled]]
            of_class -= ground.mean() if len(ground) else 0
            of_class[~valid] = 0
        for part in parts:
            local_likelihood = class_likelihood[part.class_id][
                part.window.expand(self.search_px).within(search_window)
            ]
            mask = part.mask.astype(np.float32)
            surfaces.append(correlate(local_likelihood[None], mask[None]) / np.sqrt(mask.sum()))
        return self._around_zero(surfaces)

    def _needed(self, parts: Sequence[LabelPart], search_window: Window) -> np.ndarray:
        """(h, w) bool: pixels that some part meets at some displacement, and samples of all."""
        under = np.zeros(search_window.shape, np.uint8)
        for part in parts:
            under[part.window.within(search_window)] |= part.mask
        dilated = ndimage.maximum_filter(under, 2 * self.search_px + 1, mode="constant")
        needed = np.asarray(dilated, bool)
        step = self.grid.px(_SAMPLING_M)
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
