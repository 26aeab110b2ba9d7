"""Allocation of sample points to the mapped classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from geopipe.errors import ConfigError
from geopipe.evaluation.assess.olofsson import Z95, sample_size
from geopipe.progress import duration

DOMINANT, OTHER = 0.9, 0.7
"""User's accuracies conjectured for the largest class of a map and for the others."""
MAX_POINTS = 100_000
"""More points than anybody looks at."""
SECONDS_PER_POINT = 20
"""What it takes to look at a point and to choose its class from a list."""
WIDER = (1.5, 2.0, 2.5)
"""Times the width that was asked for: what is offered besides."""


@dataclass(frozen=True)
class SampleSize:
    """What the points are to achieve."""

    per_class: int | None = None
    """Points in each mapped class; None: as many as `half_width` takes."""
    half_width: float = 0.02
    """Half of the 95 % interval of the overall accuracy."""
    minimum: int = 50
    """At least so many points in a rare class (Olofsson et al. 2014, section 3.1.3)."""
    expected: Mapping[str, float] = field(default_factory=dict)
    """Class name -> user's accuracy conjectured for it; DOMINANT and OTHER for the rest."""

    def __post_init__(self) -> None:
        if self.per_class is not None and self.per_class < 2:
            raise ConfigError(
                f"{self.per_class} points per class", "a variance takes at least 2; 50 are usual"
            )
        if not 0 < self.half_width < 0.5:
            raise ConfigError(
                f"an interval of +- {self.half_width:g}", "give a share, e.g. 0.02 for 2 %"
            )
        if self.minimum < 2:
            raise ConfigError(f"a minimum of {self.minimum} points", "a variance takes at least 2")
        for name, accuracy in self.expected.items():
            if not 0 < accuracy < 1:
                raise ConfigError(
                    f"an expected accuracy of {accuracy:g} for '{name}'", "give a share, e.g. 0.8"
                )


@dataclass(frozen=True)
class Allocation:
    """Points of each class, in the order of the ids."""

    points: tuple[int, ...]
    expected: tuple[float, ...]
    """The user's accuracies conjectured."""
    half_width: float
    """Half of the interval of the overall accuracy, if the conjecture is right."""


def allocate(names: Sequence[str], pixels: Sequence[int], size: SampleSize) -> Allocation:
    """Share points out to classes with so many mapped `pixels`; none gets more than it has.

    Eq. 13 says how many a perfect allocation needs. Here rare classes get `minimum`, the rest is
    shared out in proportion to the pixels, so a few more may be needed, and are added.
    """
    unknown = set(size.expected) - set(names)
    if unknown:
        raise ConfigError(
            f"no class '{min(unknown)}' to expect an accuracy of", "classes: " + ", ".join(names)
        )
    n = np.asarray(pixels, np.int64)
    dominant = int(n.argmax())
    expected = tuple(
        size.expected.get(name, DOMINANT if i == dominant else OTHER)
        for i, name in enumerate(names)
    )
    if size.per_class is not None:
        points = np.minimum(n, size.per_class)
        width = _half_width(n, points, expected)
    else:
        total = sample_size(n.tolist(), expected, size.half_width)
        while True:
            points = _proportional(total, n, size.minimum)
            width = _half_width(n, points, expected)
            if width <= size.half_width or (points == n).all() or points.sum() > MAX_POINTS:
                break
            total += max(1, total // 100)
    if points.sum() > MAX_POINTS:
        raise ConfigError(
            f"that takes {points.sum()} points or more, more than {MAX_POINTS}",
            "ask for a wider interval",
        )
    return Allocation(tuple(points.tolist()), expected, width)


def fewer(names: Sequence[str], pixels: Sequence[int], size: SampleSize) -> list[Allocation]:
    """Allocations of clearly fewer points than `size` takes, for wider intervals."""
    if size.per_class is not None:
        return []
    taken, options = sum(allocate(names, pixels, size).points), []
    for factor in WIDER:
        wider = replace(size, half_width=min(0.25, factor * size.half_width))
        option = allocate(names, pixels, wider)
        if sum(option.points) < 0.9 * taken:
            options.append(option)
            taken = sum(option.points)
    return options


def interpretation_time(points: int) -> str:
    """How long an analyst needs for so many points, in words."""
    return duration(points * SECONDS_PER_POINT)


def _proportional(total: int, pixels: np.ndarray, minimum: int) -> np.ndarray:
    """`total` points (classes,) in proportion to `pixels`, but `minimum` in each rare class."""
    rare = pixels == 0
    while True:
        remaining = np.where(rare, 0, pixels)
        left = max(total - minimum * int((rare & (pixels > 0)).sum()), 0)
        points = np.ceil(left * remaining / max(remaining.sum(), 1))
        below = ~rare & (points < minimum)
        if not below.any():
            break
        rare = rare | below
    return np.asarray(np.minimum(np.where(rare, minimum, points).astype(np.int64), pixels))


def _half_width(pixels: np.ndarray, points: np.ndarray, expected: Sequence[float]) -> float:
    """Half of the interval of the overall accuracy that the conjecture leads to (eq. 5)."""
    share = pixels / pixels.sum()
    u = np.asarray(expected)
    unread = (points < pixels) & (points > 0)  # a class looked at in full has no sampling error
    variance = np.square(share[unread]) * (u * (1 - u))[unread] / points[unread]
    return Z95 * math.sqrt(variance.sum())
