"""How small the areas of each class are in the labels."""

import numpy as np
from skimage.measure import label

from geopipe.checkpoint import LABEL_AREAS, Checkpoint
from geopipe.classes import IGNORE
from geopipe.learn.sampler import PatchPool

_LEAST = 100
"""Of fewer areas the smallest hundredth is not known."""
_QUANTILE = 0.01


def learnt_areas(pool: PatchPool, model: Checkpoint) -> dict[str, dict[str, float]]:
    """Small areas of the labels in `pool`, for the provenance of a model that is trained on it.

    Of classes with few areas: what the model has from an earlier training.
    """
    known = model.provenance.get(LABEL_AREAS, {})
    areas = known | small_label_areas(pool, model.scheme.names, model.gsd)
    return {LABEL_AREAS: areas} if areas else {}


def small_label_areas(pool: PatchPool, names: tuple[str, ...], gsd: float) -> dict[str, float]:
    """Class name -> 1 % quantile of the areas of its connected label pixels, in square metres.

    Areas that a block or unknown ground cuts are left out, and classes with few areas.
    """
    result: list[list[np.ndarray]] = [[] for _ in names]
    for block in pool.blocks:
        values = block.labels.astype(np.int16) + 1
        values[block.labels == IGNORE] = 0
        labels, count = label(values, background=0, return_num=True, connectivity=1)
        whole = np.ones(count + 1, bool)
        whole[0] = False
        framed = np.pad(labels, 1)
        for a, b in ((framed[:-1], framed[1:]), (framed[:, :-1], framed[:, 1:])):
            whole[a[b == 0]] = whole[b[a == 0]] = False
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        classes = np.zeros(count + 1, np.uint8)
        classes[labels.ravel()] = block.labels.ravel()
        for class_id, sizes_of in enumerate(result):
            sizes_of.append(sizes[whole & (classes == class_id)])
    areas = {
        name: np.concatenate(sizes) * gsd**2 for name, sizes in zip(names, result, strict=True)
    }
    return {
        name: float(np.quantile(size, _QUANTILE, method="lower"))
        for name, size in areas.items()
        if len(size) >= _LEAST
    }
