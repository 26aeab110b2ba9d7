"""Choose target samples to train on: a confident label that the nearest source samples confirm."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from geopipe.learn.transfer.plan import Fate, TransferPlan
from geopipe.learn.transfer.retrieve import Neighbours, agreement, class_entropy, nearest
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples, require_same_kind
from geopipe.learn.transfer.thin import repeated, spread, typical_distance


@dataclass(frozen=True, eq=False)
class Selection:
    """What became of each target sample."""

    labels: np.ndarray
    """(n,) uint8: the likeliest class, whatever the fate"""
    confidence: np.ndarray
    """(n,) float32: its probability"""
    fates: np.ndarray
    """(n,) uint8, of `Fate`"""
    neighbours: Neighbours
    """Nearest source samples that the model was trained on; for samples that passed stage 1"""
    agreement: np.ndarray
    """(n,) float32: share of the neighbours that are of the class `labels`; nan if not asked"""
    entropy: np.ndarray
    """(n,) float32: of the neighbours' classes, share of log(classes); nan if not asked"""
    classes: int

    @property
    def kept(self) -> np.ndarray:
        """Indices of the kept samples, in their order."""
        return np.flatnonzero(self.fates == Fate.KEPT)

    def counts(self) -> np.ndarray:
        """(classes, fates) int64: samples by pseudo-label and fate."""
        both = self.labels.astype(np.int64) * len(Fate) + self.fates
        size = self.classes * len(Fate)
        return np.bincount(both, minlength=size).reshape(self.classes, len(Fate))

    def table(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Class name -> fate in words -> samples; plain values, for JSON."""
        return {
            name: {fate.says: int(row[fate]) for fate in Fate}
            for name, row in zip(names, self.counts(), strict=True)
        }


def choose(
    source: SourceSamples, target: TargetSamples, plan: TransferPlan, device: str = "cpu"
) -> Selection:
    """Stage 1, pseudo-label assignment; stage 2, relevant-sample retrieval (Tong et al. 2020).

    Neighbours are sought among the source samples that are not held out, so that these can judge
    the choice. Within a class samples whose neighbours are the least mixed come first, and equal
    ones by lot (`plan.seed`): the most confident would be the least new. Equal inputs give an equal
    selection. Raises ConfigError when source and target are not from one model.
    """
    require_same_kind(source, target)
    labels, confidence, fates = assign(target, plan.threshold)
    if target.digests is not None:
        fates[repeated(target.digests, source.digests)] = Fate.DUPLICATE
    asked = np.flatnonzero(fates == Fate.KEPT)
    known = np.flatnonzero(~source.held_out)
    found = nearest(source.features[known], target.features[asked], plan.neighbours, device)
    around = source.classes[known][found.indices]
    classes = target.probabilities.shape[1]
    shares, mixed = agreement(around, labels[asked]), class_entropy(around, classes)
    fates[asked[mixed > plan.entropy]] = Fate.MIXED
    fates[asked[shares < plan.agreement]] = Fate.DISAGREE
    count = len(labels)
    chosen = Selection(
        labels,
        confidence,
        fates,
        Neighbours(
            _filled(count, asked, known[found.indices], -1),
            _filled(count, asked, found.distances, np.inf),
        ),
        _filled(count, asked, shares.astype(np.float32), np.nan),
        _filled(count, asked, mixed.astype(np.float32), np.nan),
        classes,
    )
    _thin(chosen, target, plan, plan.apart * typical_distance(source.features[known], plan.seed))
    return chosen


def assign(target: TargetSamples, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stage 1: the likeliest class (n,) uint8, its probability (n,) float32 and fates (n,) uint8.

    Fates are KEPT where the probability reaches `threshold`, else UNSURE.
    """
    confidence = target.probabilities.max(axis=1)
    fates = np.where(confidence >= threshold, Fate.KEPT, Fate.UNSURE).astype(np.uint8)
    return target.probabilities.argmax(axis=1).astype(np.uint8), confidence, fates


def _thin(chosen: Selection, target: TargetSamples, plan: TransferPlan, distance: float) -> None:
    """Settle the fates of those that passed both stages: near another, surplus, or kept."""
    taken: list[np.ndarray] = []
    for class_id in range(chosen.classes):
        passed = np.flatnonzero((chosen.fates == Fate.KEPT) & (chosen.labels == class_id))
        lot = np.random.default_rng([plan.seed, class_id]).permutation(len(passed))
        order = passed[np.lexsort((lot, chosen.entropy[passed]))]
        positions = None if target.positions is None else target.positions[order]
        kept, near = spread(
            target.features[order], positions, distance, plan.apart_patches, plan.cap
        )
        chosen.fates[passed] = Fate.SURPLUS
        chosen.fates[order[near]] = Fate.NEAR
        taken.append(order[kept])
    there = [len(t) for t in taken if len(t) >= plan.least]
    most = int(plan.balance * min(there)) if there else plan.cap
    for indices in taken:
        chosen.fates[indices[:most]] = Fate.KEPT


def _filled(count: int, at: np.ndarray, values: np.ndarray, rest: float) -> np.ndarray:
    """(count, ...) with `values` at the indices `at` and `rest` elsewhere."""
    full = np.full((count, *values.shape[1:]), rest, values.dtype)
    full[at] = values
    return full
