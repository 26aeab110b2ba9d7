"""Normalization, whitening and mixing of embeddings."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from geopipe.errors import ConfigError

Norm = Literal["gauss", "l2", "none"]


def gaussian(vectors: np.ndarray) -> np.ndarray:
    """f* = (1 + (f - mu) / (3 sigma)) / 2, mu and sigma of each vector (Ge et al., eq. (2)).

    (n, d) floats to float32; nearly all values lie in 0..1 then. A constant vector becomes 0.5.
    All results have one length around 0.5, so Euclidean distance ranks as correlation does.
    """
    vectors_f64 = vectors.astype(np.float64)
    centred = vectors_f64 - vectors_f64.mean(1, keepdims=True)
    sigma = centred.std(1, keepdims=True)
    scaled = np.divide(centred, 3 * sigma, out=np.zeros_like(centred), where=sigma > 0)
    return np.asarray((1 + scaled) / 2, np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) of length 1, float32; zero stays zero."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    out = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    return np.asarray(out, np.float32)


def normalised(vectors: np.ndarray, norm: Norm) -> np.ndarray:
    """(n, d) float32 as `norm` says."""
    match norm:
        case "gauss":
            return gaussian(vectors)
        case "l2":
            return unit(vectors)
        case "none":
            return vectors.astype(np.float32)


def similarity(vectors: np.ndarray, query: np.ndarray, norm: Norm) -> np.ndarray:
    """(n,) float32, -1..1: the correlation of Gaussian-normalised vectors, of others the cosine."""
    offset = 0.5 if norm == "gauss" else 0.0
    return np.asarray(unit(vectors - offset) @ unit(query[None] - offset)[0])


@dataclass(frozen=True, eq=False)
class Whitening:
    """Principal components of a collection of vectors, perhaps each of variance 1.

    Jegou and Chum 2012 (ECCV), "Negative evidences and co-occurences in image retrieval".
    """

    mean: np.ndarray
    """(d,) float64"""
    axes: np.ndarray
    """(d, m) float64"""

    @classmethod
    def fit(cls, vectors: np.ndarray, components: int, *, whiten: bool = True) -> "Whitening":
        """Learn from (n, d) vectors; ConfigError for more components than they span."""
        max_components = min(len(vectors) - 1, vectors.shape[1])
        if not 1 <= components <= max_components:
            raise ConfigError(
                f"{components} components of {len(vectors)} vectors: 1 to {max_components}"
            )
        mean = vectors.mean(0, dtype=np.float64)
        centred = vectors - mean
        if len(vectors) < vectors.shape[1]:  # the smaller of the two matrices of products
            values, left = np.linalg.eigh(centred @ centred.T)
            values, left = values[::-1][:components], left[:, ::-1][:, :components]
            axes = centred.T @ left / np.sqrt(np.maximum(values, 1e-12))
        else:
            values, axes = np.linalg.eigh(centred.T @ centred)
            values, axes = values[::-1][:components], axes[:, ::-1][:, :components]
        if whiten:
            axes = axes / np.sqrt(np.maximum(values, 1e-12) / len(vectors))
        return cls(mean, axes)

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d) to unit vectors (n, m) float32."""
        return unit((vectors - self.mean) @ self.axes)


def rocchio(
    query: np.ndarray | None, like: np.ndarray, unlike: np.ndarray, norm: Norm
) -> np.ndarray:
    """A query (d,) moved towards the mean of `like` and away from that of `unlike` ((n, d) each).

    q + 0.75 mean(like) - 0.15 mean(unlike), normalised again (Rocchio 1971; weights of Salton and
    Buckley 1990). Without a query the mean of `like` is it. ConfigError without either.
    """
    if query is None:
        if not len(like):
            raise ConfigError("nothing is asked for", "give an image, a `box`, or `like`")
        query = like.mean(0)
    result = query.astype(np.float64)
    # Around 0.5 a sum of Gaussian-normalised vectors would drift; normalising takes it back.
    if len(like):
        result = result + 0.75 * like.mean(0)
    if len(unlike):
        result = result - 0.15 * unlike.mean(0)
    return np.asarray(normalised(result[None], norm)[0])


def expanded(query: np.ndarray, neighbours: np.ndarray, norm: Norm) -> np.ndarray:
    """The mean of a query (d,) and the first vectors it found (n, d), normalised again.

    Average query expansion: Chum et al. 2007 (ICCV), "Total recall".
    """
    mean = np.concatenate([query[None], neighbours]).astype(np.float64).mean(0)
    return np.asarray(normalised(mean[None], norm)[0])
