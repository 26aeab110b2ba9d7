"""Beyond the paper: what each option gains, and what feedback does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geopipe.retrieve import RetrievalMetrics, evaluate_vectors
from geopipe.retrieve.embedding import EmbeddingConfig
from geopipe.retrieve.measures import evaluate_ranking
from geopipe.retrieve.normalization import Norm, Whitening, expanded, gaussian, rocchio
from geopipe.retrieve.search import exact
from reproduce.retrieval.experiment import Described, Images, Net, describe

SHOWN = 10
"""Images that a user looks at before saying yes and no."""


@dataclass(frozen=True)
class Option:
    """One way beyond the paper."""

    name: str
    metrics: RetrievalMetrics
    width: int
    ms: float
    """Per image, of the net."""
    base: RetrievalMetrics
    """What its gain is measured against."""


def options(images: Images, net: Net, cache: Path) -> Iterator[Option]:
    """The pooled feature of `net`, and it with each option alone, then some together."""
    base = EmbeddingConfig(net.backbone, "pooled")
    plain = describe(images, base, net.weights, cache)
    classes = images.classes
    most = min(len(classes) - 1, plain.vectors.shape[1])
    before = evaluate_vectors(plain.vectors, classes)

    def judged(
        name: str, vectors: np.ndarray, ms: float, moved: np.ndarray | None = None
    ) -> Option:
        found = evaluate_vectors(vectors, classes, moved=moved)
        return Option(name, found, vectors.shape[1], ms, before)

    def reduced(name: str, found: Described) -> Option:
        fitted = Whitening.fit(found.vectors, min(64, most), whiten=False)
        vectors = fitted.apply(found.vectors)
        return judged(name, vectors, found.ms, expansions(vectors, 5, "l2"))

    yield judged("pooled, Gaussian (the paper's)", plain.vectors, plain.ms)
    for components in (n for n in (16, 32, 64, 128, 256) if n <= most):
        for whiten in (False, True):
            fitted = Whitening.fit(plain.vectors, components, whiten=whiten)
            name = f"PCA to {components}" + ", whitened" * whiten
            yield judged(name, fitted.apply(plain.vectors), plain.ms)
    for n in (3, 5, 10):
        moved = expansions(plain.vectors, n, base.norm)
        yield judged(f"query expansion by {n}", plain.vectors, plain.ms, moved)
    yield reduced("PCA to 64, query expansion by 5", plain)
    yield from scene_model(plain.vectors, classes, plain.ms)
    recipes = {
        "length 1 instead of Gaussian": replace(base, norm="l2"),
        "GeM, p = 3, of the last map": replace(base, feature="c5", pooling="gem"),
        "maximum of the last map": replace(base, feature="c5", pooling="max"),
        "256 px": replace(base, side=256),
        "scales 1 and 0.7": replace(base, scales=(1.0, 0.7)),
        "4 turns": replace(base, rotations=4),
        "8 turns and mirror images": replace(base, rotations=8),
    }
    for name, recipe in recipes.items():
        found = describe(images, recipe, net.weights, cache)
        yield judged(name, found.vectors, found.ms)
    yield reduced("8 turns, PCA to 64, query expansion by 5", found)


def scene_model(vectors: np.ndarray, classes: list[str], ms: float) -> Iterator[Option]:
    """The class scores of a frozen scene model (`geopipe chips train --frozen`) as a feature.

    It learns from every second image with its class; the others ask and are found.
    """
    ids = np.array(classes)
    taught, asked = slice(0, None, 2), slice(1, None, 2)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    scores = fitted.fit(vectors[taught], ids[taught]).decision_function(vectors[asked])
    others = ids[asked].tolist()
    before, after = (evaluate_vectors(v, others) for v in (vectors[asked], gaussian(scores)))
    yield Option("pooled, every second image alone", before, vectors.shape[1], ms, before)
    labels = f"{len(ids[taught])} labels of the other images seen"
    yield Option(f"scores of a scene model, {labels}", after, scores.shape[1], ms, before)


def expansions(vectors: np.ndarray, number: int, norm: Norm) -> np.ndarray:
    """(n, d): each vector with the first it finds, itself left out."""
    _, ids = exact(vectors, vectors, number + 1)
    out = []
    for i, row in enumerate(ids):
        others = [j for j in row.tolist() if j != i][:number]
        out.append(expanded(vectors[i], vectors[others], norm))
    return np.array(out)


@dataclass(frozen=True)
class Feedback:
    """mAP over the images that the user has not judged, before and after."""

    before: float
    like: float
    both: float


def feedback(vectors: np.ndarray, classes: list[str], norm: Norm) -> Feedback:
    """Every image asks; the user says yes and no to the SHOWN first hits by their class.

    Judged on all other images alone, so that what was shown does not count twice.
    """
    names = np.array(classes)
    _, ids = exact(vectors, vectors, SHOWN + 1)
    found: dict[str, list[float]] = {"before": [], "like": [], "both": []}
    for q in range(len(names)):
        shown = [j for j in ids[q].tolist() if j != q][:SHOWN]
        right = names[shown] == names[q]
        left = np.setdiff1d(np.arange(len(names)), [q, *shown])
        if not (names[left] == names[q]).any():
            continue
        good, bad = vectors[shown][right], vectors[shown][~right]
        asked = {
            "before": vectors[q],
            "like": rocchio(vectors[q], good, bad[:0], norm),
            "both": rocchio(vectors[q], good, bad, norm),
        }
        for way, query in asked.items():
            order = np.argsort(((vectors[left] - query) ** 2).sum(1), kind="stable")
            relevant = (names[left] == names[q])[order]
            found[way].append(evaluate_ranking(relevant, int(relevant.sum()))[0])
    return Feedback(*(float(np.mean(found[k])) for k in ("before", "like", "both")))
