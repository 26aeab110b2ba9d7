"""Belief: how likely each pixel is of each class, as far as the image tells."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.grid import Tiling, Window
from geopipe.labels import LabelSource
from geopipe.raster.scene import window_geobox
from geopipe.register.plane import Plane

_CELL_M = 100.0
"""Side of the cells of a checkerboard."""
_SAMPLES = 8000
"""Pixels of each class that each half learns from."""
_SCALES_M = (0.5, 1.5, 4.0)
_HALO_M = 24.0
_TILE = 1024
_AT_ONCE = 1 << 16
"""Pixels that are judged at a time."""
_COARSE_M = 1.0
"""Pixels that are judged: several of the plane's where those are finer, which saves time."""


class Belief(Protocol):
    """Probability of each class on a plane."""

    def read(self, window: Window) -> np.ndarray:
        """(classes, h, w) float32 of `window`, which may stick out of the plane."""
        ...


@dataclass(frozen=True)
class QuickLook:
    """Two classifiers of pixels by colour and texture, fitted on the labels themselves.

    Rough, but it needs no model, and wrong labels are outvoted by the right ones. Each half of a
    checkerboard is judged by the classifier of the other half, so no label vouches for itself.
    """

    plane: Plane
    halves: tuple[Any, Any]
    classes: int

    @classmethod
    def fit(cls, plane: Plane, labels: LabelSource, seed: int = 0) -> "QuickLook":
        """Learn from `labels` where they are known; LabelError where a class is too rare."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        features, ids, colours = _samples(plane, labels, seed)
        classes = len(labels.scheme)
        halves = []
        for colour in (0, 1):
            chosen = colours != colour
            found = np.bincount(ids[chosen], minlength=classes)
            if (found < 100).any():
                few = [n for n, k in zip(labels.scheme.names, found, strict=True) if k < 100]
                raise LabelError(
                    f"too few labelled pixels of {', '.join(few)} to learn what it looks like",
                    "give a model with --model, labels of a larger part of the scene, or --classes "
                    "without it",
                )
            learner = HistGradientBoostingClassifier(
                max_iter=60, learning_rate=0.15, random_state=seed
            )
            halves.append(learner.fit(features[chosen], ids[chosen]))
        return cls(plane, (halves[0], halves[1]), classes)

    def read(self, window: Window) -> np.ndarray:
        """(classes, h, w) float32; 0 where the image is not valid."""
        step = _step(self.plane)
        outer = window.snap(step)
        features, valid = _features(self.plane, outer)
        colours = _checkerboard(self.plane, outer)[::step, ::step]
        out = np.zeros((self.classes, *valid.shape), np.float32)
        for colour, half in enumerate(self.halves):
            chosen = np.flatnonzero(valid & (colours == colour))
            for start in range(0, len(chosen), _AT_ONCE):
                at = chosen[start : start + _AT_ONCE]
                seen = features.reshape(len(features), -1)[:, at].T
                out.reshape(self.classes, -1)[:, at] = half.predict_proba(seen).T
        return np.asarray(out.repeat(step, 1).repeat(step, 2)[(slice(None), *window.within(outer))])


def _step(plane: Plane) -> int:
    return max(1, round(_COARSE_M / plane.gsd))


def _samples(plane: Plane, labels: LabelSource, seed: int) -> tuple[np.ndarray, ...]:
    """Features (n, k), class ids (n,) and colours (n,) of random labelled pixels."""
    rng, step = np.random.default_rng(seed), _step(plane)
    tiles = list(Tiling(plane.shape, _TILE))
    order = rng.permutation(len(tiles))
    most = 4 * _SAMPLES
    had = np.zeros((2, len(labels.scheme)), int)
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    share = max(500, most // max(1, len(tiles) // 4))
    for i in order:
        if (had >= _SAMPLES).all():
            break
        window = tiles[i].core.snap(step)
        ids = labels.read(window_geobox(plane.geobox, window))[::step, ::step]
        features, valid = _features(plane, window)
        colours = _checkerboard(plane, window)[::step, ::step]
        for colour in (0, 1):
            for k in range(len(labels.scheme)):
                at = np.flatnonzero(valid & (colours == colour) & (ids == k) & (ids != IGNORE))
                count = min(len(at), share, max(0, _SAMPLES - had[colour, k]))
                at = rng.choice(at, count, replace=False)
                had[colour, k] += count
                rows.append(
                    (
                        features.reshape(len(features), -1)[:, at].T,
                        np.full(count, k),
                        np.full(count, colour),
                    )
                )
    return tuple(np.concatenate(part) for part in zip(*rows, strict=True))


def _features(plane: Plane, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(k, h, w) float32 and validity (h, w), one pixel for each `_step` of the snapped `window`.

    Bands, edges and roughness at some scales.
    """
    step, halo = _step(plane), plane.px(_HALO_M)
    outer = window.expand(halo // step * step)
    image, valid = plane.image(outer)
    h, w = (n // step for n in outer.shape)
    blocks = (h, step, w, step)
    valid = np.asarray(valid.reshape(blocks).all((1, 3)))
    image = image.reshape(-1, *blocks).mean((2, 4))
    mean = np.array([b[valid].mean() if valid.any() else 0.0 for b in image])[:, None, None]
    image = np.where(valid, image, mean).astype(np.float32)
    grey = image.mean(0)
    inner = slice(halo // step, -(halo // step))
    found: list[np.ndarray] = []
    for scale in (s / plane.gsd / step for s in _SCALES_M):
        found += [ndimage.gaussian_filter(band, scale)[inner, inner] for band in image]
        found.append(ndimage.gaussian_gradient_magnitude(grey, scale)[inner, inner])
        blurred = ndimage.gaussian_filter(grey, 2 * scale)
        squares = ndimage.gaussian_filter(grey**2, 2 * scale)
        found.append(np.sqrt(np.maximum(squares - blurred**2, 0))[inner, inner])
    return np.stack(found), valid[inner, inner]


def _checkerboard(plane: Plane, window: Window) -> np.ndarray:
    """(h, w) 0 or 1."""
    side = max(1, min(plane.px(_CELL_M), min(plane.shape) // 4))
    rows = (window.row + np.arange(window.height)) // side
    cols = (window.col + np.arange(window.width)) // side
    return np.asarray((rows[:, None] + cols[None]) % 2)
