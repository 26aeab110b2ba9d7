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
from reproduce.retrieval.experiment import Described, Images, Net, embed_images

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
    plain = embed_images(images, base, net.weights, cache)
    classes = images.classes
    max_components = min(len(classes) - 1, plain.vectors.shape[1])
    before = evaluate_vectors(plain.vectors, classes)

    def evaluate_option(
        name: str, vectors: np.ndarray, ms: float, query_vectors: np.ndarray | None = None
    ) -> Option:
        metrics = evaluate_vectors(vectors, classes, query_vectors=query_vectors)
        return Option(name, metrics, vectors.shape[1], ms, before)

    def reduced(name: str, described: Described) -> Option:
        fitted = Whitening.fit(described.vectors, min(64, max_components), whiten=False)
        vectors = fitted.apply(described.vectors)
        return evaluate_option(name, vectors, described.ms, expansions(vectors, 5, "l2"))

    yield evaluate_option("pooled, Gaussian (the paper's)", plain.vectors, plain.ms)
    for components in (n for n in (16, 32, 64, 128, 256) if n <= max_components):
        for whiten in (False, True):
            fitted = Whitening.fit(plain.vectors, components, whiten=whiten)
            name = f"PCA to {components}" + ", whitened" * whiten
            yield evaluate_option(name, fitted.apply(plain.vectors), plain.ms)
    for n in (3, 5, 10):
        expanded_vectors = expansions(plain.vectors, n, base.norm)
        yield evaluate_option(f"query expansion by {n}", plain.vectors, plain.ms, expanded_vectors)
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
        described = embed_images(images, recipe, net.weights, cache)
        yield evaluate_option(name, described.vectors, described.ms)
    yield reduced("8 turns, PCA to 64, query expansion by 5", described)


def scene_model(vectors: np.ndarray, classes: list[str], ms: float) -> Iterator[Option]:
    """The class scores of a frozen scene model (`geopipe chips train --frozen`) as a feature.

    It learns from every second image with its class; the others ask and are found.
    """
    ids = np.array(classes)
    train_rows, query_rows = slice(0, None, 2), slice(1, None, 2)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    scores = fitted.fit(vectors[train_rows], ids[train_rows]).decision_function(vectors[query_rows])
    others = ids[query_rows].tolist()
    before, after = (evaluate_vectors(v, others) for v in (vectors[query_rows], gaussian(scores)))
    yield Option("pooled, every second image alone", before, vectors.shape[1], ms, before)
    labels = f"{len(ids[train_rows])} labels of the other images seen"
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
    ap_by_mode: dict[str, list[float]] = {"before": [], "like": [], "both": []}
    for q in range(len(names)):
        displayed = [j for j in ids[q].tolist() if j != q][:SHOWN]
        right = names[displayed] == names[q]
        left = np.setdiff1d(np.arange(len(names)), [q, *displayed])
        if not (names[left] == names[q]).any():
            continue
        relevant_vectors, irrelevant_vectors = vectors[displayed][right], vectors[displayed][~right]
        query_vectors = {
            "before": vectors[q],
            "like": rocchio(vectors[q], relevant_vectors, irrelevant_vectors[:0], norm),
            "both": rocchio(vectors[q], relevant_vectors, irrelevant_vectors, norm),
        }
        for mode, query in query_vectors.items():
            order = np.argsort(((vectors[left] - query) ** 2).sum(1), kind="stable")
            relevant = (names[left] == names[q])[order]
            ap_by_mode[mode].append(evaluate_ranking(relevant, int(relevant.sum()))[0])
    return Feedback(*(float(np.mean(ap_by_mode[k])) for k in ("before", "like", "both")))
