"""How likely an object that the reference lacks is real, and which of them to report.

The network's probability of an object is no share of right objects yet, and an object that the
reference lacks is less likely real than one that it confirms: of 1000 objects of which 900 are
real, a reference that is 90 % complete lacks 90 real ones, and all 100 wrong ones. Both are
estimated here from how often the reference confirms objects of each score, as in learning from
positive and unlabelled samples (Elkan and Noto 2008).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

_CLIP = 0.002
"""Scores are kept this far from 0 and 1, so that their logarithms are finite."""
_LEVEL_SD = 2.0
_SLOPE_SD = 0.5
_SPREAD = 1.5
"""How far the logit of a probability may be from that of the score before the data must say so:
around the mean score it is level + slope x (logit(score) - mean), near mean + 1 x (...). The mean
score of an object's pixels differs less from object to object than the probability that it is
real: where the logits of the scores spread by less than `_SPREAD`, the slope may be steeper."""
_MIN_TRUTH = 20
"""Objects on a ground truth from which on it calibrates."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the score of a mapped object to the probability that it is real."""

    offset: float
    slope: float
    completeness: float
    """Share of the real objects that the reference has."""
    source: str
    """What it rests on: ``truth``, ``reference`` or ``none``."""

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """(n,) that objects with these scores are real, whatever the reference says."""
        return np.asarray(expit(self.offset + self.slope * _logit(scores)))

    def unmatched(self, scores: np.ndarray) -> np.ndarray:
        """(n,) that objects which the reference lacks are real."""
        p, c = self.probability(scores), self.completeness
        return np.asarray(p * (1 - c) / np.maximum(1 - c * p, 1e-12))


@dataclass(frozen=True, slots=True)
class Threshold:
    """Which of the objects that the reference lacks are reported."""

    probability: float
    """The least of those reported; NaN where none is."""
    reported: np.ndarray
    """(n,) bool"""
    expected_false: float
    """Expected share of wrong ones among them; NaN where there is none."""


def calibrate(
    scores: np.ndarray,
    matched: np.ndarray,
    weights: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray] | None = None,
) -> Calibration:
    """Fit the calibration of a class.

    Args:
        scores: (n,) of all mapped objects, 0..1; NaN is left out.
        matched: (n,) bool, whether the reference has the object.
        weights: (n,) what each counts: 1 for a building, the length of a road.
        truth: Scores (k,) of objects on a ground truth, and whether it has them (k,) bool.
    """
    known = np.isfinite(scores)
    if not known.any() or not weights[known].sum():
        return Calibration(0.0, 1.0, 0.0, "none")
    x, y = _logit(scores[known]), matched[known].astype(float)
    w = weights[known] / weights[known].mean()
    if truth is not None and len(truth[0]) >= _MIN_TRUTH:
        ones = np.ones(len(truth[0]))
        offset, slope, _ = _fit(_logit(truth[0]), truth[1].astype(float), ones, complete=True)
        expected = float((w * expit(offset + slope * x)).sum())
        completeness = min(1.0, float((w * y).sum()) / max(expected, 1e-9))
        return Calibration(offset, slope, completeness, "truth")
    return Calibration(*_fit(x, y, w, complete=False), "reference")


def choose_threshold(probabilities: np.ndarray, weights: np.ndarray, max_false: float) -> Threshold:
    """Report as many of (n,) objects as keep the expected share of wrong ones at `max_false`.

    The share is the mean of 1 - probability of what is reported, weighted by `weights` (n,). What
    is more likely wrong than right is not reported, however certain the others are, unless
    `max_false` is above one half: then the least probability is 1 - `max_false`.
    """
    reported = np.zeros(len(probabilities), bool)
    if not len(probabilities):
        return Threshold(math.nan, reported, math.nan)
    order = np.argsort(-probabilities, kind="stable")
    wrong = np.cumsum((weights * (1 - probabilities))[order])
    share = wrong / np.maximum(np.cumsum(weights[order]), 1e-12)
    # Equal probabilities are reported together or not at all.
    last = np.r_[np.diff(probabilities[order]) != 0, True]
    likely = probabilities[order] >= min(0.5, 1 - max_false)
    fits = np.flatnonzero((share <= max_false) & last & likely)
    if not len(fits):
        return Threshold(math.nan, reported, math.nan)
    reported[order[: fits[-1] + 1]] = True
    return Threshold(float(probabilities[order[fits[-1]]]), reported, float(share[fits[-1]]))


def _fit(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, *, complete: bool
) -> tuple[float, float, float]:
    """Offset, slope and completeness of P(y = 1) = completeness x expit(offset + slope x).

    The maximum of the likelihood times the prior of offset and slope; `complete`: 1 is given.
    """
    mean = float(np.average(x, weights=w))
    spread = float(np.sqrt(np.average((x - mean) ** 2, weights=w)))
    slope_sd = _SLOPE_SD * max(1.0, _SPREAD / max(spread, 1e-3))

    def loss(parameters: np.ndarray) -> float:
        level, slope = parameters[:2]
        c = 1.0 if complete else float(expit(parameters[2]))
        p = np.clip(c * expit(level + slope * (x - mean)), 1e-9, 1 - 1e-9)
        fit = -(w * (y * np.log(p) + (1 - y) * np.log1p(-p))).sum()
        prior = ((level - mean) / _LEVEL_SD) ** 2 + ((slope - 1) / slope_sd) ** 2
        return float(fit + prior / 2)

    start = [mean, 1.0] if complete else [mean, 1.0, 1.0]
    bounds = [(-8, 8), (0.0, 20.0)] + ([] if complete else [(-8.0, 8.0)])
    level, slope, *c = map(float, minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
    return level - slope * mean, slope, float(expit(c[0])) if c else 1.0


def _logit(scores: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(scores, _CLIP, 1 - _CLIP)))
