"""Whether a probability of 80 % is right in 80 of 100 cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from geopipe.validation import Count, Schema

BINS = 10


_Share = Annotated[float, Field(ge=0, le=1)]
_OfBins = Field(min_length=BINS, max_length=BINS)


class ReliabilityTable(Schema):
    """What `Reliability.to_dict` tells."""

    expected_calibration_error: _Share
    pixels: Annotated[tuple[Count, ...], _OfBins]
    confidence: Annotated[tuple[_Share, ...], _OfBins]
    accuracy: Annotated[tuple[_Share, ...], _OfBins]


@dataclass(frozen=True)
class Reliability:
    """Pixels of a map in BINS equal bins of the probability of their class."""

    pixels: tuple[int, ...]
    confidence: tuple[float, ...]
    """Mean probability in each bin; 0 where it is empty."""
    accuracy: tuple[float, ...]
    """Share of the pixels that have the right class."""

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray) -> Self:
        """From probabilities (n,) of the mapped classes and whether these are right (n,) bool."""
        return cls.summed([reliability_sums(confidence, right)])

    @classmethod
    def summed(cls, parts: Sequence[np.ndarray]) -> Self:
        """From the sums of parts, each (3, BINS): pixels, probabilities, right ones."""
        pixels, confidence, right = np.sum([np.zeros((3, BINS)), *parts], axis=0)
        count = np.maximum(pixels, 1)
        return cls(
            tuple(pixels.astype(int).tolist()),
            tuple((confidence / count).tolist()),
            tuple((right / count).tolist()),
        )

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of probability and accuracy, by pixels.

        Naeini et al. 2015 (AAAI); 0 to 1.
        """
        gaps = np.abs(np.subtract(self.confidence, self.accuracy))
        return float(np.average(gaps, weights=self.pixels)) if sum(self.pixels) else 0.0

    def rows(self) -> Iterator[tuple[int, float, float]]:
        """Pixels, mean probability and share of right ones of each bin that is not empty."""
        table = zip(self.pixels, self.confidence, self.accuracy, strict=True)
        return (row for row in table if row[0])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "expected_calibration_error": self.ece,
            "pixels": list(self.pixels),
            "confidence": list(self.confidence),
            "accuracy": list(self.accuracy),
        }

    @classmethod
    def from_table(cls, table: "ReliabilityTable") -> Self:
        """Inverse of `to_dict`."""
        return cls(table.pixels, table.confidence, table.accuracy)


def reliability_sums(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(3, BINS) of probabilities (n,) and whether their classes are right, for `summed`."""
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    weights = (np.ones_like(confidence), confidence, right)
    return np.stack([np.bincount(bins, weights=w, minlength=BINS) for w in weights])
