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
_LOOKED_AT = 10_000
"""Target samples drawn for what is looked at in all of them."""
_MEASURED = 2000
"""Samples of a domain whose distance to the source is measured."""
_REALISED = (-0.25, 0.75)
"""Of the points that could be gained, those that are: where truth is known, simulations gave 0.2 to
0.5 and real scenes -0.3 to 0.5. The middle is expected."""
_COMPARED = 20
"""Least samples of a domain that a domain classifier learns from."""
_IMAGES = 10
"""With fewer images samples are resampled one by one."""

_PASSED = (SampleStatus.KEPT, SampleStatus.NEAR, SampleStatus.SURPLUS)
"""Fates of samples that both stages let through."""


@dataclass(frozen=True, eq=False)
class _Domains:
    """The samples that are looked at; `held` and `seen` are indices into source and target."""

    source: SourceSamples
    target: TargetSamples
    held: np.ndarray
    seen: np.ndarray
    guesses: tuple[np.ndarray, np.ndarray]
    """Classes that the source model gives `held` and `seen`."""
    groups: tuple[np.ndarray, np.ndarray]
    """What is drawn as one when `held` and `seen` are resampled."""
    seed: int


def estimate_gain(
    source: SourceSamples,
    target: TargetSamples,
    chosen: Selection,
    plan: TransferPlan,
    thresholds: AbstainThresholds | None = None,
    device: str = "cpu",
) -> Evidence:
    """What is known of the gain from training on `chosen`, the selection by `plan`.

    The possible gain is the smaller of two: how much less accurate the source model is on the
    target than on held-out source samples, and the share of target samples whose class changes when
    a simple classifier of the features learns the kept samples too (two classifiers differ in
    accuracy by no more than in answers). A quarter of it is expected, times the skill of reverse
    validation; the interval of the gain says that it may also be three quarters, or a loss of one.
    A class has vanished where fewer than `plan.least` samples are kept, or no more pass than would
    if the target had none of it: see `_vanished`.
    Equal inputs give equal evidence.
    """
    require_same_kind(source, target)
    thresholds = thresholds or AbstainThresholds()
    sight = _split_domains(source, target, plan.seed)
    kept, classes = chosen.selected, chosen.classes
    samples = len(sight.held), len(target.features), len(kept)
    if min(samples) < thresholds.samples or len(np.unique(chosen.labels[kept])) < 2:
        few = (
            f"{samples[0]} held-out source, {samples[1]} target and {samples[2]} kept samples are "
            f"too few to judge; {thresholds.samples} of each, of two classes at least, are needed."
        )
        return Evidence(samples, (), (few,))
    known = np.flatnonzero(~source.held_out)
    judged = reverse_validate(
        (source.features[known], source.classes[known]),
        (target.features[kept], chosen.labels[kept]),
        (source.features[sight.held], source.classes[sight.held]),
        target.features[sight.seen],
        plan.seed,
    )
    rounds = _resampled(sight, judged, 1 / classes).tolist()
    here, there, room, skill, gain = map(_figure, rounds)
    alike, a_distance = _domains(sight)
    control = _control(sight, plan, device)
    evidence = Evidence(
        samples,
        tuple(_vanished(sight, chosen, control, plan.least, 1 - there.low)),
        (),
        domain_auc=alike,
        a_distance=a_distance,
        distance=_distance(sight, device),
        passed=_passed(chosen) / max(_passed(control), 1e-12),
        source_accuracy=here,
        target_accuracy=there,
        accuracy_gap=room.times(100),
        reverse_validation=skill,
        changed=float(judged.changed.mean()),
        gain=gain.times(100),
    )
    return replace(evidence, reasons=tuple(abstain_reasons(evidence, thresholds, source.names)))


def _split_domains(source: SourceSamples, target: TargetSamples, seed: int) -> _Domains:
    held = np.flatnonzero(source.held_out)
    lot = np.random.default_rng(seed).permutation(len(target.features))
    seen = np.sort(lot[:_LOOKED_AT])
    guesses = source.probabilities[held].argmax(1), target.probabilities[seen].argmax(1)
    return _Domains(
        source,
        target,
        held,
        seen,
        guesses,
        (_grouped(source.images, held), _grouped(target.images, seen)),
        seed,
    )


def _grouped(images: np.ndarray | None, at: np.ndarray) -> np.ndarray:
    if images is None or len(np.unique(images[at])) < _IMAGES:
        return np.arange(len(at))
    return np.asarray(np.unique(images[at], return_inverse=True)[1])


def _drawn(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of one bootstrap sample: groups drawn with replacement."""
    count = int(groups.max()) + 1
    if count == len(groups):
        return np.asarray(rng.integers(count, size=count))
    times = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.repeat(np.arange(len(groups)), times[groups])


def _resampled(sight: _Domains, judged: ReverseValidation, chance: float) -> np.ndarray:
    """(5, 1 + rounds): source and target accuracy, room, skill, gain; the samples as are first."""
    sure = negative_entropy(sight.source.probabilities[sight.held])
    theirs = negative_entropy(sight.target.probabilities[sight.seen])
    correct = sight.guesses[0] == sight.source.classes[sight.held]

    def once(a: np.ndarray, b: np.ndarray, realised: float) -> tuple[float, ...]:
        weight = _weights(sight.guesses[0][a], sight.guesses[1][b])
        there = thresholded_accuracy(sure[a], correct[a], weight, theirs[b])
        here = float(np.average(correct[a], weights=weight))
        reference = max(float(judged.reference[a].mean()) - chance, 1e-6)
        skill = (float(judged.correct[a].mean()) - chance) / reference
        possible = min(here - there, float(judged.changed[b].mean()))
        return here, there, here - there, skill, realised * possible * min(max(skill, 0.0), 1.0)

    rng = np.random.default_rng([sight.seed, 1])
    figures = [once(np.arange(len(sight.held)), np.arange(len(sight.seen)), sum(_REALISED) / 2)]
    for share in rng.uniform(*_REALISED, _ROUNDS).tolist():
        a, b = (_drawn(g, rng) for g in sight.groups)
        figures.append(once(a, b, share))
    return np.array(figures).T


def _weights(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(n,) weights that give class ids `ours` the mix of `theirs`, as far as there are any."""
    size = int(max(ours.max(), theirs.max())) + 1
    here, there = (np.bincount(x, minlength=size) for x in (ours, theirs))
    weight = (there / np.maximum(here, 1))[ours]
    return weight if weight.any() else np.ones(len(ours))


def _figure(values: list[float]) -> Interval:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return Interval(float(values[0]), float(low), float(high))


def _domains(sight: _Domains) -> tuple[Interval, float]:
    """AUC of a domain classifier and the proxy A-distance.

    Source samples that the net was trained on look different from any others, so only held-out
    ones are compared.
    """
    a, b = class_balanced(*sight.guesses, sight.seed)
    if len(a) < _COMPARED:
        return UNKNOWN, math.nan
    groups = sight.groups[0][a], sight.groups[1][b]
    ours, theirs = domain_scores(
        sight.source.features[sight.held[a]],
        sight.target.features[sight.seen[b]],
        groups,
        sight.seed,
    )
    rng = np.random.default_rng([sight.seed, 2])
    left, right = (np.unique(g, return_inverse=True)[1] for g in groups)
    again = [auc(ours[_drawn(left, rng)], theirs[_drawn(right, rng)]) for _ in range(_ROUNDS)]
    error = ((ours > 0).mean() + (theirs <= 0).mean()) / 2
    return _figure([auc(ours, theirs), *again]), max(0.0, 2 * (1 - 2 * float(error)))


def _distance(sight: _Domains, device: str) -> float:
    known = sight.source.features[~sight.source.held_out]
    rng = np.random.default_rng([sight.seed, 3])
    here, there = (
        np.median(
            nearest_neighbours(known, x[rng.permutation(len(x))[:_MEASURED]], 1, device).distances
        )
        for x in (sight.source.features[sight.held], sight.target.features[sight.seen])
    )
    return float(there / max(here, 1e-12))


def _control(sight: _Domains, plan: TransferPlan, device: str) -> Selection:
    """What would be chosen of the held-out source samples, were they the target."""
    held = sight.held[:_LOOKED_AT]
    control = TargetSamples(sight.source.features[held], sight.source.probabilities[held])
    return select(replace(sight.source, digests=None), control, plan, device)


def _passed(chosen: Selection) -> float:
    """Share of samples that pass both stages."""
    return float(
        np.isin(chosen.statuses[chosen.statuses != SampleStatus.DUPLICATE], _PASSED).mean()
    )


def _vanished(
    sight: _Domains, chosen: Selection, control: Selection, least: int, errors: float
) -> Iterator[int]:
    """Classes of the source that the target seems to lack: too few are kept, or all may be wrong.

    Of what the model gets wrong in the `control`, some share passes for a class. Its upper bound
    (95 %, Clopper and Pearson 1934, Biometrika 26), of the share `errors` of the target that may be
    wrong, says how many would pass if the target had none of the class.
    """
    truth = sight.source.classes[sight.held[: len(control.labels)]]
    there = np.bincount(sight.source.classes, minlength=chosen.classes)
    counts, wrong = chosen.counts(), control.labels != truth
    through = np.bincount(
        control.labels[wrong & np.isin(control.statuses, _PASSED)], minlength=chosen.classes
    )
    for k in np.flatnonzero(there >= least).tolist():
        rest = int(wrong.sum() - through[k])
        share = beta.ppf(0.95, through[k] + 1, rest) if rest else 1.0
        by_mistake = share * errors * len(chosen.labels)
        passed = counts[k, list(_PASSED)].sum()
        if counts[k, SampleStatus.KEPT] < least or passed <= by_mistake:
            yield k
