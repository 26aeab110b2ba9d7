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
    known: np.ndarray, asked: np.ndarray, k: int, device: str = "cpu"
) -> Neighbours:
    """The `k` rows of `known` (m, d) that are nearest to each row of `asked` (n, d), float32.

    Exact search, block by block: memory does not grow with n x m. `k` is at most m. Of equal
    distances the lower index comes first.
    """
    k = min(k, len(known))
    # Squares of distances are differences of products: around zero they lose least.
    middle = known.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = torch.from_numpy(known - middle).to(device)
    indices = np.empty((len(asked), k), np.int64)
    distances = np.empty((len(asked), k), np.float32)
    for start in range(0, len(asked), _QUERIES):
        here = slice(start, start + _QUERIES)
        query = torch.from_numpy(asked[here] - middle).to(device)
        # A few more than k: the products that rank them are rounded.
        found = _candidates(rows, query, min(k + 4, len(known)))
        exact = torch.stack(
            [(rows[found[:, j]] - query).norm(dim=1) for j in range(found.shape[1])]
        )
        gap, at = exact.T.cpu().numpy(), found.cpu().numpy()
        order = np.lexsort((at, gap))[:, :k]
        indices[here] = np.take_along_axis(at, order, 1)
        distances[here] = np.take_along_axis(gap, order, 1)
    return Neighbours(indices, distances)


def _candidates(rows: torch.Tensor, query: torch.Tensor, k: int) -> torch.Tensor:
    """(queries, k) indices of the nearest rows, in any order."""
    values = query.new_empty((len(query), 0))
    found = torch.empty((len(query), 0), dtype=torch.int64, device=query.device)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        squares = torch.addmm(block.square().sum(1)[None], query, block.T, alpha=-2)
        low, at = squares.topk(min(k, len(block)), dim=1, largest=False, sorted=False)
        values, found = torch.cat([values, low], 1), torch.cat([found, at + start], 1)
        values, best = values.topk(min(k, values.shape[1]), dim=1, largest=False, sorted=False)
        found = found.gather(1, best)
    return found


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
