"""What features and probabilities tell of two domains when one of them has no labels.

Each function gives figures per sample; `geopipe.learn.transfer.evidence` resamples and judges them.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

_PCA_COMPONENTS = 64
_FOLDS = 5
_MAX_FITTED = 4000
"""Samples of a domain that a classifier is fitted to."""


def linear_classifier(features: np.ndarray, seed: int) -> Pipeline:
    """A simple classifier for `features` (n, d): logistic regression on their main components."""
    axes = min(_PCA_COMPONENTS, features.shape[1], max(1, len(features) // 4))
    return make_pipeline(
        PCA(axes, svd_solver="randomized", random_state=seed),
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=300),
    )


def class_balanced(
    source_ids: np.ndarray, target_ids: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into `source_ids` (n,) and `target_ids` (m,), of each class equally many of both.

    So two domains that differ only in how frequent classes are do not look different.
    """
    rng = np.random.default_rng(seed)
    share = min(1.0, _MAX_FITTED / max(1, min(len(source_ids), len(target_ids))))
    left, right = [], []
    for class_id in np.intersect1d(source_ids, target_ids):
        a, b = (rng.permutation(np.flatnonzero(x == class_id)) for x in (source_ids, target_ids))
        count = int(np.ceil(share * min(len(a), len(b))))
        left.append(a[:count])
        right.append(b[:count])
    none = np.empty(0, np.int64)
    return np.concatenate([none, *left]), np.concatenate([none, *right])


def domain_scores(
    source_features: np.ndarray,
    target_features: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """How much each row of the source (n, d) and of the target (m, d) looks like the target.

    By a domain classifier in cross-validation, whose error gives the proxy A-distance (Ben-David et
    al. 2010, Machine Learning 79, section 4): (n,) and (m,) float64. `groups` (n,) and (m,): rows
    of one group, say one image, stay in one fold, since to know an image again is not to know a
    domain.
    """
    features = np.concatenate([source_features, target_features])
    truth = np.repeat([0, 1], [len(source_features), len(target_features)])
    scores = np.full(len(truth), np.nan)
    fold_of = np.concatenate([_folds(g, seed) for g in groups])
    for fold in range(_FOLDS):
        out = fold_of == fold
        if out.any() and len(np.unique(truth[~out])) == 2:
            model = linear_classifier(features[~out], seed).fit(features[~out], truth[~out])
            scores[out] = model.decision_function(features[out])
    return scores[: len(source_features)], scores[len(source_features) :]


def _fitted(pair: tuple[np.ndarray, np.ndarray], seed: int) -> Pipeline:
    features, classes = pair
    if (classes == classes[0]).all():  # a regression needs two
        return make_pipeline(DummyClassifier()).fit(features, classes)
    return linear_classifier(features, seed).fit(features, classes)


def _folds(groups: np.ndarray, seed: int) -> np.ndarray:
    """(n,) fold of each row; rows of one group share it."""
    ids = np.unique(groups, return_inverse=True)[1]
    if ids.max() + 1 < _FOLDS:  # too few images to hold any out: the best that can be done
        return np.random.default_rng(seed).permutation(len(groups)) % _FOLDS
    folds = np.empty(len(groups), np.int64)
    for k, (_, out) in enumerate(GroupKFold(_FOLDS).split(ids, groups=ids)):
        folds[out] = k
    return folds


def auc(source_scores: np.ndarray, target_scores: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs in which the target has the higher score.

    Ties count half.
    """
    order = np.sort(source_scores)
    below = np.searchsorted(order, target_scores, "left") + np.searchsorted(
        order, target_scores, "right"
    )
    return float(below.mean() / (2 * len(source_scores)))


def negative_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Negative entropy of each row (n, classes); (n,) float64, 0 where one class has all."""
    p = probabilities.astype(np.float64)
    return np.asarray((p * np.log(np.maximum(p, 1e-12))).sum(axis=1))


def thresholded_accuracy(
    source_scores: np.ndarray, correct: np.ndarray, weight: np.ndarray, target_scores: np.ndarray
) -> float:
    """Accuracy on a domain without labels: average thresholded confidence.

    Garg et al. 2022 (ICLR, arXiv 2201.04234), section 4, with negative entropy as the score: as
    many held-out source samples lie below the threshold as are wrong, and target samples that
    reach it count as right. `source_scores`, `correct` (bool) and `weight` (n,) of the source,
    `target_scores` (m,).
    """
    order = np.argsort(source_scores, kind="stable")
    before = (np.cumsum(weight[order]) - weight[order]) / weight.sum()
    error_rate = 1 - float(np.average(correct, weights=weight))
    first = int(np.searchsorted(before, error_rate - 1e-9))
    return (
        float((target_scores >= source_scores[order[first]]).mean()) if first < len(order) else 0.0
    )


@dataclass(frozen=True, eq=False)
class ReverseValidation:
    """Reverse validation, per held-out source sample and per target sample."""

    correct: np.ndarray
    """(held out,) bool: by a classifier of the kept target samples"""
    reference: np.ndarray
    """(held out,) bool: by one of as many source samples, drawn at random"""
    changed: np.ndarray
    """(target,) bool: whether one of all source samples gives another class when it learns the kept
    ones too"""


def reverse_validate(
    train_pair: tuple[np.ndarray, np.ndarray],
    pseudo_pair: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    target: np.ndarray,
    seed: int,
) -> ReverseValidation:
    """Train on the target's pseudo-labels and be judged by source labels.

    Zhong et al. 2010 (ECML, reverse validation), Ganin et al. 2016 (JMLR 17, section 5.1.2). Pairs
    are features (n, d) and class ids (n,): source samples trained on, kept target samples of two
    classes at least, and source samples held out.
    """
    rng = np.random.default_rng(seed)
    source, labelled = (_subsample(x, _MAX_FITTED, rng) for x in (train_pair, pseudo_pair))
    source_subset = source[0][: len(labelled[1])], source[1][: len(labelled[1])]
    combined = np.concatenate([source[0], labelled[0]]), np.concatenate([source[1], labelled[1]])
    from_pseudo, reference, before, after = (
        _fitted(x, seed) for x in (labelled, source_subset, source, combined)
    )
    return ReverseValidation(
        from_pseudo.predict(held_out[0]) == held_out[1],
        reference.predict(held_out[0]) == held_out[1],
        before.predict(target) != after.predict(target),
    )


def _subsample(
    pair: tuple[np.ndarray, np.ndarray], max_rows: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """At most so many rows of both, in random order."""
    rows = rng.permutation(len(pair[1]))[:max_rows]
    return pair[0][rows], pair[1][rows]
