"""Splits of labelled chips into training and test sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geopipe.errors import ConfigError, LabelError

_NAMED = 5


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers of chips, ascending."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelledChips:
    """What a division goes by."""

    ids: np.ndarray
    """(n,) class of each chip"""
    digests: Sequence[str]
    """Equal where pixels are."""
    names: Sequence[str]
    """Of the classes."""


def folds(chips: LabelledChips, count: int, seed: int) -> list[Split]:
    """Cross-validation: every chip is held out once, each class spread evenly over the folds.

    Chips of equal digest (duplicates, of another class too) are always in the same fold. Raises
    LabelError where a class has fewer different chips than there are folds.
    """
    if count < 2:
        raise ConfigError(f"{count} fold", "at least 2 folds")
    by_class = _groups(chips)
    _require(count, by_class, chips.names, f"{count} folds")
    fold = np.zeros(len(chips.ids), np.int64)
    for class_id, groups in by_class.items():
        sizes = np.zeros(count, np.int64)
        order = np.random.default_rng([seed, class_id]).permutation(len(groups))
        # The first folds must not get the odd chip of every class.
        turn = (np.arange(count) + class_id) % count
        for g in order:
            where = turn[sizes[turn].argmin()]
            fold[groups[g]] = where
            sizes[where] += len(groups[g])
    return [Split(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]


def shares(chips: LabelledChips, share: float, seeds: Sequence[int]) -> list[Split]:
    """Random splits, one for each seed, that learn from `share` of each class.

    Duplicates are kept together as in `folds`. Raises LabelError where a class cannot be divided.
    """
    if not 0 < share < 1:
        raise ConfigError(f"a share of {share:g} to learn from", "between 0 and 1, e.g. 0.8")
    by_class = _groups(chips)
    _require(2, by_class, chips.names, "a part to learn from and one to judge by")
    found = []
    for seed in seeds:
        learn = np.zeros(len(chips.ids), bool)
        for class_id, groups in by_class.items():
            order = np.random.default_rng([seed, class_id]).permutation(len(groups))
            wanted, taken = round(share * sum(map(len, groups))), 0
            for n, g in enumerate(order):
                if (taken and taken + len(groups[g]) > wanted) or n == len(groups) - 1:
                    continue
                learn[groups[g]] = True
                taken += len(groups[g])
        found.append(Split(np.flatnonzero(learn), np.flatnonzero(~learn)))
    return found


def _groups(chips: LabelledChips) -> dict[int, list[np.ndarray]]:
    """Class id -> groups of chips with equal pixels; a group counts for the class of its first."""
    classes = np.unique(chips.ids)
    if len(classes) < 2:
        raise LabelError(
            f"all {len(chips.ids)} chips are of one class, {chips.names[int(classes[0])]}",
            "give a folder for each of two classes or more",
        )
    members: dict[str, list[int]] = {}
    for i, digest in enumerate(chips.digests):
        members.setdefault(digest, []).append(i)
    by_class: dict[int, list[np.ndarray]] = {int(k): [] for k in classes}
    for group in members.values():
        by_class[int(chips.ids[group[0]])].append(np.array(group))
    return by_class


def _require(
    least: int, by_class: dict[int, list[np.ndarray]], names: Sequence[str], what: str
) -> None:
    few = {names[k]: len(groups) for k, groups in by_class.items() if len(groups) < least}
    if few:
        named = ", ".join(f"{name} ({n})" for name, n in list(few.items())[:_NAMED])
        more = ", ..." if len(few) > _NAMED else ""
        raise LabelError(
            f"{len(few)} classes have fewer different chips than {what} take: {named}{more}",
            f"give each at least {least}, or fewer folds",
        )
