"""Whether training on chosen target samples is likely to gain anything, told without target labels.

No such figure is certain: without assumptions on the shift the target's accuracy cannot be known
(Garg et al. 2022, section 3). So several are asked, and one that warns is enough to abstain.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval (bootstrap percentiles); nan where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "unknown"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def as_range(self) -> str:
        """The interval alone, where the middle would say more than is known."""
        if math.isnan(self.low):
            return "unknown"
        return f"between {self.low:.1f} and {self.high:.1f}"

    def times(self, factor: float) -> "Interval":
        """The same in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class AbstainThresholds:
    """When to abstain."""

    separable: float = 0.6
    """AUC of the domain classifier, at its low end, from which domains are taken to differ."""
    reverse_validation: float = 0.6
    """Least skill of reverse validation, 1: like source samples, 0: like guessing."""
    gain: float = 1.0
    """Least points of accuracy to be gained."""
    max_distance: float = 1.8
    """Most distance to the nearest source sample, in distances of held-out source samples."""
    min_pass_ratio: float = 0.25
    """Least share of target samples that pass both stages, in shares of the held-out source's."""
    samples: int = 50
    """Least held-out source samples, and kept ones, that figures are computed from."""


@dataclass(frozen=True)
class Evidence:
    """The figures, and why to abstain."""

    samples: tuple[int, int, int]
    """Held-out source samples, target samples, kept ones."""
    vanished: tuple[int, ...]
    """Ids of source classes that the target seems to lack; see `estimate_gain`."""
    reasons: tuple[str, ...]
    """Why to abstain; empty: go on."""
    domain_auc: Interval = UNKNOWN
    """0.5: source and target look alike; 1: they are told apart without fail."""
    a_distance: float = math.nan
    """Proxy A-distance 2 (1 - 2 error), from 0 to 2 (Ben-David et al. 2010)."""
    distance: float = math.nan
    """Median distance from a target sample to the nearest source sample, divided by that of
    held-out source samples; far from all it knows a net is sure of anything (Sun et al. 2022, ICML,
    arXiv 2204.06507)."""
    passed: float = math.nan
    """Share of target samples that pass both stages, divided by that of held-out source samples."""
    source_accuracy: Interval = UNKNOWN
    """On held-out source samples, weighted to the target's mix of predicted classes."""
    target_accuracy: Interval = UNKNOWN
    """Estimated by average thresholded confidence."""
    accuracy_gap: Interval = UNKNOWN
    """Points of accuracy between the two."""
    reverse_validation: Interval = UNKNOWN
    """Of reverse validation, chance taken off: 1: kept samples teach like source samples."""
    changed: float = math.nan
    """Share of target samples that training on the kept ones gives another class."""
    gain: Interval = UNKNOWN
    """Points of accuracy on the target; see `estimate_gain`."""

    @property
    def proceeds(self) -> bool:
        """Whether nothing speaks against training."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; null for nan."""

        def plain(x: Any) -> Any:
            if isinstance(x, dict):
                return {k: plain(v) for k, v in x.items()}
            if isinstance(x, list | tuple):
                return [plain(v) for v in x]
            return None if isinstance(x, float) and not math.isfinite(x) else x

        return dict(plain(asdict(self)))


def abstain_reasons(
    e: Evidence, thresholds: AbstainThresholds, names: Sequence[str] = ()
) -> Iterator[str]:
    """One sentence for each thing that speaks against training; `names` of the classes."""
    if not e.domain_auc.low >= thresholds.separable:
        yield (
            f"Source and target may be alike: a classifier tells them apart with an AUC of "
            f"{e.domain_auc}, whose low end would have to reach {thresholds.separable:.2f}."
        )
    if not e.distance <= thresholds.max_distance:
        yield (
            f"The target is foreign: its samples lie {e.distance:.2f} times as far from the "
            f"nearest source sample as held-out ones do, and {thresholds.max_distance:.2f} is the "
            "most."
        )
    if not e.passed >= thresholds.min_pass_ratio:
        yield (
            f"Few samples pass: {100 * e.passed:.0f} % of the share of held-out source samples "
            f"that do, and {100 * thresholds.min_pass_ratio:.0f} % is the least."
        )
    if not e.reverse_validation.low >= thresholds.reverse_validation:
        yield (
            f"The pseudo-labels may not teach the source back: reverse validation has a skill of "
            f"{e.reverse_validation}, whose low end would have to reach "
            f"{thresholds.reverse_validation:.2f}."
        )
    if not e.accuracy_gap.low > 0:
        yield (
            "There may be no room for a gain: the source model is estimated to lose "
            f"{e.accuracy_gap} "
            f"points of accuracy on the target, and the low end is not above 0."
        )
    if not e.gain.value >= thresholds.gain:
        yield (
            f"There may be little to gain: {e.gain.as_range} points of accuracy are estimated, and "
            f"the middle would have to reach {thresholds.gain:.1f}."
        )
    if e.vanished:
        class_list = ", ".join(names[i] if names else f"class {i}" for i in e.vanished)
        yield (
            f"No more samples pass as {class_list} than might by mistake, so nothing shows that "
            "the "
            f"target has it; more labelled source images, or more target ones, could tell."
        )
