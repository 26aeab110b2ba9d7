"""Splits of labelled chips into training and test sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geopipe.errors import ConfigError, LabelError

_MAX_LISTED = 5


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
        fold_numbers = (np.arange(count) + class_id) % count
        for g in order:
            smallest_fold = fold_numbers[sizes[fold_numbers].argmin()]
            fold[groups[g]] = smallest_fold
            sizes[smallest_fold] += len(groups[g])
    return [Split(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]


def shares(chips: LabelledChips, share: float, seeds: Sequence[int]) -> list[Split]:
    """Random splits, one for each seed, that learn from `share` of each class.

    Duplicates are kept together as in `folds`. Raises LabelError where a class cannot be divided.
    """
    if not 0 < share < 1:
        raise ConfigError(f"a share of {share:g} to learn from", "between 0 and 1, e.g. 0.8")
    by_class = _groups(chips)
    _require(2, by_class, chips.names, "a part to learn from and one to judge by")
    splits = []
    for seed in seeds:
        is_training = np.zeros(len(chips.ids), bool)
        for class_id, groups in by_class.items():
            order = np.random.default_rng([seed, class_id]).permutation(len(groups))
            target_count, count = round(share * sum(map(len, groups))), 0
            for n, g in enumerate(order):
                if (count and count + len(groups[g]) > target_count) or n == len(groups) - 1:
                    continue
                is_training[groups[g]] = True
                count += len(groups[g])
        splits.append(Split(np.flatnonzero(is_training), np.flatnonzero(~is_training)))
    return splits


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
    minimum: int, by_class: dict[int, list[np.ndarray]], names: Sequence[str], purpose: str
) -> None:
    too_small = {names[k]: len(groups) for k, groups in by_class.items() if len(groups) < minimum}
    if too_small:
        class_list = ", ".join(f"{name} ({n})" for name, n in list(too_small.items())[:_MAX_LISTED])
        suffix = ", ..." if len(too_small) > _MAX_LISTED else ""
        raise LabelError(
            f"{len(too_small)} classes have fewer different chips than {purpose} take: "
            f"{class_list}{suffix}",
            f"give each at least {minimum}, or fewer folds",
        )
