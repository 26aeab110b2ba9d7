"""How good a ranking is: average precision, ANMRR, precision and recall.

Of a query q, NG(q) items are relevant: those of its class, without itself. Ranks start at 1.

    AP(q)   = 1/NG(q) * sum over relevant items k of precision at rank(k);  mAP is its mean
    K(q)    = min(4 NG(q), 2 max over all queries of NG)
    Rank(k) = rank(k) where that is at most K(q), else 1.25 K(q)
    AVR(q)  = 1/NG(q) * sum of Rank(k)
    MRR(q)  = AVR(q) - 0.5 (1 + NG(q))
    NMRR(q) = MRR(q) / (1.25 K(q) - 0.5 (1 + NG(q)))
    ANMRR   = mean of NMRR(q): 0 where every relevant item comes first, 1 where none is found

(MPEG-7; Manjunath, Ohm, Vasudevan, Yamada 2001, "Color and texture descriptors", IEEE TCSVT 11.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geopipe.errors import ConfigError
from geopipe.retrieve.distance import Ranker

FIRST, LAST = 2, 100
"""Numbers of retrieved images of the precision-recall curve (Ge et al., section 3.5)."""
_QUERIES = 256
"""Queries whose distances to all images are in memory at a time."""


@dataclass(frozen=True, eq=False)
class RetrievalMetrics:
    """What the rankings of many queries are worth."""

    classes: tuple[str, ...]
    class_ids: np.ndarray
    """(q,) int64: the class of each query."""
    ap: np.ndarray
    """(q,) float64"""
    nmrr: np.ndarray
    """(q,) float64"""
    precision: np.ndarray
    """(q, r) float64: at FIRST, FIRST + 1... retrieved images, up to LAST or all there are."""
    recall: np.ndarray
    """(q, r) float64"""
    left_out: tuple[str, ...] = ()
    """Classes of a single image: it has no relevant one."""

    @property
    def mean_ap(self) -> float:
        """mAP over all queries, 0..1."""
        return float(self.ap.mean())

    @property
    def anmrr(self) -> float:
        """Over all queries, 0..1; less is better."""
        return float(self.nmrr.mean())

    @property
    def retrieved(self) -> np.ndarray:
        """(r,) int64: the numbers of retrieved images of the curve."""
        return np.arange(FIRST, FIRST + self.precision.shape[1])

    @cached_property
    def by_class(self) -> dict[str, "RetrievalMetrics"]:
        """Class -> the same of its queries alone."""
        return {
            self.classes[k]: self._subset(self.class_ids == k) for k in np.unique(self.class_ids)
        }

    def _subset(self, mask: np.ndarray) -> "RetrievalMetrics":
        return RetrievalMetrics(
            self.classes,
            self.class_ids[mask],
            self.ap[mask],
            self.nmrr[mask],
            self.precision[mask],
            self.recall[mask],
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            **self._figures(),
            "classes": {name: metrics._figures() for name, metrics in self.by_class.items()},
            "left_out": list(self.left_out),
        }

    def _figures(self) -> dict[str, object]:
        return {
            "queries": len(self.ap),
            "map": self.mean_ap,
            "anmrr": self.anmrr,
            "retrieved": self.retrieved.tolist(),
            "precision": self.precision.mean(0).tolist(),
            "recall": self.recall.mean(0).tolist(),
        }


def evaluate_vectors(
    vectors: np.ndarray,
    class_names: list[str],
    queries: np.ndarray | None = None,
    query_vectors: np.ndarray | None = None,
) -> RetrievalMetrics:
    """Every labelled image, or those of the rows `queries`, asks for all others; itself excluded.

    `vectors`: (n, d) floats, compared as in a search; of equal ones the first comes first.
    `class_names`: n, "" where unknown: those images neither ask nor are found. `query_vectors`: (n,
    d), what the images ask with, if not their vectors. Raises ConfigError when no class has two
    images.
    """
    names, ids, labelled, left_out = _classes(class_names)
    query_rows = np.arange(len(vectors)) if queries is None else queries
    counts = np.bincount(ids[labelled], minlength=len(names))
    query_rows = np.array([q for q in query_rows if ids[q] >= 0 and counts[ids[q]] > 1], np.int64)
    if not len(query_rows):
        raise ConfigError(
            "no class has two images, so nothing is relevant to a query",
            "give a folder per class with several images each",
        )
    pool = vectors[labelled].astype(np.float32)
    pool_index = np.full(len(ids), -1)
    pool_index[labelled] = np.arange(len(labelled))
    largest = int(counts[np.unique(ids[query_rows])].max()) - 1
    parts = [
        evaluate_ranking(ids[labelled][order] == ids[q], largest)
        for q, order in _rankings(
            pool,
            pool_index[query_rows],
            query_rows,
            vectors if query_vectors is None else query_vectors,
        )
    ]
    ap, nmrr, precision, recall = (np.array(x) for x in zip(*parts, strict=True))
    return RetrievalMetrics(names, ids[query_rows], ap, nmrr, precision, recall, left_out)


def _classes(
    class_names: list[str],
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, tuple[str, ...]]:
    """Names, id of each image (-1: none), indices of those that have one, lonely classes."""
    names = tuple(sorted(set(class_names) - {""}))
    number = {name: i for i, name in enumerate(names)}
    ids = np.array([number.get(name, -1) for name in class_names], np.int64)
    labelled = np.flatnonzero(ids >= 0)
    counts = np.bincount(ids[labelled], minlength=len(names))
    return names, ids, labelled, tuple(n for n, c in zip(names, counts, strict=True) if c == 1)


def _rankings(
    pool: np.ndarray, pool_index: np.ndarray, query_rows: np.ndarray, query_vectors: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Each query's row, and the other rows of `pool` by distance.

    `pool_index` is the row of each query in `pool`.
    """
    ranker = Ranker(pool)
    for first in range(0, len(query_rows), _QUERIES):
        rows = query_rows[first : first + _QUERIES]
        own_index = pool_index[first : first + _QUERIES]
        keys = ranker.keys(query_vectors[rows].astype(np.float32))
        keys[np.arange(len(rows)), own_index] = -np.inf  # itself first, and left out
        orders = np.argsort(keys, axis=1, kind="stable")[:, 1:]
        yield from zip(rows.tolist(), orders, strict=True)


def evaluate_ranking(
    relevant: np.ndarray, largest: int
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """AP, NMRR, and precision and recall at FIRST...LAST of one query.

    `relevant`: (n,) bool, the nearest item first, the query not among them, at least one true.
    `largest`: max NG of all queries.
    """
    relevant_counts = np.cumsum(relevant)
    ranks = np.flatnonzero(relevant) + 1
    number = len(ranks)
    ap = float((np.arange(1, number + 1) / ranks).mean())
    limit = min(4 * number, 2 * largest)
    average = np.where(ranks <= limit, ranks, 1.25 * limit).mean()
    ideal = 0.5 * (1 + number)
    nmrr = float((average - ideal) / (1.25 * limit - ideal))
    depths = np.arange(FIRST, min(LAST, len(relevant)) + 1)
    return ap, nmrr, relevant_counts[depths - 1] / depths, relevant_counts[depths - 1] / number
