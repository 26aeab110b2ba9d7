"""Objects that the image shows and the labels lack: one by one, and how many in all.

Spots of high class likelihood are scored by how much they resemble the spots on labelled objects.
Which share of the labelled objects scores at least s is known; the same share r(s) of the missing
ones does. Of n(s) spots away from labels some are no objects, so n(s) / r(s) bounds the number of
missing objects from above, and tightest where n(s) holds next to no others. The least bound is the
estimate: that of a mixture proportion, Blanchard, Lee and Scott 2010, JMLR 11: 2973-3009.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from rasterio.features import shapes as traced
from scipy import ndimage

from geopipe.grid import Window
from geopipe.register.grid import RegistrationGrid

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Of likelihood: the one that tells most labelled objects apart is taken."""
_BLUR_M = 1.0
_MIN_AREA_M2 = 15.0
"""Smaller spots are no objects."""
_ON_LABEL = 0.3
"""Share of a spot on labels from which on it stands for a labelled object."""
_MARGIN_M = 2.0
"""Spots nearer than this to a label belong to it."""
_MIN_OBJECTS = 20
"""With fewer labelled objects that are seen nothing is known about missing ones."""
_RECALLS = np.linspace(0.3, 0.6, 7)
"""Shares of the labelled objects at which the bound is taken; of the last, spots are listed."""


@dataclass(frozen=True)
class Spot:
    """An object that seems to be missing in the labels."""

    class_id: int
    row: float
    col: float
    """Of its centre, in pixels of the grid."""
    area_m2: float
    likelihood: float
    """Mean likelihood of the class in it."""
    score: float
    """How much it resembles the labelled objects, 0 to 1."""
    rings: np.ndarray
    """(n, 2) row and column of the corners of its outline."""


@dataclass(frozen=True)
class Omission:
    """Missing objects of a class."""

    spots: tuple[Spot, ...]
    """The more certain of them, from the most certain on."""
    expected: float
    """Objects that are missing, with those that are not listed; nan: not known."""

    @property
    def weight(self) -> float:
        """Missing objects for each that is listed."""
        return self.expected / len(self.spots) if self.spots else 0.0


@dataclass(frozen=True)
class Spots:
    """The spots of a class at a threshold, in a part of the scene."""

    traits: np.ndarray
    """(n, k) what they are compared by."""
    on_label: np.ndarray
    """(n,) bool."""
    away: np.ndarray
    """(n,) bool: off every label."""
    positions: np.ndarray
    """(n, 2) row and column."""
    area_m2: np.ndarray
    likelihood: np.ndarray
    pairs: np.ndarray
    """(m, 2) spot, labelled object that it is on."""
    objects: int
    """Labelled objects."""
    object_m2: float
    """Area of all of them."""
    outlines: tuple[np.ndarray, ...] = field(repr=False)
    """Of those that are off every label, in their order."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> "Spots":
        """The spots of several parts as one."""
        spots = np.cumsum([0, *(len(p.on_label) for p in parts)])
        objects = np.cumsum([0, *(p.objects for p in parts)])
        pairs = [p.pairs + np.array([i, j]) for p, i, j in zip(parts, spots, objects, strict=False)]

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(p, name) for p in parts])

        return cls(
            joined("traits"),
            joined("on_label"),
            joined("away"),
            joined("positions"),
            joined("area_m2"),
            joined("likelihood"),
            np.concatenate(pairs),
            int(objects[-1]),
            sum(p.object_m2 for p in parts),
            tuple(o for p in parts for o in p.outlines),
        )

    @property
    def told_apart(self) -> int:
        """Labelled objects that have a spot of their own."""
        return int(min(self.on_label.sum(), len(np.unique(self.pairs[:, 1]))))


def find_spots(
    grid: RegistrationGrid,
    likelihood: np.ndarray,
    valid: np.ndarray,
    labelled: np.ndarray,
    block: Window,
    outer: Window,
) -> tuple[Spots, ...]:
    """The spots centred in `block`, for each threshold; all arrays (h, w) are of `outer`."""
    blurred = ndimage.gaussian_filter(likelihood, _BLUR_M / grid.gsd) * valid
    near = ndimage.distance_transform_edt(~labelled) * grid.gsd <= _MARGIN_M
    objects, count = ndimage.label(labelled & valid)
    inside = _centred(objects, count, block, outer)
    object_m2 = float(np.isin(objects, np.flatnonzero(inside) + 1).sum()) * grid.gsd**2
    number = np.cumsum(inside) - 1
    by_threshold = []
    for threshold in _THRESHOLDS:
        spots, n = ndimage.label(blurred >= threshold)
        sizes = np.bincount(spots.ravel(), minlength=n + 1)[1:] * grid.gsd**2
        kept = _centred(spots, n, block, outer) & (sizes >= _MIN_AREA_M2)
        index = np.flatnonzero(kept) + 1
        renumbered = np.zeros(n + 1, np.int32)
        renumbered[index] = np.arange(1, len(index) + 1)
        spots = renumbered[spots]
        traits, positions = _traits(spots, len(index), blurred, outer)
        at = range(1, len(index) + 1)
        on_label = _means(spots, labelled, len(index)) > _ON_LABEL
        away = ~on_label & (_means(spots, near, len(index)) == 0)
        both = (spots > 0) & (objects > 0)
        keys = np.unique(spots[both].astype(np.int64) * (count + 1) + objects[both])
        overlap = np.stack(np.divmod(keys, count + 1))
        overlap = overlap[:, on_label[overlap[0] - 1] & inside[overlap[1] - 1]]
        by_threshold.append(
            Spots(
                traits,
                on_label,
                away,
                positions,
                sizes[index - 1],
                _means(spots, blurred, len(index)),
                np.stack([overlap[0] - 1, number[overlap[1] - 1]], axis=1).astype(int),
                int(inside.sum()),
                object_m2,
                _outlines(spots, away, outer) if len(at) else (),
            )
        )
    return tuple(by_threshold)


def find_omission(class_id: int, parts: Sequence[tuple[Spots, ...]], seed: int = 0) -> Omission:
    """What is missing of a class, by the spots of all parts of the scene (see the module)."""
    by_threshold = [Spots.joined([part[i] for part in parts]) for i in range(len(_THRESHOLDS))]
    spots = max(by_threshold, key=lambda s: s.told_apart)
    if spots.told_apart < _MIN_OBJECTS:
        return Omission((), np.nan)
    if not spots.away.any():
        return Omission((), 0.0)
    scores = _scores(spots, seed)
    best = np.zeros(spots.objects)
    np.maximum.at(best, spots.pairs[:, 1], scores[spots.pairs[:, 0]])
    bounds = []
    for recall in _RECALLS:
        limit = np.quantile(best, 1 - recall)
        if limit > 0:
            bounds.append((spots.away & (scores >= limit)).sum() / (best >= limit).mean())
            listed = spots.away & (scores >= limit)
    if not bounds:
        return Omission((), np.nan)
    scale = spots.object_m2 / max(spots.area_m2[spots.on_label].sum(), 1.0)
    order = np.flatnonzero(spots.away)
    chosen = [
        Spot(
            class_id,
            float(spots.positions[i, 0]),
            float(spots.positions[i, 1]),
            float(spots.area_m2[i] * scale),
            float(spots.likelihood[i]),
            float(scores[i]),
            spots.outlines[k],
        )
        for k, i in enumerate(order)
        if listed[i]
    ]
    chosen.sort(key=lambda spot: -spot.score)
    return Omission(tuple(chosen), float(min(bounds)))


def _scores(spots: Spots, seed: int) -> np.ndarray:
    """(n,) how much each spot resembles those on labels, by folds that do not hold it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if (~spots.on_label).sum() < _MIN_OBJECTS:  # nothing to tell objects from
        return spots.likelihood
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    chances = cross_val_predict(
        model, spots.traits, spots.on_label, cv=folds, method="predict_proba"
    )
    return np.asarray(chances[:, 1])


def _centred(labels: np.ndarray, count: int, block: Window, outer: Window) -> np.ndarray:
    """(count,) bool: whether the centre of each lies in `block`."""
    if not count:
        return np.zeros(0, bool)
    row, col = np.array(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))).T
    row, col = row + outer.row, col + outer.col
    return np.asarray(
        (row >= block.row) & (row < block.bottom) & (col >= block.col) & (col < block.right)
    )


def _means(labels: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(count,) mean of `values` in each."""
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(labels.ravel(), np.asarray(values, float).ravel(), count + 1)[1:]
    return np.asarray(sums / np.maximum(sizes, 1))


def _traits(
    labels: np.ndarray, count: int, likelihood: np.ndarray, outer: Window
) -> tuple[np.ndarray, np.ndarray]:
    """Size, shape and likelihood of each spot, (count, 5), and its centre, (count, 2).

    Nothing else: by its colours the labelled part of a scene would be told from the rest of it.
    """
    rows, cols = np.indices(labels.shape, dtype=float)
    row, col = _means(labels, rows, count), _means(labels, cols, count)
    across = (
        _means(labels, rows**2, count) - row**2,
        _means(labels, cols**2, count) - col**2,
        _means(labels, rows * cols, count) - row * col,
    )
    half_trace = (across[0] + across[1]) / 2
    root = np.sqrt(np.maximum(((across[0] - across[1]) / 2) ** 2 + across[2] ** 2, 0))
    longer, shorter = (4 * np.sqrt(np.maximum(half_trace + s * root, 0.08)) for s in (1, -1))
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(float)
    highest = np.asarray(ndimage.maximum(likelihood, labels, range(1, count + 1)), float)
    traits = [
        np.log(np.maximum(area, 1)),
        area / (np.pi / 4 * longer * shorter),
        shorter / longer,
        highest.reshape(count),
        _means(labels, likelihood, count),
    ]
    return np.stack(traits, axis=1), np.stack([row + outer.row, col + outer.col], axis=1)


def _outlines(labels: np.ndarray, away: np.ndarray, outer: Window) -> tuple[np.ndarray, ...]:
    """Outer rings (n, 2), row and column, of the spots that are off every label."""
    rings: dict[int, np.ndarray] = {}
    wanted = np.isin(labels, np.flatnonzero(away) + 1)
    for shape, value in traced(labels.astype(np.int32), mask=wanted, connectivity=4):
        xy = np.array(shape["coordinates"][0])
        rings[int(value)] = xy[:, ::-1] + np.array([outer.row, outer.col])
    return tuple(rings[i] for i in sorted(rings))
