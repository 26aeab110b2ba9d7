"""Which of two models to keep: a paired sequential test on the places where they disagree.

Where both models say the same no answer can tell them apart, so only the other places are asked. An
answer counts 1 where the adapted model is right, 0 where the old one is, 1/2 where neither is. Two
hypotheses are tested against each other, that the mean of these is at most 1/2 and that it is at
least 1/2, each by betting on its failure (Waudby-Smith and Ramdas 2024, JRSS B 86:1-27, section 4):
capital that starts at 1 and that a true hypothesis cannot be expected to increase. By Ville's
inequality it reaches 1 / error with a probability of at most `error`, however often one looks.
"""

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np

from geopipe.errors import ConfigError

_BETS = np.arange(1, 20) / 20
"""Shares of the capital that are bet; the capital is the mean over them, a mixture martingale."""
_REFUTED = 40
"""Capital that refutes a mean for a 95 % interval, 2.5 % to each side."""
_LEAST = 1e-3
_BISECTIONS = 12
_PATHS = 100
"""Simulated continuations from which the number of further answers is told."""
_MAX_MORE = 400


class Choice(Enum):
    """What the answers say."""

    ADAPTED = "adapted"
    OLD = "old"
    EQUAL = "equal"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class TestPlan:
    """Error rates of the test."""

    __test__ = False  # no test of pytest's
    error: float = 0.05
    """The largest probability of keeping the worse model."""
    margin: float = 1.0
    """Points of accuracy on the target; models that differ by less are as good as each other."""

    def __post_init__(self) -> None:
        if not (0 < self.error < 0.5 and self.margin >= 0):
            raise ConfigError(
                f"an error rate of {self.error:g} and a margin of {self.margin:g} points",
                "give a rate between 0 and 0.5, and a margin from 0",
            )


@dataclass(frozen=True)
class Decision:
    """What the answers so far say of the two models."""

    choice: Choice
    used: int
    """Answers after which the test stopped, or all of them."""
    wins: int
    """Of these, places where the adapted model is right."""
    losses: int
    """Places where the old one is right."""
    gain: tuple[float, float, float]
    """Points of accuracy on the target that the adapted model gains: estimate, and 95 % interval
    that holds at any number of answers."""
    more: int
    """Answers that the test would still want (the median of simulated continuations)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "choice": self.choice.value, "sentence": self.sentence()}

    def sentence(self) -> str:
        """In words."""
        gain, low, high = self.gain
        text = {
            Choice.ADAPTED: "The adapted model is better and is kept",
            Choice.OLD: "The old model is better and is kept",
            Choice.EQUAL: "The two models are as good as each other; the old one is kept",
            Choice.UNDECIDED: "The answers do not decide yet; the old model is kept",
        }[self.choice]
        right = f"{self.wins} answers for the adapted model, {self.losses} for the old one"
        figures = f"gain {gain:+.1f} points ({low:+.1f} to {high:+.1f})"
        more = f"; about {self.more} more answers are wanted" if self.more else ""
        return f"{text}: {right} of {self.used}, {figures}{more}."


def decide(
    outcomes: np.ndarray,
    population: int,
    share: float,
    plan: TestPlan | None = None,
    *,
    forecast: bool = True,
) -> Decision:
    """Decide between two models as soon as the answers allow it.

    The probability of keeping the worse model is at most `plan.error`, among the target cells that
    were looked at: exactly, at whatever answer it stops, for places drawn independently at random
    (Ville's inequality); for a draw of one place per stratum in random order, at each number of
    answers that is fixed beforehand (the expected capital is a mean of products over subsets of
    strata, at most a power of their mean by Maclaurin's inequality). ``docs/results/gid/ask.md``
    has the rates of simulated audits that stop early. Answers may be missing, if what is missing
    does not depend on which model is right.

    Args:
        outcomes: (n,) in the order of the draw: 1 where the adapted model is right, -1 where the
            old one is, 0 where neither is.
        population: Target cells on which the models disagree, of which the places were drawn.
        share: These as a share of all target cells that were looked at.
        plan: Error rates.
        forecast: Estimate how many more answers the test wants.
    """
    plan = plan or TestPlan()
    x = (1 + np.asarray(outcomes, float)) / 2
    if len(x) > population:
        raise ConfigError(f"{len(x)} answers of {population} places where the models disagree")
    stop, choice = _first_choice(x, population, share, plan)
    low, high = _interval(x[:stop])
    if population:  # the places without an answer cannot change the mean by more
        known, left = float(x[:stop].sum()), population - stop
        low, high = max(low, known / population), min(high, (known + left) / population)
    wins, losses = int((x[:stop] == 1).sum()), int((x[:stop] == 0).sum())
    mean = float(np.clip(x[:stop].mean(), low, high)) if stop else 0.5
    gain = tuple(100 * share * (2 * m - 1) for m in (mean, low, high))
    is_open = choice is Choice.UNDECIDED and forecast
    more = _more(x, population, share, plan) if is_open else 0
    return Decision(choice, stop, wins, losses, (gain[0], gain[1], gain[2]), more)


def _first_choice(
    x: np.ndarray, population: int, share: float, plan: TestPlan
) -> tuple[int, Choice]:
    """After how many answers the test stops, and with what."""
    if 100 * share <= plan.margin:
        return 0, Choice.EQUAL
    better, worse = capital(x, 0.5), capital(1 - x, 0.5)
    balance = np.cumsum(2 * x - 1)
    left = population - np.arange(1, len(x) + 1)
    stops = {
        Choice.ADAPTED: (better >= 1 / plan.error) | (balance > left),
        Choice.OLD: (worse >= 1 / plan.error) | (-balance > left),
        Choice.EQUAL: _within(x, plan.margin / (100 * share)) | ((balance == 0) & (left == 0)),
    }
    first = {v: int(np.argmax(hit)) for v, hit in stops.items() if hit.any()}
    if not first:
        return len(x), Choice.UNDECIDED
    choice = min(first, key=lambda v: first[v])
    return first[choice] + 1, choice


def capital(x: np.ndarray, mean: float) -> np.ndarray:
    """(n,) capital after each of `x` (n,) in [0, 1], by bets against a mean of at most `mean`."""
    if not len(x):
        return np.empty(0)
    growth = np.log1p(_BETS[:, None] * (x[None] / mean - 1)).cumsum(1)
    return np.asarray(np.exp(growth).mean(0))


def _interval(x: np.ndarray) -> tuple[float, float]:
    """Means that 95 % sequences of bets do not refute."""
    if not len(x):
        return 0.0, 1.0
    return _highest_refuted(x), 1 - _highest_refuted(1 - x)


def _highest_refuted(x: np.ndarray) -> float:
    """The largest mean that is refuted as an upper limit of the true one; 0 where none is.

    By bisection: all lower ones are refuted too.
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if capital(x, middle).max() >= _REFUTED:
            low = middle
        else:
            high = middle
    return low


def _within(x: np.ndarray, width: float) -> np.ndarray:
    """(n,) bool: whether the 95 % interval of 2 mean - 1 lies within +- `width`."""
    low, high = max(0.5 - width / 2, _LEAST), min(0.5 + width / 2, 1 - _LEAST)
    is_above = np.maximum.accumulate(capital(x, low)) >= _REFUTED
    return np.asarray(is_above & (np.maximum.accumulate(capital(1 - x, 1 - high)) >= _REFUTED))


def _more(x: np.ndarray, population: int, share: float, plan: TestPlan) -> int:
    """Further answers until the test stops, the median of continuations as the answers so far."""
    rng = np.random.default_rng(0)
    most = min(population - len(x), _MAX_MORE)
    counts = np.array([(x == v).sum() for v in (0, 0.5, 1)]) + np.array([0.5, 0.25, 0.5])
    lengths = []
    for _ in range(_PATHS):
        chances = rng.dirichlet(counts)
        path = rng.choice([0, 0.5, 1], most, p=chances)
        stop, choice = _first_choice(np.concatenate([x, path]), population, share, plan)
        lengths.append(most if choice is Choice.UNDECIDED else stop - len(x))
    return max(1, math.ceil(np.median(lengths)))
