"""Diversity sampling: of samples that are nearly the same, one is enough."""

from collections.abc import Iterator

import numpy as np

from geopipe.learn.transfer.neighbours import nearest_neighbours

_MAX_SAMPLED = 2000
"""Source samples whose distance to the nearest other is looked at."""
_BLOCK = 256


def typical_distance(features: np.ndarray, seed: int) -> float:
    """Median distance from a row of `features` (n, d) to the nearest other that differs from it."""
    rng = np.random.default_rng(seed)
    queries = features[rng.permutation(len(features))[:_MAX_SAMPLED]]
    if len(features) < 2:
        return 0.0
    second = nearest_neighbours(features, queries, 2).distances[:, 1]
    return float(np.median(second[second > 0])) if (second > 0).any() else 0.0


def duplicates(digests: np.ndarray, existing: np.ndarray | None = None) -> np.ndarray:
    """(n,) bool: whether the same digest came before, or is among the `existing` (m,)."""
    is_duplicate = np.ones(len(digests), bool)
    is_duplicate[np.unique(digests, return_index=True)[1]] = False
    return (
        is_duplicate if existing is None else np.asarray(is_duplicate | np.isin(digests, existing))
    )


def diversity_sample(
    features: np.ndarray,
    positions: np.ndarray | None,
    distance: float,
    patches: int,
    max_count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Go through the rows in order and take each that is far enough from those taken.

    `features` (n, d); `distance`: least Euclidean distance; `positions` (n, 3) image, row, column:
    in one image, rows or columns must differ by `patches`. Stops at `max_count`. Returns the
    indices taken and those refused as too near; the rest came too late.
    """
    selected: list[int] = []
    too_close: list[int] = []
    occupied: set[tuple[int, int, int]] = set()
    offsets = [(r, c) for r in range(1 - patches, patches) for c in range(1 - patches, patches)]
    for i, closest in _closest(features, selected, distance):
        if len(selected) == max_count:
            break
        position = (0, 0, 0) if positions is None else tuple(int(x) for x in positions[i])
        if closest < distance or (positions is not None and patches and position in occupied):
            too_close.append(i)
            continue
        selected.append(i)
        occupied.update((position[0], position[1] + r, position[2] + c) for r, c in offsets)
    return np.array(selected, np.int64), np.array(too_close, np.int64)


def _closest(
    features: np.ndarray, selected: list[int], distance: float
) -> Iterator[tuple[int, float]]:
    """Each row's index with its distance to the nearest of `selected`, which grows meanwhile."""
    if not distance:
        yield from ((i, np.inf) for i in range(len(features)))
        return
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        before = len(selected)
        nearest_distance = np.full(len(block), np.inf, np.float32)
        if before:
            nearest_distance = nearest_neighbours(features[selected], block, 1).distances[:, 0]
        for j, row in enumerate(block):
            new_features = features[selected[before:]]
            inside = (
                np.linalg.norm(new_features - row, axis=1).min() if len(new_features) else np.inf
            )
            yield start + j, float(min(nearest_distance[j], inside))
