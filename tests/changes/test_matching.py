"""Matching, thresholds and calibration, by hand."""

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from geopipe.changes.lines import cut_lines
from geopipe.changes.matching import (
    AGREE,
    MERGED,
    MOVED,
    ONLY_MAP,
    ONLY_REFERENCE,
    RESHAPED,
    SPLIT,
    match_buildings,
)
from geopipe.changes.probability import calibrate, choose_threshold


def box(x, y, width=10.0, height=10.0):
    return shapely.box(x, y, x + width, y + height)


def array(*shapes):
    return np.array(shapes, object)


def test_each_status_by_hand():
    mapped = array(
        box(0, 0),  # agrees
        box(30, 0),  # its counterpart lies 4 m east
        box(60, 0, 10, 30),  # thrice as long as in the reference
        box(90, 0, 5, 10),  # two parts of one...
        box(95, 0, 5, 10),
        box(120, 0, 20, 10),  # ...and one of two
        box(150, 0),  # nobody's
        box(180, 0, 6, 6),  # meets none, but 7 m off there is one like it
    )
    reference = array(
        box(0.5, 0),
        box(34, 0),
        box(60, 0),
        box(90, 0),
        box(120, 0),
        box(130, 0),
        box(220, 0),  # nobody's
        box(187, 0, 6, 6),
    )
    result = match_buildings(mapped, reference)
    status = result.status[result.mapped_group].tolist()
    assert status == [AGREE, MOVED, RESHAPED, SPLIT, SPLIT, MERGED, ONLY_MAP, MOVED]
    assert result.status[result.reference_group][6] == ONLY_REFERENCE
    distance = result.distance[result.mapped_group]
    assert distance[[0, 1, 7]] == pytest.approx([0.5, 4, 7])
    assert distance[6] == pytest.approx(10)  # to the edge of 130..140
    assert result.iou[result.mapped_group][[0, 5]] == pytest.approx([9.5 / 10.5, 1])


def test_matching_does_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    a = array(*(box(x, y, *s) for x, y, *s in rng.uniform(5, 60, (40, 4)) * [2, 2, 0.2, 0.2]))
    b = array(*(translate(s, *rng.normal(0, 2, 2)) for s in a[:30]))
    plain, order = match_buildings(a, b), rng.permutation(40)
    mixed = match_buildings(a[order], b)
    assert (mixed.status[mixed.mapped_group] == plain.status[plain.mapped_group][order]).all()


def test_the_threshold_keeps_the_expected_share():
    probability = np.array([0.99, 0.6, 0.9, 0.9, 0.2])
    result = choose_threshold(probability, np.ones(5), 0.1)
    assert result.reported.tolist() == [True, False, True, True, False]
    assert result.probability == 0.9
    assert result.expected_false == pytest.approx(0.21 / 3)
    assert not choose_threshold(probability, np.ones(5), 0.001).reported.any()
    assert choose_threshold(probability, np.ones(5), 0.4).reported.sum() == 4  # never below 0.5


@pytest.mark.parametrize("fdr", [0.1, 0.3])
def test_the_false_share_is_what_was_asked_for(fdr):
    """Scores right by construction, and an incomplete reference: the share that comes out."""
    rng = np.random.default_rng(1)
    score = rng.beta(2.4, 0.6, 20_000)
    real = rng.random(len(score)) < score
    matched = real & (rng.random(len(score)) < 0.7)
    fit = calibrate(score, matched, np.ones(len(score)))
    assert fit.source == "reference"
    assert fit.completeness == pytest.approx(0.7, abs=0.05)
    alone = ~matched
    result = choose_threshold(fit.unmatched(score[alone]), np.ones(alone.sum()), fdr)
    false_share = np.mean(~real[alone][result.reported])
    assert false_share == pytest.approx(result.expected_false, abs=0.03)
    assert fdr / 2 < result.expected_false <= fdr
    assert np.mean(~real[alone]) > 0.4  # without a threshold


def test_truth_calibrates_scores_that_are_too_sure():
    rng = np.random.default_rng(2)
    p = rng.beta(2.4, 0.6, 4000)
    real = rng.random(len(p)) < p
    matched = real & (rng.random(len(p)) < 0.7)
    score = 1 / (1 + ((1 - p) / p) ** 2)
    fit = calibrate(score, matched, np.ones(len(p)), (score[:1500], real[:1500]))
    assert fit.source == "truth"
    assert fit.probability(np.array([0.8])) == pytest.approx(2 / 3, abs=0.05)
    assert fit.completeness == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize("with_truth", [False, True])
def test_scores_that_hardly_differ_are_spread(with_truth):
    """Means over pixels: logits a quarter as far apart as those of the probabilities."""
    rng = np.random.default_rng(3)
    p = rng.beta(2.4, 0.6, 2000)
    real = rng.random(len(p)) < p
    matched = real & (rng.random(len(p)) < 0.85)
    odds = np.log(p / (1 - p))
    score = 1 / (1 + np.exp(-(1.2 + (odds - odds.mean()) / 4)))
    truth = (score[:400], real[:400]) if with_truth else None
    fit = calibrate(score, matched, np.ones(len(p)), truth)
    assert fit.slope == pytest.approx(4, abs=1)
    assert fit.completeness == pytest.approx(0.85, abs=0.04)
    likely = fit.unmatched(score[~matched]) > 0.7
    assert likely.sum() > 50
    assert np.mean(real[~matched][likely]) == pytest.approx(0.85, abs=0.1)


def test_lines_are_cut_where_their_status_changes():
    line = shapely.LineString([(0, 0), (300, 0)])
    others = array(
        shapely.LineString([(0, 1), (100, 1)]),
        shapely.LineString([(100, 8), (200, 8)]),
        shapely.LineString([(250, -50), (250, 50)]),  # a side road is no counterpart
    )
    result = cut_lines(array(line), others)
    assert result.status.tolist() == [AGREE, MOVED, ""]
    assert shapely.length(result.shapes) == pytest.approx([100, 100, 100], abs=8)
    assert result.distance[:2] == pytest.approx([1, 8], abs=0.3)
    assert cut_lines(array(line), np.empty(0, object)).status.tolist() == [""]
