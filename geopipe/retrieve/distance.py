"""The distance between embeddings: the one module that knows that it is Euclidean."""

import faiss
import numpy as np

DISTANCE_NAME = "Euclidean distance"
FAISS_METRIC = faiss.METRIC_L2
"""By which an approximate search compares vectors."""

Neighbours = tuple[np.ndarray, np.ndarray]
"""Distances (m, k) float32, nearest first, and numbers (m, k) int64; -1 where none."""


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> Neighbours:
    """The min(k, n) nearest of `vectors` (n, d) float32 to each query (m, d) float32."""
    squared_distances, ids = faiss.knn(queries, vectors, min(k, len(vectors)), metric=FAISS_METRIC)
    return np.sqrt(np.maximum(squared_distances, 0)), ids


class Ranker:
    """Orders all of a pool of vectors (n, d) by their distance to queries."""

    def __init__(self, pool: np.ndarray) -> None:
        self._mean = pool.mean(0)  # small numbers lose fewer digits in what follows
        self._pool = pool - self._mean
        self._squared_norms = np.einsum("nd,nd->n", self._pool, self._pool)

    def keys(self, queries: np.ndarray) -> np.ndarray:
        """(m, n) numbers that order the pool as the distances to each query (m, d) do."""
        # + |q|^2 would be the squared distance; it is the same for a whole row.
        return np.asarray(self._squared_norms - 2 * ((queries - self._mean) @ self._pool.T))
