"""One axis of the network's grid over that of the scene, in whole numbers."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_DENOMINATOR = 1000
"""Scene pixels per network pixel are a fraction with at most this below its line."""


@dataclass(frozen=True, slots=True)
class GridAxis:
    """Network pixel i covers the scene pixels [(i p - lead) / q, ((i + 1) p - lead) / q).

    p / q is the number of scene pixels per network pixel; `lead` / q of them, less than one
    network pixel, lie under network pixel 0 before the scene begins. Whole numbers, since the same
    ground has to get the same weights in files that begin elsewhere: floating point positions
    would differ in their last bits.
    """

    p: int
    q: int = 1
    lead: int = 0

    @classmethod
    def of(cls, factor: float, origin: int = 0) -> "GridAxis":
        """The axis for a `factor` and a scene whose pixel 0 is number `origin` from the anchor."""
        ratio = _ratio(factor)
        return cls(ratio.numerator, ratio.denominator, origin * ratio.denominator % ratio.numerator)

    @property
    def factor(self) -> float:
        """Scene pixels per network pixel."""
        return self.p / self.q

    @property
    def start(self) -> float:
        """Where network pixel 0 begins, in scene pixels: 0 or a little less."""
        return -self.lead / self.q

    def count(self, size: int) -> int:
        """Network pixels over the first `size` scene pixels, at least one."""
        return max(1, -(-(size * self.q + self.lead) // self.p))

    def averaged_from(self, start: int, stop: int) -> tuple[int, int]:
        """First and one past the last scene pixel under network pixels `start` to `stop` - 1."""
        return (start * self.p - self.lead) // self.q, -(-(stop * self.p - self.lead) // self.q)

    def interpolated_from(self, pixel: int) -> int:
        """The network pixel whose centre is the last one not after that of a scene pixel."""
        return ((2 * pixel + 1) * self.q + 2 * self.lead - self.p) // (2 * self.p)


@lru_cache(maxsize=256)
def _ratio(factor: float) -> Fraction:
    return Fraction(factor).limit_denominator(MAX_DENOMINATOR)
