"""The labelled source samples that are nearest to target samples, in bounded memory."""

from dataclasses import dataclass

import numpy as np
import torch

_QUERIES = 2048
_BLOCK = 16384
"""Distances of so many queries to so many samples are held at once (128 MB)."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each query the k nearest, nearest first."""

    indices: np.ndarray
    """(n, k) int64; -1 where nothing was asked"""
    distances: np.ndarray
    """(n, k) float32, Euclidean; inf where nothing was asked"""


def nearest_neighbours(
    reference: np.ndarray, queries: np.ndarray, k: int, device: str = "cpu"
) -> Neighbours:
    """The `k` rows of `reference` (m, d) that are nearest to each row of `queries` (n, d), float32.

    Exact search, block by block: memory does not grow with n x m. `k` is at most m. Of equal
    distances the lower index comes first.
    """
    k = min(k, len(reference))
    # Squares of distances are differences of products: around zero they lose least.
    center = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = torch.from_numpy(reference - center).to(device)
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _QUERIES):
        batch = slice(start, start + _QUERIES)
        query = torch.from_numpy(queries[batch] - center).to(device)
        # A few more than k: the products that rank them are rounded.
        candidates = _candidates(rows, query, min(k + 4, len(reference)))
        exact = torch.stack(
            [(rows[candidates[:, j]] - query).norm(dim=1) for j in range(candidates.shape[1])]
        )
        gaps, candidate_ids = exact.T.cpu().numpy(), candidates.cpu().numpy()
        order = np.lexsort((candidate_ids, gaps))[:, :k]
        indices[batch] = np.take_along_axis(candidate_ids, order, 1)
        distances[batch] = np.take_along_axis(gaps, order, 1)
    return Neighbours(indices, distances)


def _candidates(rows: torch.Tensor, query: torch.Tensor, k: int) -> torch.Tensor:
    """(queries, k) indices of the nearest rows, in any order."""
    values = query.new_empty((len(query), 0))
    candidates = torch.empty((len(query), 0), dtype=torch.int64, device=query.device)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        squared_distances = torch.addmm(block.square().sum(1)[None], query, block.T, alpha=-2)
        smallest, indices = squared_distances.topk(
            min(k, len(block)), dim=1, largest=False, sorted=False
        )
        values, candidates = (
            torch.cat([values, smallest], 1),
            torch.cat([candidates, indices + start], 1),
        )
        values, best = values.topk(min(k, values.shape[1]), dim=1, largest=False, sorted=False)
        candidates = candidates.gather(1, best)
    return candidates


def agreement(neighbour_classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each row's neighbours (n, k) that are of its label's class (n,); (n,) float64."""
    return np.asarray((neighbour_classes == labels[:, None]).mean(axis=1))


def class_entropy(neighbour_classes: np.ndarray, classes: int) -> np.ndarray:
    """Entropy of the classes of each row's neighbours (n, k), as a share of log(classes); (n,).

    Tong et al. 2020 rank retrieved samples by it: high where several classes look alike.
    """
    counts = (neighbour_classes[:, :, None] == np.arange(classes)).sum(axis=1)
    p = counts / neighbour_classes.shape[1]
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.asarray(-(p * logs).sum(axis=1) / np.log(max(classes, 2)))
