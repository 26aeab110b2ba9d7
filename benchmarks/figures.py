"""From runs to figures: medians, ratios within a round, and the targets they are held against."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.runners import Run

Rounds = Sequence[Mapping[str, Run]]
"""Of one scene: runner -> run, for each round."""

TARGET_SIZE = 10_000
HELP_SECONDS = 0.5
RSS_MB = 700.0
RSS_GROWTH = 1.05


@dataclass(frozen=True, slots=True)
class Ratio:
    """Loop seconds of one runner over another's, round by round."""

    median: float
    lowest: float
    highest: float


def ratio(rounds: Rounds, above: str, below: str) -> Ratio | None:
    """None where they never ran in the same round. Only neighbours in time are compared."""
    ratios = [r[above].seconds / r[below].seconds for r in rounds if above in r and below in r]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def summary(name: str, rounds: Rounds, size: int, equal: float | None) -> dict[str, object]:
    """The figures of one runner over one scene."""
    runs = [r[name] for r in rounds if name in r]
    seconds = [run.seconds for run in runs]
    median = statistics.median(seconds)
    values: dict[str, object] = {
        "seconds": [round(s, 3) for s in seconds],
        "median_seconds": round(median, 3),
        "wall_seconds": [round(run.wall, 2) for run in runs],
        "median_wall_seconds": round(statistics.median(run.wall for run in runs), 2),
        "megapixels_per_second": round(size * size / 1e6 / median, 3),
        "peak_rss_mb": round(peak_rss(runs)),
        "peak_pss_mb": peak_pss(runs),
        "equal_to_geopipe": None if equal is None else round(equal, 6),
        **runs[0].told,
        "rss_curve": {
            "seconds": [t for t, _ in runs[0].watched.curve],
            "mb": [mb for _, mb in runs[0].watched.curve],
        },
    }
    for other in ("limit", "geopipe"):
        against = ratio(rounds, name, other)
        values[f"ratio_to_{other}"] = against and {
            k: round(v, 3) for k, v in asdict(against).items()
        }
    if runs[0].pixels < size * size:
        values["scaled_from_pixels"] = runs[0].pixels
    return values


def peak_rss(runs: Sequence[Run]) -> float:
    """The highest of all rounds, MB."""
    return max(run.watched.peak_rss_mb for run in runs)


def peak_pss(runs: Sequence[Run]) -> int | None:
    """The same with shared pages counted once."""
    peaks = [mb for run in runs if (mb := run.watched.peak_pss_mb) is not None]
    return round(max(peaks)) if peaks else None


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised and what came out."""

    name: str
    sign: str
    """<= or >="""
    wanted: float
    measured: float | None
    """None when it was not measured in this run"""
    at: str
    spread: tuple[float, float] | None = None
    """Lowest and highest of the rounds."""

    @property
    def met(self) -> bool | None:
        """None when it was not measured."""
        if self.measured is None:
            return None
        compare = operator.le if self.sign == "<=" else operator.ge
        return bool(compare(self.measured, self.wanted))

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        spread = self.spread and [round(x, 3) for x in self.spread]
        return {
            "name": self.name,
            "wanted": f"{self.sign} {self.wanted:g}",
            "measured": None if self.measured is None else round(self.measured, 3),
            "spread": spread,
            "met": self.met,
            "at": self.at,
        }


SPEED = (
    ("geopipe's loop over the nets alone", "geopipe", "limit", "<=", 1.10),
    ("tuned loop over geopipe's", "tuned", "geopipe", ">=", 1.0),
    ("tuned loop in threads over geopipe's", "tuned-threads", "geopipe", ">=", 1.0),
    ("plain rasterio loop over geopipe's", "plain", "geopipe", ">=", 2.0),
    ("torchgeo over geopipe's loop", "torchgeo", "geopipe", ">=", 2.2),
    ("refinement as written over geopipe's loop", "as-written", "geopipe", ">=", 12.0),
    ("one worker over two", "geopipe-1-worker", "geopipe-2-workers", ">=", 1.9),
)
"""Name, runner above, runner below, sign, wanted ratio of their loop seconds."""


def targets(rounds: Mapping[int, Rounds], help_seconds: Sequence[float]) -> list[Target]:
    """All targets; those of speed at 10,000 px, or at the largest scene where it was left out."""
    size = TARGET_SIZE if TARGET_SIZE in rounds else max(rounds)
    result = []
    for name, above, below, sign, goal in SPEED:
        r = ratio(rounds[size], above, below)
        median, spread = (r.median, (r.lowest, r.highest)) if r else (None, None)
        result.append(Target(name, sign, goal, median, f"{size} px", spread))
    return [*result, *memory(rounds), quick_help(help_seconds)]


def memory(rounds: Mapping[int, Rounds]) -> list[Target]:
    """Peak RSS of geopipe's process tree: its growth with the scene, and its most."""
    small, large = min(rounds), max(rounds)
    runs = {n: [r["geopipe"] for r in rounds[n] if "geopipe" in r] for n in (small, large)}
    size_text = f"{large} px"
    peak_mb = peak_rss(runs[large]) if runs[large] else None
    growth = peak_mb / peak_rss(runs[small]) if peak_mb and runs[small] and small < large else None
    return [
        Target(
            "peak RSS, large scene over small",
            "<=",
            RSS_GROWTH,
            growth,
            f"{size_text} / {small} px",
        ),
        Target("peak RSS, MB", "<=", RSS_MB, peak_mb, size_text),
    ]


def quick_help(seconds: Sequence[float]) -> Target:
    """How long a user waits for ``geopipe --help``."""
    spread = (min(seconds), max(seconds)) if seconds else None
    median = statistics.median(seconds) if seconds else None
    return Target("geopipe --help, s", "<=", HELP_SECONDS, median, "", spread)
