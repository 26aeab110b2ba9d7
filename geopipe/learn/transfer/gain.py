"""Estimate the gain of a transfer: resample the measures and list the reasons to abstain."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from geopipe.learn.transfer.evidence import (
    UNKNOWN,
    AbstainThresholds,
    Evidence,
    Interval,
    abstain_reasons,
)
from geopipe.learn.transfer.measure import (
    ReverseValidation,
    auc,
    class_balanced,
    domain_scores,
    negative_entropy,
    reverse_validate,
    thresholded_accuracy,
)
from geopipe.learn.transfer.neighbours import nearest_neighbours
from geopipe.learn.transfer.plan import SampleStatus, TransferPlan
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples, require_same_kind
from geopipe.learn.transfer.selection import Selection, select

_ROUNDS = 300
"""Bootstrap rounds."""
_MAX_TARGET_SAMPLES = 10_000
"""Target samples drawn for what is looked at in all of them."""
_DISTANCE_SAMPLES = 2000
"""Samples of a domain whose distance to the source is measured."""
_REALISED_SHARE = (-0.25, 0.75)
"""Of the points that could be gained, those that are: where truth is known, simulations gave 0.2 to
0.5 and real scenes -0.3 to 0.5. The middle is expected."""
_MIN_DOMAIN_SAMPLES = 20
"""Least samples of a domain that a domain classifier learns from."""
_MIN_IMAGES = 10
"""With fewer images samples are resampled one by one."""

_PASSED_STATUSES = (SampleStatus.KEPT, SampleStatus.NEAR, SampleStatus.SURPLUS)
"""Fates of samples that both stages let through."""


@dataclass(frozen=True, eq=False)
class _Domains:
    """The samples that are compared.

    `source_test` and `target_drawn` are indices into source and target.
    """

    source: SourceSamples
    target: TargetSamples
    source_test: np.ndarray
    target_drawn: np.ndarray
    predicted: tuple[np.ndarray, np.ndarray]
    """Classes that the source model gives `source_test` and `target_drawn`."""
    groups: tuple[np.ndarray, np.ndarray]
    """What is drawn as one when `source_test` and `target_drawn` are resampled."""
    seed: int


def estimate_gain(
    source: SourceSamples,
    target: TargetSamples,
    selection: Selection,
    plan: TransferPlan,
    thresholds: AbstainThresholds | None = None,
    device: str = "cpu",
) -> Evidence:
    """What is known of the gain from training on `selection`, the selection by `plan`.

    The possible gain is the smaller of two: how much less accurate the source model is on the
    target than on held-out source samples, and the share of target samples whose class changes when
    a simple classifier of the features learns the kept samples too (two classifiers differ in
    accuracy by no more than in answers). A quarter of it is expected, times the skill of reverse
    validation; the interval of the gain says that it may also be three quarters, or a loss of one.
    A class has vanished where fewer than `plan.least` samples are kept, or no more pass than would
    if the target had none of it: see `_vanished_classes`.
    Equal inputs give equal evidence.
    """
    require_same_kind(source, target)
    thresholds = thresholds or AbstainThresholds()
    domains = _split_domains(source, target, plan.seed)
    selected, classes = selection.selected, selection.classes
    samples = len(domains.source_test), len(target.features), len(selected)
    if min(samples) < thresholds.samples or len(np.unique(selection.labels[selected])) < 2:
        reason = (
            f"{samples[0]} held-out source, {samples[1]} target and {samples[2]} kept samples are "
            f"too few to judge; {thresholds.samples} of each, of two classes at least, are needed."
        )
        return Evidence(samples, (), (reason,))
    train_rows = np.flatnonzero(~source.held_out)
    reverse = reverse_validate(
        (source.features[train_rows], source.classes[train_rows]),
        (target.features[selected], selection.labels[selected]),
        (source.features[domains.source_test], source.classes[domains.source_test]),
        target.features[domains.target_drawn],
        plan.seed,
    )
    rounds = _bootstrap(domains, reverse, 1 / classes).tolist()
    source_accuracy, target_accuracy, accuracy_gap, reverse_skill, gain = map(_figure, rounds)
    domain_auc, a_distance = _domain_separability(domains)
    control = _control_selection(domains, plan, device)
    evidence = Evidence(
        samples,
        tuple(_vanished_classes(domains, selection, control, plan.least, 1 - target_accuracy.low)),
        (),
        domain_auc=domain_auc,
        a_distance=a_distance,
        distance=_distance(domains, device),
        passed=_pass_rate(selection) / max(_pass_rate(control), 1e-12),
        source_accuracy=source_accuracy,
        target_accuracy=target_accuracy,
        accuracy_gap=accuracy_gap.times(100),
        reverse_validation=reverse_skill,
        changed=float(reverse.changed.mean()),
        gain=gain.times(100),
    )
    return replace(evidence, reasons=tuple(abstain_reasons(evidence, thresholds, source.names)))


def _split_domains(source: SourceSamples, target: TargetSamples, seed: int) -> _Domains:
    source_test = np.flatnonzero(source.held_out)
    shuffled = np.random.default_rng(seed).permutation(len(target.features))
    target_drawn = np.sort(shuffled[:_MAX_TARGET_SAMPLES])
    predicted = (
        source.probabilities[source_test].argmax(1),
        target.probabilities[target_drawn].argmax(1),
    )
    return _Domains(
        source,
        target,
        source_test,
        target_drawn,
        predicted,
        (_grouped(source.images, source_test), _grouped(target.images, target_drawn)),
        seed,
    )


def _grouped(images: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    if images is None or len(np.unique(images[rows])) < _MIN_IMAGES:
        return np.arange(len(rows))
    return np.asarray(np.unique(images[rows], return_inverse=True)[1])


def _bootstrap_indices(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of one bootstrap sample: groups drawn with replacement."""
    count = int(groups.max()) + 1
    if count == len(groups):
        return np.asarray(rng.integers(count, size=count))
    times = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.repeat(np.arange(len(groups)), times[groups])


def _bootstrap(domains: _Domains, reverse: ReverseValidation, chance: float) -> np.ndarray:
    """(5, 1 + rounds): source and target accuracy, room, skill, gain; the samples as are first."""
    source_confidence = negative_entropy(domains.source.probabilities[domains.source_test])
    target_confidence = negative_entropy(domains.target.probabilities[domains.target_drawn])
    correct = domains.predicted[0] == domains.source.classes[domains.source_test]

    def estimate_once(a: np.ndarray, b: np.ndarray, realised_share: float) -> tuple[float, ...]:
        weight = _weights(domains.predicted[0][a], domains.predicted[1][b])
        target_accuracy = thresholded_accuracy(
            source_confidence[a], correct[a], weight, target_confidence[b]
        )
        source_accuracy = float(np.average(correct[a], weights=weight))
        reference = max(float(reverse.reference[a].mean()) - chance, 1e-6)
        reverse_skill = (float(reverse.correct[a].mean()) - chance) / reference
        max_gain = min(source_accuracy - target_accuracy, float(reverse.changed[b].mean()))
        return (
            source_accuracy,
            target_accuracy,
            source_accuracy - target_accuracy,
            reverse_skill,
            realised_share * max_gain * min(max(reverse_skill, 0.0), 1.0),
        )

    rng = np.random.default_rng([domains.seed, 1])
    figures = [
        estimate_once(
            np.arange(len(domains.source_test)),
            np.arange(len(domains.target_drawn)),
            sum(_REALISED_SHARE) / 2,
        )
    ]
    for share in rng.uniform(*_REALISED_SHARE, _ROUNDS).tolist():
        a, b = (_bootstrap_indices(g, rng) for g in domains.groups)
        figures.append(estimate_once(a, b, share))
    return np.array(figures).T


def _weights(source_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
    """Weights (n,) that give `source_ids` the class shares of `target_ids`.

    All are 1 if the two share no class.
    """
    size = int(max(source_ids.max(), target_ids.max())) + 1
    source_counts, target_counts = (
        np.bincount(x, minlength=size) for x in (source_ids, target_ids)
    )
    weight = (target_counts / np.maximum(source_counts, 1))[source_ids]
    return weight if weight.any() else np.ones(len(source_ids))


def _figure(values: list[float]) -> Interval:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return Interval(float(values[0]), float(low), float(high))


def _domain_separability(domains: _Domains) -> tuple[Interval, float]:
    """AUC of a domain classifier and the proxy A-distance.

    Source samples that the net was trained on look different from any others, so only held-out
    ones are compared.
    """
    a, b = class_balanced(*domains.predicted, domains.seed)
    if len(a) < _MIN_DOMAIN_SAMPLES:
        return UNKNOWN, math.nan
    groups = domains.groups[0][a], domains.groups[1][b]
    source_scores, target_scores = domain_scores(
        domains.source.features[domains.source_test[a]],
        domains.target.features[domains.target_drawn[b]],
        groups,
        domains.seed,
    )
    rng = np.random.default_rng([domains.seed, 2])
    left, right = (np.unique(g, return_inverse=True)[1] for g in groups)
    bootstrap_aucs = [
        auc(
            source_scores[_bootstrap_indices(left, rng)],
            target_scores[_bootstrap_indices(right, rng)],
        )
        for _ in range(_ROUNDS)
    ]
    error = ((source_scores > 0).mean() + (target_scores <= 0).mean()) / 2
    return _figure([auc(source_scores, target_scores), *bootstrap_aucs]), max(
        0.0, 2 * (1 - 2 * float(error))
    )


def _distance(domains: _Domains, device: str) -> float:
    train_features = domains.source.features[~domains.source.held_out]
    rng = np.random.default_rng([domains.seed, 3])
    source_distance, target_distance = (
        np.median(
            nearest_neighbours(
                train_features, x[rng.permutation(len(x))[:_DISTANCE_SAMPLES]], 1, device
            ).distances
        )
        for x in (
            domains.source.features[domains.source_test],
            domains.target.features[domains.target_drawn],
        )
    )
    return float(target_distance / max(source_distance, 1e-12))


def _control_selection(domains: _Domains, plan: TransferPlan, device: str) -> Selection:
    """What would be chosen of the held-out source samples, were they the target."""
    source_test = domains.source_test[:_MAX_TARGET_SAMPLES]
    control_target = TargetSamples(
        domains.source.features[source_test], domains.source.probabilities[source_test]
    )
    return select(replace(domains.source, digests=None), control_target, plan, device)


def _pass_rate(selection: Selection) -> float:
    """Share of samples that pass both stages."""
    return float(
        np.isin(
            selection.statuses[selection.statuses != SampleStatus.DUPLICATE], _PASSED_STATUSES
        ).mean()
    )


def _vanished_classes(
    domains: _Domains, selection: Selection, control: Selection, min_samples: int, error_rate: float
) -> Iterator[int]:
    """Classes of the source that the target seems to lack: too few are kept, or all may be wrong.

    Of what the model gets wrong in the `control`, some share passes for a class. Its upper bound
    (95 %, Clopper and Pearson 1934, Biometrika 26), of the share `error_rate` of the target that
    may be wrong, says how many would pass if the target had none of the class.
    """
    truth = domains.source.classes[domains.source_test[: len(control.labels)]]
    source_counts = np.bincount(domains.source.classes, minlength=selection.classes)
    counts, is_wrong = selection.counts(), control.labels != truth
    wrongly_passed = np.bincount(
        control.labels[is_wrong & np.isin(control.statuses, _PASSED_STATUSES)],
        minlength=selection.classes,
    )
    for k in np.flatnonzero(source_counts >= min_samples).tolist():
        not_passed = int(is_wrong.sum() - wrongly_passed[k])
        share = beta.ppf(0.95, wrongly_passed[k] + 1, not_passed) if not_passed else 1.0
        expected_errors = share * error_rate * len(selection.labels)
        passed_count = counts[k, list(_PASSED_STATUSES)].sum()
        if counts[k, SampleStatus.KEPT] < min_samples or passed_count <= expected_errors:
            yield k
