"""What one does without geopipe: a random forest on each pixel's colours and texture.

Features as in scikit-image's example of trainable segmentation (``multiscale_basic_features``):
colours, gradient magnitude and the eigenvalues of the Hessian, Gaussian-smoothed at five scales;
with the local deviation of brightness at three. The classifier is scikit-learn's, its settings
those with the best mean IoU on pixels of the enhancement tile that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.grid import Tiling, Window
from geopipe.labels import RasterLabels
from geopipe.metrics import Metrics
from geopipe.raster import Raster, Scene
from geopipe.raster.scene import window_geobox
from reproduce.maggiori.maps import labelled, write_map

SCALES = (1.0, 16.0)
"""Smallest and largest standard deviation of the smoothing, px; each twice the one before."""
BOXES = (5, 11, 21)
"""Sides of the squares of the local deviation, px."""
CORE, AROUND = 1024, 72
"""Windows whose features are computed at once, and a good four times the largest scale, px."""
TRAIN_PX = 200_000
"""Training pixels, as many of each class."""
TUNE_PX = 100_000
"""Pixels that choose the settings, drawn as they come."""
TREES = 50
TREE_SHARE = 0.3
"""Of the training pixels that a tree sees: wrong labels then differ from tree to tree."""
LEAVES = (2, 20, 100)
PRIORS = (0.0, 0.25, 0.5, 0.75, 1.0)
_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Settings:
    """What is tuned."""

    leaf: int
    """Fewest training pixels in a leaf: wrong labels are outvoted in larger ones."""
    prior: float
    """0: classes as frequent as in the balanced sample; 1: as in the labels; or between."""


@dataclass(frozen=True, eq=False)
class Forest:
    """A trained forest."""

    classifier: RandomForestClassifier
    shares: np.ndarray
    """(classes,) of the labelled pixels."""
    settings: Settings
    tuning: tuple[tuple[Settings, float], ...]
    """Mean IoU of each choice of settings."""

    def to_dict(self) -> dict[str, Any]:
        """What was tuned, as plain values for JSON."""
        return {
            "settings": asdict(self.settings),
            "tuning": [{**asdict(s), "mean_iou": score} for s, score in self.tuning],
        }


@dataclass(frozen=True, eq=False)
class Pixels:
    """Features (n, features) float32 and class ids (n,) uint8 of chosen pixels."""

    features: np.ndarray
    ids: np.ndarray
    shares: np.ndarray
    """(classes,) among all labelled pixels they were drawn from."""


def train_on_noisy(
    noisy: tuple[Scene, Path], accurate: tuple[Scene, Path], scheme: ClassScheme, seed: int
) -> Forest:
    """Train on the scene with OpenStreetMap's labels, tuned on the accurate tile.

    Both: the scene and its raster of class ids.
    """
    train_pixels = draw(*noisy, scheme, seed=seed, count=TRAIN_PX, balanced=True)
    validation = draw(*accurate, scheme, seed=seed, count=TUNE_PX)
    return _best_forest(
        train_pixels, _scores([(train_pixels, validation)], scheme.names, seed), seed
    )


def train_on_accurate(accurate: tuple[Scene, Path], scheme: ClassScheme, seed: int) -> Forest:
    """Train on the accurate tile alone; each half tunes what the other one trains."""
    height, width = accurate[0].shape
    label_window = labelled(*accurate, scheme)
    half = (label_window.col + label_window.right) // 2
    halves = Window(0, 0, height, half), Window(0, half, height, width - half)
    train, validation = (
        [
            draw(*accurate, scheme, seed=seed, count=count, balanced=balanced, within=window)
            for window in halves
        ]
        for count, balanced in ((TRAIN_PX // 2, True), (TUNE_PX // 2, False))
    )
    scores = _scores(list(zip(train, reversed(validation), strict=True)), scheme.names, seed)
    combined = Pixels(
        np.concatenate([t.features for t in train]),
        np.concatenate([t.ids for t in train]),
        np.mean([t.shares for t in train], axis=0),
    )
    return _best_forest(combined, scores, seed)


def apply(
    forest: Forest, scene: Scene, scheme: ClassScheme, path: Path, within: Window | None = None
) -> None:
    """The class map of `scene`, at `path`."""

    def classify(window: Window, raster: Raster) -> np.ndarray:
        table = features(raster)
        chance = _probabilities(forest.classifier, table, len(scheme))
        return _decide(chance, forest.shares, forest.settings.prior).reshape(window.shape)

    write_map(path, scene, scheme, classify, (CORE, AROUND), within)


def features(raster: Raster) -> np.ndarray:
    """(h * w, features) float32; pixels that are not valid have the colour 0."""
    colours = raster.data.astype(np.float32)
    grey = colours.mean(0)
    low, high = SCALES
    # One worker: by position, since its name changed between versions.
    smooth = multiscale_basic_features(
        colours, True, False, False, low, high, None, 1, channel_axis=0
    )
    texture = multiscale_basic_features(grey, False, True, True, low, high, None, 1)
    deviations = []
    for side in BOXES:
        mean, square = uniform_filter(grey, side), uniform_filter(grey * grey, side)
        deviations.append(np.sqrt(np.maximum(square - mean * mean, 0)))
    columns = (colours.transpose(1, 2, 0), smooth, texture, np.stack(deviations, axis=-1))
    return np.concatenate(columns, axis=-1, dtype=np.float32).reshape(grey.size, -1)


def draw(
    scene: Scene,
    labels: Path,
    scheme: ClassScheme,
    *,
    seed: int,
    count: int,
    balanced: bool = False,
    within: Window | None = None,
) -> Pixels:
    """At most `count` labelled pixels of `within` (default: all), reproducible by `seed`.

    `balanced`: as many of each class, as far as there are. Raises LabelError without any.
    """
    window = within or Window.of_shape(scene.shape)
    truth = RasterLabels.open(labels, scheme).read(window_geobox(scene.geobox, window))
    truth = np.where(scene.read(window).valid, truth, IGNORE)
    rng = np.random.default_rng(seed)
    flat = truth.ravel()
    pools = [np.flatnonzero(flat == k) for k in range(len(scheme))]
    if not any(len(p) for p in pools):
        raise LabelError(f"{labels} labels no pixel of {scene.path}", "give the labels of it")
    if balanced:
        each = count // len(scheme)
        picked = [rng.choice(p, min(each, len(p)), replace=False) for p in pools]
    else:
        pixels = np.concatenate(pools)
        picked = [rng.choice(pixels, min(count, len(pixels)), replace=False)]
    indices = np.sort(np.concatenate(picked))
    shares = np.array([len(p) for p in pools]) / sum(len(p) for p in pools)
    rows, cols = np.unravel_index(indices, truth.shape)
    return Pixels(_features_at(scene, rows + window.row, cols + window.col), flat[indices], shares)


def _features_at(scene: Scene, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(n, features) float32 of the pixels (`rows`, `cols`), computed window by window."""
    out: np.ndarray | None = None
    for tile in Tiling(scene.shape, CORE, AROUND):
        core, read_window = tile.core, tile.read.clip(scene.shape)
        in_core = (rows >= core.row) & (rows < core.bottom)
        in_core &= (cols >= core.col) & (cols < core.right)
        if not in_core.any():
            continue
        table = features(scene.read(read_window))
        if out is None:
            out = np.empty((len(rows), table.shape[1]), np.float32)
        out[in_core] = table[
            (rows[in_core] - read_window.row) * read_window.width + cols[in_core] - read_window.col
        ]
    assert out is not None
    return out


def _scores(
    folds: Sequence[tuple[Pixels, Pixels]], names: Sequence[str], seed: int
) -> list[tuple[Settings, float]]:
    """Mean IoU of every choice of settings, over `folds` of training and judging pixels."""
    out = []
    for leaf in LEAVES:
        chances = [
            _probabilities(_fit(train, leaf, seed), validation.features, len(names))
            for train, validation in folds
        ]
        for prior in PRIORS:
            total = Metrics.empty(names)
            for (train, validation), chance in zip(folds, chances, strict=True):
                total += Metrics.of(names, validation.ids, _decide(chance, train.shares, prior))
            out.append((Settings(leaf, prior), total.mean_iou))
    return out


def _best_forest(train: Pixels, scores: Sequence[tuple[Settings, float]], seed: int) -> Forest:
    best = max(scores, key=lambda s: s[1])[0]
    return Forest(_fit(train, best.leaf, seed), train.shares, best, tuple(scores))


def _fit(train: Pixels, leaf: int, seed: int) -> RandomForestClassifier:
    forest = RandomForestClassifier(
        TREES, min_samples_leaf=leaf, max_samples=TREE_SHARE, n_jobs=1, random_state=seed
    )
    return forest.fit(train.features, train.ids)


def _probabilities(forest: RandomForestClassifier, table: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes) float32; 0 for a class that the forest never saw."""
    out = np.zeros((len(table), classes), np.float32)
    for start in range(0, len(table), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        out[part, forest.classes_] = forest.predict_proba(table[part])
    return out


def _decide(chance: np.ndarray, shares: np.ndarray, prior: float) -> np.ndarray:
    """Class ids (n,) uint8: the likeliest, if classes are as frequent as shares**prior."""
    return np.asarray((chance * shares**prior).argmax(1), np.uint8)
