"""Learn what the training images look like to the network, so that a map can tell foreign ones."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from sklearn.decomposition import PCA

from geopipe.checkpoint import Checkpoint, FeatureDomain
from geopipe.checkpoint.domain import CELL_PX
from geopipe.classes import IGNORE
from geopipe.grid import NetworkGrid, Window
from geopipe.labels import LabelSource
from geopipe.mapping.tile import cell_features
from geopipe.nets.features import FeatureObserver
from geopipe.progress import progress
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox

log = logging.getLogger(__name__)

MIN_CELLS = 32
"""With fewer nothing can be said of what is usual."""
MAX_CELLS = 512
"""More add little; of a larger scene random windows are taken."""
FOLDS = 4
QUANTILE = 0.99
_SIDE = 4
"""Cells a side of the windows that are read."""
_CELLS_PER_COMPONENT = 6
_MAX_COMPONENTS = 64
_LABELLED = 0.5
"""Share of a cell's pixels that are labelled: what has no label was not learned from."""


def learn_domain(
    model: Checkpoint, sources: Sequence[tuple[Scene, LabelSource]], seed: int = 0
) -> FeatureDomain | None:
    """The domain of the labelled cells of scenes; None where they are too few.

    The limit is measured on cells that were held out: four spatial folds, each scored by what
    the other three have learned.
    """
    observer = FeatureObserver(model.net.base)
    windows = [(scene, labels, w) for scene, labels in sources for w in scene_windows(scene, model)]
    if not model.net.base.feature_layers or len(windows) * _SIDE**2 < MIN_CELLS:
        return None
    order = np.random.default_rng(seed).permutation(len(windows))
    collected: list[tuple[int, np.ndarray]] = []
    count = 0
    with progress("learning the domain", min(len(order), MAX_CELLS // _SIDE**2)) as advance:
        for index in order:
            scene, labels, window = windows[index]
            ids = labels.read(window_geobox(scene.geobox, window))
            if count >= MAX_CELLS or (ids != IGNORE).mean() < 1 / _SIDE**2:
                continue
            taken = cell_features(model, observer, scene, window)
            if taken is None:
                continue
            labelled = [(ids[c.within(window)] != IGNORE).mean() >= _LABELLED for c in taken.cells]
            collected.append((int(index), taken.features[taken.known & np.array(labelled)]))
            count += len(collected[-1][1])
            advance()
    if count < MIN_CELLS:
        return None
    collected.sort(key=lambda pair: pair[0])  # neighbours in one fold
    return fit_domain(np.concatenate([features for _, features in collected]))


def fit_domain(features: np.ndarray) -> FeatureDomain:
    """The domain of cells, (n, features) float32, neighbours beside each other."""
    folds = np.array_split(np.arange(len(features)), FOLDS)
    held_out = [
        _fitted(np.delete(features, fold, axis=0)).distances(features[fold]) for fold in folds
    ]
    limit = float(np.quantile(np.concatenate(held_out), QUANTILE))
    return replace(_fitted(features), limit=limit)


def _fitted(features: np.ndarray) -> FeatureDomain:
    """With a limit of 1."""
    mean, scale = features.mean(0), features.std(0)
    # A feature that hardly varies in training would make a foreigner of everyone.
    scale = np.maximum(scale, 0.05 * max(float(np.median(scale)), 1e-6))
    z = (features - mean) / scale
    k = min(len(z) // _CELLS_PER_COMPONENT, _MAX_COMPONENTS, z.shape[1] - 1)
    pca = PCA(max(k, 1), svd_solver="full").fit(z)
    # Over all other directions, also those that so few cells do not span (scikit-learn's estimate
    # leaves them out, and would grow as cells are held out).
    rest = float(z.var(0).sum() - pca.explained_variance_.sum())
    noise = max(rest / (z.shape[1] - pca.n_components_), 1e-3)
    return FeatureDomain(
        mean.astype(np.float32),
        scale.astype(np.float32),
        pca.components_.astype(np.float32),
        np.maximum(pca.explained_variance_, noise).astype(np.float32),
        noise,
        1.0,
        len(features),
    )


def scene_windows(scene: Scene, model: Checkpoint) -> Iterator[Window]:
    """Of _SIDE x _SIDE cells each, side by side; of a small scene fewer cells."""
    factor = NetworkGrid.of(scene.geobox, model.gsd).factor
    height, width = (round(_SIDE * CELL_PX * f) for f in factor)
    for row, col in product(range(0, scene.shape[0], height), range(0, scene.shape[1], width)):
        yield Window(row, col, height, width).clip(scene.shape)
