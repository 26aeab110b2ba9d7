"""Whether one classifier is right more often than another on the same chips."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest, ttest_rel


@dataclass(frozen=True)
class Paired:
    """A compared with B on the held-out chips of the same splits."""

    a: str
    b: str
    points: float
    """Mean difference of overall accuracy, percentage points."""
    only_a: tuple[int, ...]
    """Of each split, the chips that only A is right about..."""
    only_b: tuple[int, ...]
    """...and only B."""
    mcnemar: tuple[float, ...]
    """Exact two-sided p of each split (McNemar 1947: a sign test on these chips)."""
    t_test: float | None
    """Two-sided p of a paired t-test over the splits, of three or more. Splits share chips, so it
    is too small rather than too large."""


def compare(a: str, first: pd.DataFrame, b: str, second: pd.DataFrame) -> Paired:
    """Two tables of predictions (``fold``, ``chip``, ``class``, ``predicted``) of the same splits.

    Raises ValueError where they are of other chips.
    """
    merged = first.merge(second, on=["fold", "chip"], suffixes=("_a", "_b"), validate="one_to_one")
    if not len(first) == len(second) == len(merged):
        raise ValueError(f"{a} and {b} were judged on other chips")
    right_a = merged["class_a"] == merged["predicted_a"]
    right_b = merged["class_b"] == merged["predicted_b"]
    only_a = (right_a & ~right_b).groupby(merged["fold"]).sum().astype(int).tolist()
    only_b = (right_b & ~right_a).groupby(merged["fold"]).sum().astype(int).tolist()
    shares = [(right.groupby(merged["fold"]).mean()).tolist() for right in (right_a, right_b)]
    differences = [100 * (x - y) for x, y in zip(*shares, strict=True)]
    t = ttest_rel(*shares).pvalue if len(differences) > 2 and len(set(differences)) > 1 else None
    p = tuple(
        float(binomtest(x, x + y).pvalue) if x + y else 1.0
        for x, y in zip(only_a, only_b, strict=True)
    )
    return Paired(
        a,
        b,
        statistics.mean(differences),
        tuple(only_a),
        tuple(only_b),
        p,
        None if t is None else float(t),
    )
