"""How good a map of buildings and roads is, beyond the IoU of its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy.ndimage import binary_erosion, distance_transform_edt
from shapely.geometry import shape

Mask = NDArray[np.bool_]

MATCHED = 0.5
"""IoU from which on a mapped object is the true one."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of what is mapped that is true, and of what is true that is mapped."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 0 where either is 0, nan without anything to find."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else total


def object_agreement(truth: np.ndarray, mapped: np.ndarray, least_m2: float = 0.0) -> Agreement:
    """Objects found at an IoU of at least MATCHED.

    `truth`, `mapped`: (n,) shapely polygons in metres, none overlapping another of its own array,
    so that at most one mapped object matches a true one. Mapped ones smaller than `least_m2` are
    left out.
    """
    mapped = mapped[shapely.area(mapped) >= least_m2]
    pairs = shapely.STRtree(truth).query(mapped, "intersects")
    a, b = mapped[pairs[0]], truth[pairs[1]]
    shared = shapely.area(shapely.intersection(a, b))
    # More than half: of exactly half there could be two partners.
    matched = shared > MATCHED * (shapely.area(a) + shapely.area(b) - shared)
    hits = len(np.unique(pairs[1][matched]))
    return Agreement(_share(hits, len(mapped)), _share(hits, len(truth)))


def outlines(mask: Mask, plane: Affine) -> np.ndarray:
    """(n,) shapely polygons around pixels that share a side, in the plane's units."""
    result = shapes(mask.astype(np.uint8), mask, connectivity=4, transform=plane)
    return np.array([shape(geometry) for geometry, _ in result], object)


def separate(polygons: np.ndarray) -> np.ndarray:
    """(n,) polygons, those that touch made one: a class map cannot tell them apart."""
    whole = shapely.union_all(polygons)
    return np.array([p for p in shapely.get_parts(whole) if p.geom_type == "Polygon"], object)


def relaxed_agreement(truth: Mask, mapped: Mask, known: Mask, reach_px: float) -> Agreement:
    """Pixels that have one of the other mask within `reach_px` (Mnih and Hinton 2010).

    All (h, w); only pixels of `known` are counted.
    """
    return Agreement(_near(mapped & known, truth, reach_px), _near(truth & known, mapped, reach_px))


def boundary_agreement(truth: Mask, mapped: Mask, known: Mask, reach_px: float) -> Agreement:
    """Pixels of outlines that have one of the other outline within `reach_px`."""
    inner = binary_erosion(known, iterations=2)
    return relaxed_agreement(_edge(truth), _edge(mapped), inner, reach_px)


def area_error(truth: Mask, mapped: Mask, known: Mask) -> float:
    """Mapped area over true area, less 1."""
    return _share((mapped & known).sum(), (truth & known).sum()) - 1


def _edge(mask: Mask) -> Mask:
    edge: Mask = mask & ~binary_erosion(mask)
    return edge


def _near(points: Mask, others: Mask, reach_px: float) -> float:
    if not others.any():
        return 0.0 if points.any() else math.nan
    far = distance_transform_edt(~others)
    return _share((far[points] <= reach_px).sum(), points.sum())


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else math.nan
