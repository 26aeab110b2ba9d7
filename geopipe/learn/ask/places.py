"""Which places of a target to ask about: to tell two models apart, and to learn the most."""

import numpy as np

from geopipe.errors import LabelError

_TRIALS = 3
_MAX_SAMPLES = 20_000
"""Samples that are clustered; k-means of more takes minutes."""


def draw_disagreements(
    old: np.ndarray,
    adapted: np.ndarray,
    positions: np.ndarray,
    count: int,
    seed: int,
    done: np.ndarray | None = None,
) -> np.ndarray:
    """Random places where two models disagree, spread over classes and space.

    The places are sorted by the two classes, then by image and along a curve through each image,
    and cut into `count` strata of equal size; one place is drawn from each. Every place is equally
    likely, and the order is random, so any first part of the sample is a sample too.

    Args:
        old: (n,) class ids by the old model.
        adapted: (n,) class ids by the adapted one.
        positions: (n, 3) image, row and column of each cell.
        count: Places to draw, fewer where there are no more.
        seed: Decides the draw.
        done: Indices that were asked before and are not drawn again.

    Returns:
        Indices (at most count,).
    """
    differs = old != adapted
    if done is not None:
        differs[done] = False
    candidates = np.flatnonzero(differs)
    row, col = positions[candidates, 1], positions[candidates, 2]
    serpentine = np.where(row % 2, -col, col)
    order = np.lexsort(
        (serpentine, row, positions[candidates, 0], adapted[candidates], old[candidates])
    )
    candidates = candidates[order]
    if not len(candidates):
        return candidates
    before = 0 if done is None else len(done)
    rng = np.random.default_rng([seed, before])
    count = min(count, len(candidates))
    # A random start makes strata of unequal size equally likely to hold any place.
    candidates = np.roll(candidates, int(rng.integers(len(candidates))))
    strata = np.array_split(candidates, count)
    return rng.permutation([int(rng.choice(stratum)) for stratum in strata])


def rank_by_gain(
    features: np.ndarray,
    probabilities: np.ndarray,
    count: int,
    seed: int,
    done: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The places whose classes would teach a model the most, best first.

    The samples are clustered by their features, each weighted by the chance that its class is wrong
    (diverse mini-batch active learning, Zhdanov 2019, arXiv 1901.05954). The expected gain of an
    answer is that of its cluster: the samples in it that are expected to be wrong, as a share of
    all samples. The place to ask about is the one nearest to the centre of its cluster.

    Args:
        features: (n, d) float32.
        probabilities: (n, classes) by the model that is to learn.
        count: Places to rank, fewer where there are no more.
        seed: Decides the start of the clustering.
        done: Indices that were asked before; they form no cluster.

    Returns:
        Indices (at most count,) and expected gains in points of accuracy.
    """
    from sklearn.cluster import KMeans

    wrong = 1 - probabilities.max(1) / probabilities.sum(1)
    is_free = np.ones(len(features), bool)
    if done is not None:
        is_free[done] = False
    candidates = np.flatnonzero(is_free & (wrong > 0))
    if not len(candidates):
        raise LabelError(
            "no place is left to ask about", "every cell of the target was answered or is certain"
        )
    rng = np.random.default_rng(seed)
    candidates = np.sort(rng.permutation(candidates)[:_MAX_SAMPLES])
    count = min(count, len(candidates))
    x, weights = unit(features[candidates]), wrong[candidates]
    clusters = KMeans(count, n_init=_TRIALS, random_state=seed).fit(x, sample_weight=weights)
    gains = np.bincount(clusters.labels_, weights, count) * 100 / len(features)
    distance = np.linalg.norm(x - clusters.cluster_centers_[clusters.labels_], axis=1)
    order = np.lexsort((distance, clusters.labels_))
    first = np.unique(clusters.labels_[order], return_index=True)[1]
    nearest, labels = candidates[order[first]], clusters.labels_[order[first]]
    best = np.argsort(-gains[labels], kind="stable")
    return nearest[best], gains[labels][best]


def unit(features: np.ndarray) -> np.ndarray:
    """Rows (n, d) of length 1."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12))
