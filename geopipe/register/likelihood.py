"""Class likelihood: how likely each pixel is of each class, judged by the image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.grid import Tiling, Window
from geopipe.labels import LabelSource
from geopipe.raster.scene import window_geobox
from geopipe.register.grid import RegistrationGrid
from geopipe.register.threads import in_order

_CELL_M = 100.0
"""Side of the cells of a checkerboard."""
_SAMPLES = 8000
"""Pixels of each class that each half learns from."""
_CLASSIFIER_OPTIONS = {"max_iter": 40, "learning_rate": 0.2, "max_leaf_nodes": 15}
"""Aligns no worse than 60 trees of 31 leaves in 2 seeds on the simulated map, at half the cost."""
_SCALES_M = (0.5, 1.5, 4.0)
_HALO_M = 24.0
_TILE = 1024
_AT_ONCE = 1 << 16
"""Pixels that are judged at a time."""
_CLASSIFIED_GSD_M = 1.0
"""Pixels that are judged: several of the plane's where those are finer, which saves time."""


class ClassLikelihood(Protocol):
    """Probability of each class on a plane."""

    def read(self, window: Window, needed: np.ndarray | None = None) -> np.ndarray:
        """(classes, h, w) float32 of `window`, which may stick out of the plane.

        Where `needed` (h, w) is given and False, anything may stand. Threads read side by side.
        """
        ...


@dataclass(frozen=True)
class PixelClassifier:
    """Two classifiers of pixels by colour and texture, fitted on the labels themselves.

    Rough, but it needs no model, and wrong labels are outvoted by the right ones. Each half of a
    checkerboard is judged by the classifier of the other half, so no label vouches for itself.
    """

    grid: RegistrationGrid
    halves: tuple[Any, Any]
    classes: int

    @classmethod
    def fit(cls, grid: RegistrationGrid, labels: LabelSource, seed: int = 0) -> "PixelClassifier":
        """Learn from `labels` where they are known; LabelError where a class is too rare."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        features, ids, colours = _samples(grid, labels, seed)
        classes = len(labels.scheme)
        for colour in (0, 1):
            sample_counts = np.bincount(ids[colours != colour], minlength=classes)
            if (sample_counts < 100).any():
                too_small = [
                    n for n, k in zip(labels.scheme.names, sample_counts, strict=True) if k < 100
                ]
                raise LabelError(
                    f"too few labelled pixels of {', '.join(too_small)} to learn what it looks "
                    "like",
                    "give a `model`, labels of a larger part of the scene, or `classes` "
                    "without it, such as buildings",
                )

        def fitted_classifier(colour: int) -> Any:
            learner = HistGradientBoostingClassifier(**_CLASSIFIER_OPTIONS, random_state=seed)
            return learner.fit(features[colours != colour], ids[colours != colour])

        first, second = in_order(fitted_classifier, (0, 1))
        return cls(grid, (first, second), classes)

    def read(self, window: Window, needed: np.ndarray | None = None) -> np.ndarray:
        """(classes, h, w) float32; 0 where the image is not valid or nothing is needed."""
        step = _step(self.grid)
        outer = window.snap(step)
        features, valid = _features(self.grid, outer)
        if needed is not None:
            padded_mask = np.zeros(outer.shape, bool)
            padded_mask[window.within(outer)] = needed
            valid &= np.any(_strided(padded_mask, step), axis=0)
        colours = _checkerboard(self.grid, outer)
        likelihood = np.zeros((self.classes, *valid.shape), np.float32)
        parts = [
            (half, at)
            for colour, half in enumerate(self.halves)
            for at in _chunks(np.flatnonzero(valid & (colours == colour)))
        ]
        flat_features = features.reshape(len(features), -1)
        predictions = in_order(
            lambda part: part[0].predict_proba(flat_features[:, part[1]].T), parts
        )
        for (_, at), of_part in zip(parts, predictions, strict=True):
            likelihood.reshape(self.classes, -1)[:, at] = of_part.T
        out = np.empty((self.classes, *window.shape), np.float32)
        rows, cols = (
            np.arange(start, stop) // step - first // step
            for start, stop, first in (
                (window.row, window.bottom, outer.row),
                (window.col, window.right, outer.col),
            )
        )
        for of_class, class_out in zip(likelihood, out, strict=True):
            np.take(of_class[rows], cols, 1, out=class_out)
        return out


def _chunks(indices: np.ndarray) -> list[np.ndarray]:
    """`indices` (n,) in parts of at most _AT_ONCE."""
    return [indices[i : i + _AT_ONCE] for i in range(0, len(indices), _AT_ONCE)]


def _step(grid: RegistrationGrid) -> int:
    return max(1, round(_CLASSIFIED_GSD_M / grid.gsd))


def _samples(grid: RegistrationGrid, labels: LabelSource, seed: int) -> tuple[np.ndarray, ...]:
    """Features (n, k), class ids (n,) and colours (n,) of random labelled pixels."""
    rng, step = np.random.default_rng(seed), _step(grid)
    tiles = list(Tiling(grid.shape, _TILE))
    order = rng.permutation(len(tiles))
    max_samples = 4 * _SAMPLES
    counts = np.zeros((2, len(labels.scheme)), int)
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    share = max(500, max_samples // max(1, len(tiles) // 4))

    def sheet_samples(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        window = tiles[i].core.snap(step)
        ids = labels.read(window_geobox(grid.geobox, window))[::step, ::step]
        return *_features(grid, window), ids, _checkerboard(grid, window)

    for features, valid, ids, colours in in_order(sheet_samples, order.tolist()):
        for colour in (0, 1):
            for k in range(len(labels.scheme)):
                at = np.flatnonzero(valid & (colours == colour) & (ids == k) & (ids != IGNORE))
                count = min(len(at), share, max(0, _SAMPLES - counts[colour, k]))
                at = rng.choice(at, count, replace=False)
                counts[colour, k] += count
                rows.append(
                    (
                        features.reshape(len(features), -1)[:, at].T,
                        np.full(count, k),
                        np.full(count, colour),
                    )
                )
        if (counts >= _SAMPLES).all():
            break
    return tuple(np.concatenate(part) for part in zip(*rows, strict=True))


def _features(grid: RegistrationGrid, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(k, h, w) float32 and validity (h, w), one pixel for each `_step` of the snapped `window`.

    Bands, edges and roughness at some scales.
    """
    step, halo = _step(grid), grid.px(_HALO_M)
    outer = window.expand(halo // step * step)
    image, valid = grid.image(outer)
    if step > 1:
        valid = np.all(_strided(valid, step), axis=0)
        image = np.stack([sum(_strided(band, step)) / np.float32(step**2) for band in image])
    if not valid.all():
        mean = np.array([b[valid].mean() if valid.any() else 0.0 for b in image])[:, None, None]
        image = np.where(valid, image, mean).astype(np.float32)
    grey = image.mean(0)
    inner = (slice(halo // step, -(halo // step)),) * 2
    filters: list[tuple[Callable[..., np.ndarray], tuple[Any, ...]]] = []
    for scale in (s / grid.gsd / step for s in _SCALES_M):
        filters += [(ndimage.gaussian_filter, (band, scale)) for band in image]
        filters.append((ndimage.gaussian_gradient_magnitude, (grey, scale)))
        filters.append((_roughness, (grey, 2 * scale)))
    out = np.empty((len(filters), *valid[inner].shape), np.float32)
    for feature, filtered in zip(out, in_order(lambda f: f[0](*f[1])[inner], filters), strict=True):
        feature[:] = filtered
    return out, valid[inner]


def _roughness(grey: np.ndarray, scale: float) -> np.ndarray:
    """Deviation (h, w) of what lies around each pixel."""
    mean = ndimage.gaussian_filter(grey, scale)
    squared_mean = ndimage.gaussian_filter(grey**2, scale)
    return np.asarray(np.sqrt(np.maximum(squared_mean - mean**2, 0)))


def _strided(pixels: np.ndarray, step: int) -> list[np.ndarray]:
    """The pixels (h step, w step) that lie at the same place in blocks of `step`, each (h, w)."""
    return [pixels[i::step, j::step] for i in range(step) for j in range(step)]


def _checkerboard(grid: RegistrationGrid, window: Window) -> np.ndarray:
    """0 or 1 for each `_step` of the snapped `window`, as in `_features`."""
    side = max(1, min(grid.px(_CELL_M), min(grid.shape) // 4))
    rows, cols = (
        np.arange(start, stop, _step(grid)) // side % 2
        for start, stop in ((window.row, window.bottom), (window.col, window.right))
    )
    return np.asarray(rows[:, None] ^ cols)
