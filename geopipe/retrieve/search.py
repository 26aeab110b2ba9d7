"""Nearest vectors of an index: exactly, or from candidates that an approximate search finds.

Exact search reads the mapped vectors block by block, so it needs no more memory than a block.
Approximate searches (faiss) live in a file beside the vectors; what they find is measured again
with the vectors themselves, and chips that came after they were made are searched exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np

from geopipe.errors import ChipIndexError, ConfigError
from geopipe.files import atomic_file
from geopipe.retrieve.distance import FAISS_METRIC, Neighbours, nearest
from geopipe.retrieve.header import SearchFile
from geopipe.validation import open_regular

Kind = Literal["exact", "ivf", "hnsw", "pq"]
APPROXIMATE_FROM = 200_000
"""Chips from which on an approximate search is made unless another choice is given."""
_BLOCK_BYTES = 64 << 20
_CANDIDATES = 10
"""Candidates per wanted neighbour that are measured again."""
_TRAINING_PER_CLUSTER = 50
"""Vectors per cluster that clusters are learnt from."""
_PROBE_DIVISOR = 16
"""One cluster of so many is looked into, at least 8."""
_PQ_VALUES = 4
"""Values of a vector that share a byte in a product-quantised search."""

_UNTYPED: Any = faiss
"""Constructors whose several forms its types do not tell."""


def exact(vectors: np.ndarray, queries: np.ndarray, k: int, first: int = 0) -> Neighbours:
    """The k nearest of `vectors` (n, d; perhaps mapped) to each query (m, d); equals by number.

    `first`: the number of the first vector.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    rows = max(1, _BLOCK_BYTES // max(1, vectors.shape[1] * 4))
    best = _no_neighbours(len(queries), 0)
    for start in range(0, len(vectors), rows):
        block = np.ascontiguousarray(vectors[start : start + rows], np.float32)
        distances, ids = nearest(block, queries, k)
        best = _merged(best, (distances, np.where(ids >= 0, ids + (start + first), -1)), k)
    return best


def _no_neighbours(queries: int, k: int) -> Neighbours:
    return np.full((queries, k), np.inf, np.float32), np.full((queries, k), -1, np.int64)


def _merged(a: Neighbours, b: Neighbours, k: int) -> Neighbours:
    distances, ids = (np.concatenate(x, 1) for x in zip(a, b, strict=True))
    order = np.lexsort((ids, np.where(ids < 0, np.inf, distances)))[:, :k]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(ids, order, 1)


@dataclass(frozen=True, eq=False)
class Searcher:
    """Finds neighbours in `vectors`, with the help of an approximate search if there is one."""

    vectors: np.ndarray
    """(n, d)"""
    approximate: Any = None
    """A faiss index of the first ones."""

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """The min(k, n) nearest; distances are exact, but an approximate search may miss some."""
        k = min(k, len(self.vectors))
        if self.approximate is None or k < 1:
            return exact(self.vectors, queries, k)
        queries = np.ascontiguousarray(queries, np.float32)
        covered = self.approximate.ntotal
        _, candidates = self.approximate.search(queries, min(k * _CANDIDATES, covered))
        results = _no_neighbours(len(queries), k)
        for i, row in enumerate(candidates):
            ids = np.unique(row[row >= 0])
            distances, order = exact(np.asarray(self.vectors[ids]), queries[i : i + 1], k)
            results[0][i, : distances.shape[1]], results[1][i, : order.shape[1]] = (
                distances[0],
                ids[order[0]],
            )
        if covered == len(self.vectors):
            return results
        return _merged(results, exact(self.vectors[covered:], queries, k, covered), k)

    def recall(self, k: int = 10, queries: int = 64, seed: int = 0) -> float:
        """Share found of the true k nearest of vectors drawn by lot, themselves left out; 0..1."""
        sampled = np.sort(np.random.default_rng(seed).permutation(len(self.vectors))[:queries])
        query_vectors = np.asarray(self.vectors[sampled], np.float32)
        truth, approximate = (
            exact(self.vectors, query_vectors, k + 1)[1],
            self.search(query_vectors, k + 1)[1],
        )
        hit_count = true_count = 0
        for i, a, b in zip(sampled, truth, approximate, strict=True):
            neighbours = a[a != i][:k]
            hit_count += len(np.intersect1d(neighbours, b[b != i][:k]))
            true_count += len(neighbours)
        return hit_count / max(true_count, 1)


def choose_kind(requested: str, count: int) -> Kind:
    """`requested`, where "auto" is exact below LARGE chips and IVF from there on."""
    if requested == "auto":
        return "exact" if count < APPROXIMATE_FROM else "ivf"
    if requested not in ("exact", "ivf", "hnsw", "pq"):
        raise ConfigError(f"no search {requested!r}", "auto, exact, ivf, hnsw or pq")
    return requested  # type: ignore[return-value]  # the line above has checked it


def make(kind: Kind, vectors: np.ndarray, advance: Callable[[int], None] = lambda n: None) -> Any:
    """A faiss index over all `vectors` (n, d), read block by block; None for "exact"."""
    if kind == "exact":
        return None
    count, width = vectors.shape
    if count < 64:
        raise ConfigError(f"{count} chips need no {kind} search", "use exact")
    index = _empty(kind, count, width)
    if not index.is_trained:
        max_training = min(count, _TRAINING_PER_CLUSTER * max(getattr(index, "nlist", 0), 256))
        sampled = np.sort(np.random.default_rng(0).permutation(count)[:max_training])
        index.train(np.ascontiguousarray(vectors[sampled], np.float32))
    rows = max(1, _BLOCK_BYTES // (width * 4))
    for start in range(0, count, rows):
        block = np.ascontiguousarray(vectors[start : start + rows], np.float32)
        index.add(block)
        advance(len(block))
    return index


def _empty(kind: Kind, count: int, width: int) -> Any:
    half = faiss.ScalarQuantizer.QT_fp16
    clusters = max(4, min(int(4 * np.sqrt(count)), count // 39))
    coarse: Any = faiss.IndexFlat(width, FAISS_METRIC)
    index: Any
    if kind == "hnsw":
        index = _UNTYPED.IndexHNSWSQ(width, half, 32, FAISS_METRIC)
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
        return index
    if kind == "ivf":
        index = _UNTYPED.IndexIVFScalarQuantizer(coarse, width, clusters, half, FAISS_METRIC)
    else:
        subvectors = max(p for p in range(1, max(2, width // _PQ_VALUES) + 1) if width % p == 0)
        bits = 8 if count >= 9984 else 4
        index = _UNTYPED.IndexIVFPQ(coarse, width, clusters, subvectors, bits, FAISS_METRIC)
        # Hundreds of clusterings of a few values each: more points would change little.
        index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 10, 64
    index.nprobe = min(clusters, max(8, clusters // _PROBE_DIVISOR))
    index.cp.seed = 0
    return index


def save(index: Any, path: Path) -> int:
    """Write `path`, whole or not at all; returns its bytes."""
    with atomic_file(path, RuntimeError) as part:
        faiss.write_index(index, str(part))
        return part.stat().st_size


def load(folder: Path, info: SearchFile, vectors: np.ndarray) -> Searcher:
    """The searcher that the header's `search` describes, its file mapped from the disk.

    ChipIndexError where the file is missing or damaged.
    """
    path, hint = folder / info.file, "build it anew, with a kind of `search`"
    with open_regular(path, ChipIndexError) as (_, size):
        if size != info.size:
            raise ChipIndexError(f"{path} has {size} bytes, not {info.size}", hint)
    try:
        # What the file says of its sizes is believed up to its own.
        faiss.set_deserialization_vector_byte_limit(max(size, _BLOCK_BYTES))
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except (RuntimeError, MemoryError) as e:
        error_text = " ".join(str(e).split())[:160]
        raise ChipIndexError(f"cannot read {path}: {error_text}", hint) from e
    if index.ntotal > len(vectors) or index.d != vectors.shape[1]:
        raise ChipIndexError(f"{path} is of {index.ntotal} x {index.d} values, not of this index")
    return Searcher(vectors, index)
