"""Settings of the selection of target samples, and the status each sample gets."""

import math
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from geopipe.errors import ConfigError


class SampleStatus(IntEnum):
    """What became of a target sample; one that several rules refuse has the first of them."""

    KEPT = 0
    DUPLICATE = 1
    UNSURE = 2
    DISAGREE = 3
    MIXED = 4
    NEAR = 5
    SURPLUS = 6

    @property
    def describe(self) -> str:
        """The status in words."""
        return _WORDS[self]


_WORDS = {
    SampleStatus.KEPT: "kept",
    SampleStatus.DUPLICATE: "duplicate",
    SampleStatus.UNSURE: "below threshold",
    SampleStatus.DISAGREE: "neighbours disagree",
    SampleStatus.MIXED: "neighbours too mixed",
    SampleStatus.NEAR: "too near another",
    SampleStatus.SURPLUS: "beyond the cap",
}


@dataclass(frozen=True)
class TransferPlan:
    """Which target samples are kept with which label. Raises ConfigError for impossible values.

    Pseudo-labels by a threshold, confirmed by the nearest labelled samples and their entropy: Tong
    et al. 2020 (Remote Sensing of Environment 237, arXiv 1807.05713), the two stages of the sample
    selection. Caps, balance and thinning are added.
    """

    threshold: float = 0.8
    """Least probability of the likeliest class."""
    neighbours: int = 10
    """Nearest labelled source samples that are asked."""
    agreement: float = 0.6
    """Least share of them that are of the pseudo-label's class."""
    entropy: float = 0.6
    """Most entropy of their classes, as a share of log(classes)."""
    cap: int = 1000
    """Most samples of a class."""
    balance: float = 10.0
    """The largest class has at most so many times the samples of the smallest one."""
    least: int = 10
    """A class with fewer has vanished; it does not count as the smallest one."""
    apart: float = 0.25
    """Least distance in features between two kept samples of a class, as a share of the median
    distance from a source sample to the nearest other; 0: any."""
    apart_patches: int = 2
    """Least distance in patches, along rows or columns, between two of a class in an image."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("threshold", "agreement", "entropy"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name in ("neighbours", "cap", "least"):
            value = getattr(self, name)
            _require(_is_integer(value) and value >= 1, name, value, "a whole number from 1")
        for name in ("apart_patches", "seed"):
            value = getattr(self, name)
            _require(_is_integer(value) and value >= 0, name, value, "a whole number from 0")
        _require(1 <= self.balance < math.inf, "balance", self.balance, "from 1")
        _require(0 <= self.apart < math.inf, "apart", self.apart, "from 0")
        _require(self.least <= self.cap, "least", self.least, f"at most cap = {self.cap}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {value} of the transfer plan is not {allowed}")
