"""Diversity sampling: of samples that are nearly the same, one is enough."""

from collections.abc import Iterator

import numpy as np

from geopipe.learn.transfer.neighbours import nearest_neighbours

_ASKED = 2000
"""Source samples whose distance to the nearest other is looked at."""
_BLOCK = 256


def typical_distance(features: np.ndarray, seed: int) -> float:
    """Median distance from a row of `features` (n, d) to the nearest other that differs from it."""
    rng = np.random.default_rng(seed)
    asked = features[rng.permutation(len(features))[:_ASKED]]
    if len(features) < 2:
        return 0.0
    second = nearest_neighbours(features, asked, 2).distances[:, 1]
    return float(np.median(second[second > 0])) if (second > 0).any() else 0.0


def duplicates(digests: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """(n,) bool: whether the same digest came before, or is among the `known` (m,)."""
    again = np.ones(len(digests), bool)
    again[np.unique(digests, return_index=True)[1]] = False
    return again if known is None else np.asarray(again | np.isin(digests, known))


def diversity_sample(
    features: np.ndarray,
    positions: np.ndarray | None,
    distance: float,
    patches: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Go through the rows in order and take each that is far enough from those taken.

    `features` (n, d); `distance`: least Euclidean distance; `positions` (n, 3) image, row, column:
    in one image, rows or columns must differ by `patches`. Stops at `most`. Returns the indices
    taken and those refused as too near; the rest came too late.
    """
    taken: list[int] = []
    near: list[int] = []
    occupied: set[tuple[int, int, int]] = set()
    around = [(r, c) for r in range(1 - patches, patches) for c in range(1 - patches, patches)]
    for i, closest in _closest(features, taken, distance):
        if len(taken) == most:
            break
        at = (0, 0, 0) if positions is None else tuple(int(x) for x in positions[i])
        if closest < distance or (positions is not None and patches and at in occupied):
            near.append(i)
            continue
        taken.append(i)
        occupied.update((at[0], at[1] + r, at[2] + c) for r, c in around)
    return np.array(taken, np.int64), np.array(near, np.int64)


def _closest(
    features: np.ndarray, taken: list[int], distance: float
) -> Iterator[tuple[int, float]]:
    """Each row's index with its distance to the nearest of `taken`, which grows meanwhile."""
    if not distance:
        yield from ((i, np.inf) for i in range(len(features)))
        return
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        before = len(taken)
        far = np.full(len(block), np.inf, np.float32)
        if before:
            far = nearest_neighbours(features[taken], block, 1).distances[:, 0]
        for j, row in enumerate(block):
            fresh = features[taken[before:]]
            inside = np.linalg.norm(fresh - row, axis=1).min() if len(fresh) else np.inf
            yield start + j, float(min(far[j], inside))
