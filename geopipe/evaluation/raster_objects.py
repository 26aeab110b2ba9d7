"""Objects of a class in two class maps on one grid: how many there are, and how many agree."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.measure import label

from geopipe.classes import IGNORE
from geopipe.raster.scene import opened

MOST_PX = 100_000_000
"""Larger maps are not compared object by object."""
_LEAST_IOU = 0.5


@dataclass(frozen=True)
class ObjectCounts:
    """Connected areas of one class."""

    truth: int
    mapped: int
    matched: int
    """Pairs of a true and a mapped area whose IoU is above 0.5."""


def count_objects(mapped: Path, truth: Path, class_id: int) -> ObjectCounts | None:
    """Compare the areas of `class_id` where both rasters have a class; None where they are large.

    Both have the same grid. An IoU above 0.5 leaves no choice of partners.
    """
    with opened(mapped) as a, opened(truth) as b:
        if a.width * a.height > MOST_PX:
            return None
        map_ids, true_ids = a.read(1), b.read(1)
    known = (map_ids != IGNORE) & (true_ids != IGNORE)
    map_areas, map_count = label((map_ids == class_id) & known, return_num=True, connectivity=1)
    true_areas, true_count = label((true_ids == class_id) & known, return_num=True, connectivity=1)
    both = (map_areas > 0) & (true_areas > 0)
    pairs, common = np.unique(
        np.stack([map_areas[both], true_areas[both]]), axis=1, return_counts=True
    )
    map_size, true_size = np.bincount(map_areas.ravel()), np.bincount(true_areas.ravel())
    union = map_size[pairs[0]] + true_size[pairs[1]] - common
    matched = int((common > _LEAST_IOU * union).sum())
    return ObjectCounts(int(true_count), int(map_count), matched)
