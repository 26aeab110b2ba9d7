"""Ways to adapt a head on frozen features to a target without labels, each by its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.decomposition import PCA

from geopipe.learn.patches.head import logistic_regression
from geopipe.learn.transfer import Selection, SourceSamples, TargetSamples, TransferPlan, select
from reproduce.gid.features import DomainFeatures
from reproduce.gid.mixes import recalls

COMPONENTS = 128
"""Main components of the standardised source features that heads are fitted in."""
_LEAST = 6
"""Cells that a class must be predicted for to have a say in statistics by class."""
_SHRINKAGE = 0.1
"""Of covariances towards a multiple of the identity."""

Head = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class World:
    """A source and a target in one kind of features; parts are masks of cells."""

    source: DomainFeatures
    target: DomainFeatures
    kind: str
    classes: int
    train: np.ndarray
    """(n,) bool: source cells that are learnt from; the others are held out"""
    look: np.ndarray
    """(m,) bool: target cells that methods may look at, without labels"""
    test: np.ndarray
    """(m,) bool: target cells that they are judged on"""
    seed: int
    standardize: bool = True

    @cached_property
    def raw(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, sizes, d) of both."""
        return self.source.of(self.kind), self.target.of(self.kind)

    @cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (d,) over the source cells that are learnt from."""
        learnt = self.raw[0][self.train].reshape(-1, self.raw[0].shape[2])
        std = learnt.std(0) + 1e-6
        return learnt.mean(0), std if self.standardize else np.full_like(std, std.mean())

    @cached_property
    def axes(self) -> PCA:
        """The main components."""
        mean, std = self.statistics
        rows = ((self.raw[0][self.train] - mean) / std).reshape(-1, self.raw[0].shape[2])
        return PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit(rows)

    def components(self, features: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """(n, sizes, d) to (n, sizes, components), standardised by these statistics."""
        n, sizes, _ = features.shape
        rows = ((features - mean) / std).reshape(n * sizes, -1)
        return np.asarray(self.axes.transform(rows)).reshape(n, sizes, -1).astype(np.float32)

    @cached_property
    def source_x(self) -> np.ndarray:
        """Components of the source."""
        return self.components(self.raw[0], *self.statistics)

    @cached_property
    def target_x(self) -> np.ndarray:
        """Components of the target, by the source's statistics."""
        return self.components(self.raw[1], *self.statistics)

    @cached_property
    def head(self) -> Head:
        """The source model's."""
        return fit(self.source_x[self.train], self.source.ids[self.train], self.classes)


def fit(features: np.ndarray, ids: np.ndarray, classes: int) -> Head:
    """A head from (n, sizes, d) and ids (n,): to the mean probability (n, classes) over sizes."""
    n, sizes, d = features.shape
    weight, bias, _ = logistic_regression(
        torch.from_numpy(features.reshape(n * sizes, d)),
        torch.from_numpy(np.repeat(ids, sizes).astype(np.int64)),
        classes,
    )
    w, b = weight.numpy(), bias.numpy()

    def head(x: np.ndarray) -> np.ndarray:
        scores = x @ w.T + b
        p = np.exp(scores - scores.max(2, keepdims=True))
        return np.asarray((p / p.sum(2, keepdims=True)).mean(1))

    return head


def without(world: World, drawn: np.ndarray) -> np.ndarray:
    """The source model."""
    del drawn
    return world.head(world.target_x[world.test])


def plain_standardization(world: World, drawn: np.ndarray, share: float = 1.0) -> np.ndarray:
    """The target's own mean and deviation; with `share` below 1 part of the way from the source's
    (the statistics of adaptive batch norm, of the features alone)."""
    rows = world.raw[1][drawn].reshape(-1, world.raw[1].shape[2])
    return _restandardized(world, rows.mean(0), rows.std(0), share)


def partial_standardization(world: World, drawn: np.ndarray) -> np.ndarray:
    """A quarter of the way."""
    return plain_standardization(world, drawn, 0.25)


def class_weighted(world: World, drawn: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Statistics of the target in which every predicted class has equal weight."""
    rows = world.raw[1][drawn]
    mean, std = _by_class(rows, world.head(world.target_x[drawn]).argmax(1), world.classes)
    return _restandardized(world, mean, std, share)


def half_class_weighted(world: World, drawn: np.ndarray) -> np.ndarray:
    """Half of the way to these."""
    return class_weighted(world, drawn, 0.5)


def quarter_class_weighted(world: World, drawn: np.ndarray) -> np.ndarray:
    """A quarter of the way."""
    return class_weighted(world, drawn, 0.25)


def coral(world: World, drawn: np.ndarray) -> np.ndarray:
    """Source features brought to the target's covariance, a new head (Sun et al. 2016, AAAI)."""
    d = world.source_x.shape[2]
    source, target = (
        x.reshape(-1, d) for x in (world.source_x[world.train], world.target_x[drawn])
    )
    moved = (source - source.mean(0)) @ _root(source, -0.5) @ _root(target, 0.5) + target.mean(0)
    head = fit(
        moved.reshape(world.source_x[world.train].shape).astype(np.float32),
        world.source.ids[world.train],
        world.classes,
    )
    return head(world.target_x[world.test])


def expected_priors(world: World, drawn: np.ndarray) -> np.ndarray:
    """Class shares of the target by expectation maximisation (Saerens et al. 2002)."""
    p = world.head(world.target_x[drawn])
    priors = np.full(world.classes, 1 / world.classes)
    for _ in range(50):
        weighted = p * priors * world.classes
        priors = (weighted / weighted.sum(1, keepdims=True)).mean(0)
    return np.asarray(world.head(world.target_x[world.test]) * priors)


def self_training(world: World, drawn: np.ndarray) -> np.ndarray:
    """Tong et al. 2020: pseudo-labels that the nearest source samples confirm; a new head."""
    selection, drawn = choose(world, drawn)
    kept = selection.selected
    return _with_pseudo_labels(world, drawn[kept], selection.labels[kept])


def pseudo_labels(world: World, drawn: np.ndarray) -> np.ndarray:
    """The first stage alone."""
    plan = TransferPlan(seed=world.seed, agreement=0.0, entropy=1.0)
    selection, drawn = choose(world, drawn, plan)
    kept = selection.selected
    return _with_pseudo_labels(world, drawn[kept], selection.labels[kept])


def oracle(world: World, drawn: np.ndarray) -> np.ndarray:
    """The labels of the cells that were looked at."""
    return _with_pseudo_labels(world, drawn, world.target.ids[drawn])


METHODS: Mapping[str, Callable[[World, np.ndarray], np.ndarray]] = {
    "none": without,
    "plain standardisation": plain_standardization,
    "plain standardisation, a quarter": partial_standardization,
    "class-weighted standardisation": class_weighted,
    "class-weighted standardisation, half": half_class_weighted,
    "class-weighted standardisation, a quarter": quarter_class_weighted,
    "CORAL": coral,
    "class shares by EM": expected_priors,
    "pseudo-labels, no retrieval": pseudo_labels,
    "pseudo-labels and retrieval (Tong)": self_training,
    "oracle: labels of the target": oracle,
}


def measure(world: World, method: str, drawn: np.ndarray) -> np.ndarray:
    """(classes,) recall on the test cells of the model adapted to the drawn ones."""
    predicted = METHODS[method](world, drawn).argmax(1)
    return recalls(predicted, world.target.ids[world.test], world.classes)


def choose(
    world: World, drawn: np.ndarray, plan: TransferPlan | None = None
) -> tuple[Selection, np.ndarray]:
    """Tong's two stages on the distinct cells among `drawn`, and these cells."""
    drawn = np.unique(drawn)
    source = SourceSamples(
        world.source_x.mean(1),
        world.head(world.source_x),
        world.source.ids,
        ~world.train,
        images=world.source.crops,
    )
    target = TargetSamples(world.target_x[drawn].mean(1), world.head(world.target_x[drawn]))
    return select(source, target, plan or TransferPlan(seed=world.seed)), drawn


def _with_pseudo_labels(world: World, cells: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if not len(cells):
        return without(world, cells)
    features = np.concatenate([world.source_x[world.train], world.target_x[cells]])
    ids = np.concatenate([world.source.ids[world.train], labels])
    return fit(features, ids, world.classes)(world.target_x[world.test])


def _restandardized(world: World, mean: np.ndarray, std: np.ndarray, share: float) -> np.ndarray:
    old_mean, old_std = world.statistics
    mean = (1 - share) * old_mean + share * mean
    std = (1 - share) * old_std + share * (std + 1e-6)
    return world.head(world.components(world.raw[1][world.test], mean, std))


def _by_class(
    rows: np.ndarray, predicted: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (d,) of (n, sizes, d), each predicted class with equal weight."""
    counts = np.bincount(predicted, minlength=classes)
    weights = np.where(counts >= _LEAST, 1 / np.maximum(counts, 1), 0.0)[predicted]
    weights = weights if weights.any() else np.ones(len(rows))
    shares = (weights / weights.sum() / rows.shape[1])[:, None, None]
    mean = (rows * shares).sum((0, 1))
    return mean, np.sqrt((np.square(rows - mean) * shares).sum((0, 1)))


def _root(rows: np.ndarray, power: float) -> np.ndarray:
    covariance = np.cov(rows.T)
    mean = np.trace(covariance) / len(covariance)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * mean * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray(vectors * np.maximum(values, 1e-9) ** power @ vectors.T)
