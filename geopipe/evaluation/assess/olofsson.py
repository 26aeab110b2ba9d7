"""Estimates from a stratified random sample: accuracies and areas with 95 % intervals.

Olofsson, Foody, Herold, Stehman, Woodcock, Wulder: Good practices for estimating area and assessing
accuracy of land change. Remote Sensing of Environment 148 (2014) 42-57; equations by their numbers.

One thing is more general than there: each point counts with the ground area of its pixel, relative
to the others of its stratum (a ratio estimator, Cochran 1977, section 6.11), because pixels of one
raster need not be of one size on the ground. With equal pixels the equations are the printed ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geopipe.errors import LabelError

Z95 = 1.96
"""Half of a 95 % interval in standard errors, as the paper rounds it (eq. 12)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error; nan where there is none."""

    value: float
    se: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval."""
        return Z95 * self.se

    def times(self, factor: float) -> "Estimate":
        """The same in another unit."""
        return Estimate(self.value * factor, self.se * factor)


@dataclass(frozen=True, eq=False)
class Stratum:
    """What is known of each mapped class before any point is looked at; arrays are (classes,)."""

    names: tuple[str, ...]
    pixels: np.ndarray
    """int64; 0 for a class that the map does not hold"""
    area: np.ndarray
    """float64, area of these pixels on the ground, in any unit"""


@dataclass(frozen=True, eq=False)
class Estimates:
    """Everything estimated from the points; classes in the order of their ids."""

    names: tuple[str, ...]
    counts: np.ndarray
    """(classes, classes) int64 points; rows are the map, columns the truth"""
    proportions: np.ndarray
    """(classes, classes) float64: the error matrix in shares of the area, eq. 4"""
    overall: Estimate
    users: tuple[Estimate, ...]
    producers: tuple[Estimate, ...]
    areas: tuple[Estimate, ...]
    """Of the true classes, in the unit of the strata's area."""

    @property
    def kappa(self) -> float:
        """Cohen's kappa of the proportions; the paper advises against it, agencies ask for it."""
        chance = float(self.proportions.sum(0) @ self.proportions.sum(1))
        return _ratio(self.overall.value - chance, 1 - chance)


def estimate(
    strata: Stratum, mapped: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None
) -> Estimates:
    """Estimate from points with the class ids `mapped` and `truth`, both (points,).

    `weight`: (points,) ground area of each point's pixel in any unit; by default all are equal.
    A stratum with one point of several pixels has no variance, so what depends on it has the
    standard error nan; one whose pixels are all in the sample has none to estimate, and 0. Raises
    LabelError naming the strata without a point.
    """
    k = len(strata.names)
    weight = np.ones(len(mapped)) if weight is None else weight
    counts = np.bincount(mapped * k + truth, minlength=k * k).reshape(k, k)
    _require_points(strata, counts)
    share = strata.area / strata.area.sum()
    rows, variances = np.zeros((k, k)), np.zeros((k, k))
    for i in np.flatnonzero(strata.pixels):
        in_stratum = mapped == i
        rows[i], variances[i] = _row(truth[in_stratum], weight[in_stratum], k)
        if in_stratum.sum() == strata.pixels[i]:
            variances[i] = 0.0
    p = share[:, None] * rows  # eq. 4
    covariances = np.square(share)[:, None] * variances
    hits, hit_spread = np.diagonal(p), np.diagonal(covariances)
    is_mapped = strata.pixels > 0
    users = tuple(
        Estimate(rows[i, i], math.sqrt(variances[i, i])) if is_mapped[i] else _NONE
        for i in range(k)
    )  # eq. 2, 6
    areas = tuple(
        Estimate(p[:, j].sum(), math.sqrt(covariances[:, j].sum())).times(strata.area.sum())
        for j in range(k)
    )  # eq. 9, 10, 11
    return Estimates(
        strata.names,
        counts.astype(np.int64),
        p,
        Estimate(float(hits.sum()), math.sqrt(hit_spread.sum())),  # eq. 1, 5
        users,
        tuple(_producers(p[:, j], covariances[:, j], j) for j in range(k)),
        areas,
    )


_NONE = Estimate(math.nan, math.nan)


def _require_points(strata: Stratum, counts: np.ndarray) -> None:
    empty = np.flatnonzero((strata.pixels > 0) & (counts.sum(1) == 0))
    if empty.size:
        names = ", ".join(f"'{strata.names[i]}'" for i in empty)
        share = strata.area[empty].sum() / strata.area.sum()
        raise LabelError(
            f"no usable point in the mapped class {names}, {100 * share:.3g} % of the area",
            "fill in the truth of at least two points of each mapped class",
        )


def _row(truth: np.ndarray, weight: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the true classes in one stratum and their variances, both (classes,).

    With equal weights the variance is p (1 - p) / (n - 1), that of eq. 5, 6 and 10.
    """
    n = len(truth)
    w = weight / weight.sum()
    p = np.bincount(truth, w, minlength=k)
    if n < 2:
        return p, np.full(k, np.nan)
    is_class = truth[:, None] == np.arange(k)
    scatter = np.square(w[:, None] * (is_class - p)).sum(0)
    return p, scatter * n / (n - 1)


def _producers(p: np.ndarray, covariances: np.ndarray, j: int) -> Estimate:
    """Producer's accuracy of class `j` (eq. 3 and 7).

    `p` is its column of the proportions, `covariances` their variances.
    """
    true = p.sum()
    if not true:
        return _NONE
    accuracy = p[j] / true
    others = np.delete(covariances, j).sum()
    variance = ((1 - accuracy) ** 2 * covariances[j] + accuracy**2 * others) / true**2
    return Estimate(float(accuracy), math.sqrt(variance))


def sample_size(pixels: Sequence[int], expected: Sequence[float], half_width: float) -> int:
    """Points for a 95 % interval of the overall accuracy of +- `half_width`, eq. 13.

    `pixels`: of each stratum; `expected`: the user's accuracy conjectured for it. Cochran 1977,
    eq. 5.25: as few as the best allocation needs.
    """
    total = sum(pixels)
    weights = np.asarray(pixels) / total
    standard_deviations = np.sqrt(np.asarray(expected) * (1 - np.asarray(expected)))
    variance = (half_width / Z95) ** 2 + (weights * standard_deviations**2).sum() / total
    return math.ceil(round(float((weights @ standard_deviations) ** 2 / variance), 6))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan
