import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from transfer_worlds import CLASSES, world

from geopipe.learn.transfer import SourceSamples, TargetSamples, TransferPlan, estimate_gain, select
from geopipe.learn.transfer.measure import auc, class_balanced, domain_scores, thresholded_accuracy

PLAN = TransferPlan()


def evidence(w, target=None, plan=PLAN):
    target = target or w.target
    return estimate_gain(w.source, target, select(w.source, target, plan), plan)


def opening(e):
    return [reason.split(":")[0][:24] for reason in e.reasons]


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 9, 80), rng.integers(2, 12, 50)
    truth = np.repeat([0, 1], [80, 50])
    assert auc(ours, theirs) == pytest.approx(roc_auc_score(truth, np.r_[ours, theirs]))


def test_thresholded_confidence_gives_back_the_accuracy_it_was_fitted_to():
    rng = np.random.default_rng(0)
    sure = rng.normal(size=1000)
    right = rng.random(1000) < 0.83
    flat = np.ones(1000)
    there = thresholded_accuracy(sure, right, flat, sure)
    assert there == pytest.approx(right.mean(), abs=1e-9)
    assert thresholded_accuracy(sure, right | True, flat, sure) == 1
    assert thresholded_accuracy(sure, right & False, flat, sure) == 0
    # Half of the target as sure as the source, half sure of nothing.
    assert thresholded_accuracy(sure, right, flat, np.r_[sure, flat * -9]) == there / 2
    # A sample of weight 2 counts like two samples.
    twice = np.repeat(np.arange(1000), 1 + (np.arange(1000) < 300))
    weight = 1.0 + (np.arange(1000) < 300)
    asked = rng.normal(size=500)
    assert thresholded_accuracy(sure, right, weight, asked) == pytest.approx(
        thresholded_accuracy(sure[twice], right[twice], np.ones(1300), asked), abs=0.01
    )


def test_matched_samples_have_the_same_classes():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 4, 300), rng.integers(2, 6, 100)
    a, b = class_balanced(ours, theirs, 0)
    counts = [np.bincount(x, minlength=6) for x in (ours, theirs)]
    np.testing.assert_array_equal(np.bincount(ours[a], minlength=6), np.minimum(*counts))
    np.testing.assert_array_equal(np.bincount(theirs[b], minlength=6), np.minimum(*counts))
    assert len(np.unique(a)) == len(a)
    assert [len(x) for x in class_balanced(ours, theirs + 9, 0)] == [0, 0]


def test_to_know_an_image_again_is_not_to_know_a_domain():
    rng = np.random.default_rng(0)
    images = rng.normal(0, 3, (40, 8))  # each image looks like itself; there is one domain
    of = np.repeat(np.arange(40), 20)
    x = (images[of] + rng.normal(0, 0.3, (800, 8))).astype(np.float32)
    left, right = x[:400], x[400:]
    told, alone = (
        auc(*domain_scores(left, right, groups, 0))
        for groups in ((of[:400], of[400:]), (np.arange(400), np.arange(400)))
    )
    assert alone > 0.65
    assert told < alone - 0.1


def test_the_same_domain_abstains():
    for seed in range(8):
        e = evidence(world(seed))
        assert not e.proceeds
        assert "Source and target may be" in opening(e)
        assert abs(e.distance - 1) < 0.1
        assert abs(e.passed - 1) < 0.1
        assert e.accuracy_gap.low < 4
        assert e.source_accuracy.low <= e.source_accuracy.value <= e.source_accuracy.high


def test_another_mix_of_classes_is_no_other_domain():
    w = world(2)
    rare = np.flatnonzero((w.truth < 3) | (np.arange(len(w.truth)) % 3 == 0))
    target = TargetSamples(w.target.features[rare], w.target.probabilities[rare])
    e = evidence(w, target)
    assert e.domain_auc.low < 0.55
    assert not e.proceeds


def test_a_moderate_shift_goes_on_and_gains():
    goes = [evidence(world(seed, shift=2)) for seed in range(8)]
    assert sum(e.proceeds for e in goes) >= 3
    for e in goes:
        assert e.domain_auc.low > 0.9
        assert e.a_distance > 1
        assert 1 < e.gain.value < e.gain.high or not e.proceeds


def test_a_foreign_domain_abstains():
    for seed in range(4):
        e = evidence(world(seed, foreign=True))
        assert "The target is foreign" in opening(e)


def test_random_pseudo_labels_abstain():
    for seed in range(4):
        w = world(seed, shift=1.5)
        mixed = np.random.default_rng(seed).permutation(w.target.probabilities)
        e = evidence(w, TargetSamples(w.target.features, mixed))
        assert "Few samples pass" in opening(e)


def test_pseudo_labels_that_teach_something_else_abstain():
    w = world(0, shift=1.5)
    chosen = select(w.source, w.target, PLAN)
    chosen.labels[:] = (chosen.labels + 1) % CLASSES
    e = estimate_gain(w.source, w.target, chosen, PLAN)
    assert e.reverse_validation.high < 0
    assert "The pseudo-labels may no" in opening(e)
    assert e.gain.value == 0


def test_a_class_that_the_target_lacks_abstains():
    for seed in range(7):
        e = evidence(world(seed, shift=1, gone=2))
        assert e.vanished == (2,)
        assert "No more samples pass as class 2 than might by mistake" in e.reasons[-1]


def few_of(w, gone, share):
    """The target with this share of the samples of a class."""
    there = (w.truth != gone) | (np.arange(len(w.truth)) % round(1 / share) == 0)
    return TargetSamples(w.target.features[there], w.target.probabilities[there])


def test_a_class_that_is_rare_has_not_vanished():
    worlds = [world(seed, shift=0.5) for seed in range(6)]
    assert sum(evidence(w, few_of(w, 2, 0.1)).vanished == () for w in worlds) >= 4


def test_what_passes_by_mistake_is_no_sign_of_a_class():
    w = world(1, shift=1, gone=2)
    chosen = select(w.source, w.target, PLAN)
    assert (chosen.labels[chosen.selected] == 2).sum() > PLAN.least, "not just too few"
    assert evidence(w).vanished == (2,)


def test_too_few_samples_abstain_without_figures():
    w = world(0, shift=2)
    few = TargetSamples(w.target.features[:40], w.target.probabilities[:40])
    e = evidence(w, few)
    assert len(e.reasons) == 1
    assert "too few to judge" in e.reasons[0]
    assert json.loads(json.dumps(e.to_dict(), allow_nan=False))["gain"]["value"] is None


def test_equal_inputs_give_equal_evidence_and_plain_values():
    w = world(1, shift=2)
    e = evidence(w)
    assert e == evidence(w)
    plain = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert plain["gain"]["low"] < plain["gain"]["value"] < plain["gain"]["high"]
    assert plain["accuracy_gap"]["value"] == pytest.approx(
        100 * (e.source_accuracy.value - e.target_accuracy.value)
    )


def test_few_images_make_figures_less_certain():
    w = world(4, shift=2)
    s = w.source
    images = np.random.default_rng(0).integers(0, 12, len(s.classes))
    doubt = np.random.default_rng(1).random(12)[images] < 0.3  # some images are all wrong
    wrong = np.roll(s.probabilities, 1, axis=1)
    p = np.where(doubt[:, None], wrong, s.probabilities)
    alone = SourceSamples(s.features, p, s.classes, s.held_out)
    told = SourceSamples(s.features, p, s.classes, s.held_out, images)
    widths = []
    for source in (alone, told):
        e = estimate_gain(source, w.target, select(source, w.target, PLAN), PLAN)
        widths.append(e.source_accuracy.high - e.source_accuracy.low)
    assert widths[1] > 2 * widths[0]
