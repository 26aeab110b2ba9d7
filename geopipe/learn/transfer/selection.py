"""Select target samples: a confident label that the nearest source samples confirm."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from geopipe.learn.transfer.diversity import diversity_sample, duplicates, typical_distance
from geopipe.learn.transfer.neighbours import (
    Neighbours,
    agreement,
    class_entropy,
    nearest_neighbours,
)
from geopipe.learn.transfer.plan import SampleStatus, TransferPlan
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples, require_same_kind


@dataclass(frozen=True, eq=False)
class Selection:
    """What became of each target sample."""

    labels: np.ndarray
    """(n,) uint8: the likeliest class, whatever the status"""
    confidence: np.ndarray
    """(n,) float32: its probability"""
    statuses: np.ndarray
    """(n,) uint8, of `SampleStatus`"""
    neighbours: Neighbours
    """Nearest source samples that the model was trained on; for samples that passed stage 1"""
    agreement: np.ndarray
    """(n,) float32: share of the neighbours that are of the class `labels`; nan if not asked"""
    entropy: np.ndarray
    """(n,) float32: of the neighbours' classes, share of log(classes); nan if not asked"""
    classes: int

    @property
    def selected(self) -> np.ndarray:
        """Indices of the kept samples, in their order."""
        return np.flatnonzero(self.statuses == SampleStatus.KEPT)

    def counts(self) -> np.ndarray:
        """(classes, statuses) int64: samples by pseudo-label and status."""
        combined = self.labels.astype(np.int64) * len(SampleStatus) + self.statuses
        size = self.classes * len(SampleStatus)
        return np.bincount(combined, minlength=size).reshape(self.classes, len(SampleStatus))

    def table(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Class name -> status in words -> samples; plain values, for JSON."""
        return {
            name: {status.describe: int(row[status]) for status in SampleStatus}
            for name, row in zip(names, self.counts(), strict=True)
        }


def select(
    source: SourceSamples, target: TargetSamples, plan: TransferPlan, device: str = "cpu"
) -> Selection:
    """Stage 1, pseudo-label assignment; stage 2, relevant-sample retrieval (Tong et al. 2020).

    Neighbours are sought among the source samples that are not held out, so that these can judge
    the choice. Within a class samples whose neighbours are the least mixed come first, and equal
    ones by lot (`plan.seed`): the most confident would be the least new. Equal inputs give an equal
    selection. Raises ConfigError when source and target are not from one model.
    """
    require_same_kind(source, target)
    labels, confidence, statuses = pseudo_label(target, plan.threshold)
    if target.digests is not None:
        statuses[duplicates(target.digests, source.digests)] = SampleStatus.DUPLICATE
    confident = np.flatnonzero(statuses == SampleStatus.KEPT)
    train_rows = np.flatnonzero(~source.held_out)
    neighbours = nearest_neighbours(
        source.features[train_rows], target.features[confident], plan.neighbours, device
    )
    neighbour_classes = source.classes[train_rows][neighbours.indices]
    classes = target.probabilities.shape[1]
    shares, mixed = (
        agreement(neighbour_classes, labels[confident]),
        class_entropy(neighbour_classes, classes),
    )
    statuses[confident[mixed > plan.entropy]] = SampleStatus.MIXED
    statuses[confident[shares < plan.agreement]] = SampleStatus.DISAGREE
    count = len(labels)
    selection = Selection(
        labels,
        confidence,
        statuses,
        Neighbours(
            _filled(count, confident, train_rows[neighbours.indices], -1),
            _filled(count, confident, neighbours.distances, np.inf),
        ),
        _filled(count, confident, shares.astype(np.float32), np.nan),
        _filled(count, confident, mixed.astype(np.float32), np.nan),
        classes,
    )
    _select_diverse(
        selection,
        target,
        plan,
        plan.apart * typical_distance(source.features[train_rows], plan.seed),
    )
    return selection


def pseudo_label(
    target: TargetSamples, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stage 1: the most likely class of each sample, its probability, and its status.

    Returns:
        Classes (n,) uint8, probabilities (n,) float32, statuses (n,) uint8: KEPT where the
        probability reaches `threshold`, else UNSURE.
    """
    confidence = target.probabilities.max(axis=1)
    statuses = np.where(confidence >= threshold, SampleStatus.KEPT, SampleStatus.UNSURE).astype(
        np.uint8
    )
    return target.probabilities.argmax(axis=1).astype(np.uint8), confidence, statuses


def _select_diverse(
    selection: Selection, target: TargetSamples, plan: TransferPlan, distance: float
) -> None:
    """Settle the statuses of those that passed both stages: near another, surplus, or kept."""
    by_class: list[np.ndarray] = []
    for class_id in range(selection.classes):
        candidates = np.flatnonzero(
            (selection.statuses == SampleStatus.KEPT) & (selection.labels == class_id)
        )
        random_order = np.random.default_rng([plan.seed, class_id]).permutation(len(candidates))
        order = candidates[np.lexsort((random_order, selection.entropy[candidates]))]
        positions = None if target.positions is None else target.positions[order]
        selected, too_close = diversity_sample(
            target.features[order], positions, distance, plan.apart_patches, plan.cap
        )
        selection.statuses[candidates] = SampleStatus.SURPLUS
        selection.statuses[order[too_close]] = SampleStatus.NEAR
        by_class.append(order[selected])
    class_counts = [len(t) for t in by_class if len(t) >= plan.least]
    max_count = int(plan.balance * min(class_counts)) if class_counts else plan.cap
    for indices in by_class:
        selection.statuses[indices[:max_count]] = SampleStatus.KEPT


def _filled(count: int, indices: np.ndarray, values: np.ndarray, default: float) -> np.ndarray:
    """(count, ...) with `values` at the indices `indices` and `default` elsewhere."""
    full = np.full((count, *values.shape[1:]), default, values.dtype)
    full[indices] = values
    return full
