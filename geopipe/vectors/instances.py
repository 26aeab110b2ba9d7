"""Instances: the buildings that one connected area of a class map is made of."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
"""Pixels belong together when they share a side."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How clear the evidence must be that two parts of an area are two objects."""

    neck: float = 0.55
    """A neck this much narrower than the narrower of the two parts it joins separates them."""
    dip: float = 0.2
    """A fall of the probability by this much between two parts separates them. Both add up: half
    of either is enough where the other half is there."""
    blur_px: float = 1.0
    """Standard deviation of the Gaussian that smooths the probability first."""


def split_instances(
    mask: np.ndarray,
    gsd: tuple[float, float],
    min_area: float,
    probability: np.ndarray | None = None,
    options: SplitOptions | None = None,
    *,
    cores: np.ndarray | None = None,
) -> np.ndarray:
    """Tell the objects of `mask` apart by marker-controlled watershed.

    The relief is log(distance to the outline + 1 px), scaled so that a neck of `SplitOptions.neck`
    is a saddle of depth 1, plus the smoothed probability, scaled likewise. Markers are its maxima
    that stand at least 1 above the saddle to a higher one (h-maxima). A region below `min_area` is
    given to the neighbour it shares most of its outline with.

    Args:
        mask: (h, w) bool.
        gsd: Metres on the ground per pixel, down and across.
        min_area: Square metres of the smallest object.
        probability: (h, w) float32 in 0..1, NaN where unknown.
        options: What counts as evidence.
        cores: (h, w) float32 in 0..1, NaN where unknown: the probability of the core of an
            object, which tells more than `probability` and takes its place.

    Returns:
        (h, w) int32: 0 off the mask, else the number of the object, from 1 without a gap. An
        object that is not split is in one piece, if its part of the mask is.
    """
    options = options or SplitOptions()
    relief = _relief(mask, gsd, probability if cores is None else cores, options)
    floor = float(relief.min()) - 2
    relief = np.where(mask, relief, floor)
    lowered = np.where(mask, relief - 1, floor)
    peaks = reconstruction(lowered, relief, footprint=_CROSS)
    markers, count = label(local_maxima(peaks, footprint=_CROSS) & mask, _CROSS)
    if count <= 1:
        return np.asarray(label(mask, _CROSS)[0], np.int32)
    labels = watershed(-relief, markers, mask=mask, connectivity=_CROSS).astype(np.int32)
    return _without_small(labels, min_area / math.prod(gsd))


def _relief(
    mask: np.ndarray,
    gsd: tuple[float, float],
    probability: np.ndarray | None,
    options: SplitOptions,
) -> np.ndarray:
    """(h, w) float64: high inside objects, low between them."""
    pixel = min(gsd)
    distance = distance_transform_edt(np.pad(mask, 1), sampling=gsd)[1:-1, 1:-1]
    relief = np.log(distance + pixel / 2) / -math.log(options.neck)
    if probability is None:
        return np.asarray(relief)
    known = mask & np.isfinite(probability)
    weights = gaussian_filter(known.astype(np.float64), options.blur_px, truncate=3.0)
    values = np.where(known, probability, 0).astype(np.float64)
    smooth = gaussian_filter(values, options.blur_px, truncate=3.0) / np.maximum(weights, 1e-9)
    return np.asarray(relief + np.where(weights > 1e-6, smooth, 0.5) / options.dip)


def _without_small(labels: np.ndarray, min_px: float) -> np.ndarray:
    """`labels` with every region below `min_px` pixels joined to a neighbour, smallest first."""
    count = int(labels.max())
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    borders: dict[int, dict[int, int]] = {i: {} for i in range(1, count + 1)}
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meets = (a != b) & (a > 0) & (b > 0)
        pairs, shared = np.unique(
            np.sort(np.stack([a[meets], b[meets]], axis=1), axis=1), axis=0, return_counts=True
        )
        for (i, j), n in zip(pairs.tolist(), shared.tolist(), strict=True):
            borders[i][j] = borders[i].get(j, 0) + n
            borders[j][i] = borders[j].get(i, 0) + n
    owner = np.arange(count + 1)
    while True:
        small = [i for i in borders if sizes[i] < min_px and borders[i]]
        if not small:
            break
        i = min(small, key=lambda k: (sizes[k], k))
        j = max(borders[i], key=lambda k: (borders[i][k], -k))
        owner[owner == i] = j
        sizes[j] += sizes[i]
        for k, n in borders.pop(i).items():
            del borders[k][i]
            if k != j:
                borders[j][k] = borders[j].get(k, 0) + n
                borders[k][j] = borders[j][k]
    numbers = np.zeros(count + 1, np.int32)
    kept = np.unique(owner[1:])
    numbers[kept] = np.arange(1, len(kept) + 1)
    joined: np.ndarray = numbers[owner[labels]]
    return joined
