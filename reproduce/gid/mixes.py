"""Class mixes of a target, and accuracy under each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIXES = 30
CONCENTRATION = 1.0
"""Of the Dirichlet distribution: every mix is as likely as any other."""
CROPS = 100
"""Drawn for a mix, with replacement: the rarest class has no more than some 15 crops."""


def class_mixes(classes: int, seed: int) -> np.ndarray:
    """(1 + MIXES, classes) float64, rows of sum 1: the balanced mix, then skewed ones."""
    rng = np.random.default_rng([seed, 7])
    skewed = rng.dirichlet(np.full(classes, CONCENTRATION), MIXES)
    return np.concatenate([np.full((1, classes), 1 / classes), skewed])


def draw(
    mix: np.ndarray, ids: np.ndarray, crops: np.ndarray, among: np.ndarray, seed: int
) -> np.ndarray:
    """Indices of cells such that classes are as frequent as `mix` says.

    `ids` and `crops` (n,) of the cells, `among` (n,) bool: those to draw from. Crops are drawn
    whole, each for the class that most of its cells have; a crop may come more than once.
    """
    rng = np.random.default_rng([seed, 11])
    main = main_classes(ids, crops)
    by_class: dict[int, list[int]] = {}
    for crop in np.unique(crops[among]).tolist():
        by_class.setdefault(main[crop], []).append(crop)
    cells = []
    for class_id, members in sorted(by_class.items()):
        count = round(CROPS * float(mix[class_id]))
        drawn = rng.choice(members, count)
        cells += [np.flatnonzero(among & (crops == crop)) for crop in drawn]
    return np.concatenate(cells)


def main_classes(ids: np.ndarray, crops: np.ndarray) -> dict[int, int]:
    """Crop -> the class of most of its cells."""
    return {int(c): int(np.bincount(ids[crops == c]).argmax()) for c in np.unique(crops)}


@dataclass(frozen=True)
class Accuracy:
    """Overall accuracy, percent."""

    balanced: float
    """Over the classes at equal weight."""
    mixes: tuple[float, ...]
    """Over each skewed mix."""

    @classmethod
    def of(cls, per_mix: list[np.ndarray], mixes: np.ndarray) -> Accuracy:
        """From recalls (classes,) of the model adapted to each mix; a class without a cell is nan.

        A mix's overall accuracy is the mean of the recalls by its shares.
        """
        values = []
        for recall, mix in zip(per_mix, mixes, strict=True):
            known = np.isfinite(recall)
            values.append(100 * float((recall[known] * mix[known]).sum() / mix[known].sum()))
        return cls(values[0], tuple(values[1:]))


def over_mixes(
    recalls_of: Callable[[np.ndarray], np.ndarray],
    drawn: Sequence[np.ndarray],
    mixes: np.ndarray,
    *,
    once: bool,
) -> dict[str, Any]:
    """``balanced`` accuracy and those of the skewed ``mixes``, percent.

    `recalls_of`: cells that were drawn for a mix -> recalls (classes,) of the model adapted to
    them; with `once`, the model is not adapted, and its recalls are those of any mix.
    """
    scored = [recalls_of(cells) for cells in (drawn[:1] if once else drawn)]
    accuracy = Accuracy.of(scored * (len(drawn) // len(scored)), mixes)
    return {"balanced": accuracy.balanced, "mixes": list(accuracy.mixes)}


def recalls(predicted: np.ndarray, ids: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) share of the cells of each class that are right; nan without any."""
    counts = np.bincount(ids, minlength=classes)
    right = np.bincount(ids[predicted == ids], minlength=classes)
    return np.where(counts > 0, right / np.maximum(counts, 1), np.nan)
