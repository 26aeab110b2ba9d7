"""Which cells are looked at, and which of the source are trained on beside the target's."""

import math

import numpy as np

from geopipe.learn.patches import PatchGrid


def at_random(ids: np.ndarray, max_count: int, seed: int) -> np.ndarray:
    """Indices of at most `max_count` cells, of each class its share by turns."""
    if len(ids) <= max_count:
        return np.arange(len(ids))
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(ids))
    rank_in_class = np.empty(len(ids), np.int64)
    for class_id in np.unique(ids):
        class_members = shuffled[ids[shuffled] == class_id]
        rank_in_class[class_members] = np.arange(len(class_members))
    return np.sort(shuffled[np.argsort(rank_in_class[shuffled], kind="stable")][:max_count])


def source_share(
    patches: PatchGrid, source_patches: PatchGrid, mix: float, seed: int
) -> np.ndarray:
    """Source cells of each class, such that their share of the class's cells is `mix`.

    A class without kept cells gets as many as the others have in the mean, so that it is not
    forgotten.
    """
    rng = np.random.default_rng(seed)
    mean_count = len(patches) / max(len(patches.by_class), 1)
    sampled = []
    for class_id, class_indices in sorted(source_patches.by_class.items()):
        pseudo_count = len(patches.by_class.get(class_id, ())) or mean_count
        count = math.ceil(pseudo_count * mix / (1 - mix))
        sampled.append(rng.permutation(class_indices)[:count])
    return np.concatenate(sampled)
