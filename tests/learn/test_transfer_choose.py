import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors
from transfer_worlds import CLASSES, world

from geopipe.errors import ConfigError, LabelError
from geopipe.learn.transfer import SampleStatus, SourceSamples, TargetSamples, TransferPlan, select
from geopipe.learn.transfer import neighbours as retrieve_module
from geopipe.learn.transfer.diversity import diversity_sample, duplicates, typical_distance
from geopipe.learn.transfer.neighbours import agreement, class_entropy, nearest_neighbours

LOOSE = {"least": 1, "apart": 0.0, "apart_patches": 0, "balance": 1e6}


@pytest.mark.parametrize("moved", [0, 3000])
@pytest.mark.parametrize("count", [1, 7])
def test_nearest_are_those_of_an_exact_search(monkeypatch, moved, count):
    monkeypatch.setattr(retrieve_module, "_QUERIES", 37)
    monkeypatch.setattr(retrieve_module, "_BLOCK", 53)
    rng = np.random.default_rng(0)
    known, asked = (rng.normal(moved, 1, (n, 12)).astype(np.float32) for n in (230, 101))
    oracle = NearestNeighbors(n_neighbors=count, algorithm="kd_tree").fit(known.astype(np.float64))
    distances, indices = oracle.kneighbors(asked.astype(np.float64))
    found = nearest_neighbours(known, asked, count)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-3)
    assert nearest_neighbours(known[:4], asked, 9).indices.shape == (101, 4)


def test_equal_distances_are_ranked_by_index():
    known = np.zeros((5, 2), np.float32)
    assert nearest_neighbours(known, np.ones((1, 2), np.float32), 5).indices.tolist() == [
        [0, 1, 2, 3, 4]
    ]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_entropy_and_agreement_of_neighbours(ids):
    around = np.array([ids])
    counts = np.bincount(ids, minlength=4)
    assert class_entropy(around, 4)[0] == pytest.approx(entropy(counts) / np.log(4), abs=1e-12)
    assert agreement(around, np.array([2]))[0] == pytest.approx(counts[2] / len(ids))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 2), st.integers(0, 3), st.integers(1, 400))
def test_what_is_taken_is_apart_and_what_is_refused_is_near(seed, distance, patches, most):
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (300, 2)).astype(np.float32)
    positions = np.stack([rng.integers(0, high, 300) for high in (2, 20, 20)], 1)
    taken, near = diversity_sample(features, positions, distance, patches, most)
    assert len(taken) <= most
    assert not set(taken) & set(near)
    if len(taken) < most:
        assert len(taken) + len(near) == 300

    def clash(i, others):
        gap = np.linalg.norm(features[others] - features[i], axis=1)
        off = np.abs(positions[others] - positions[i])
        return (gap < distance - 1e-4) | ((off[:, 0] == 0) & (off[:, 1:].max(1) < patches))

    for i in taken:
        assert not clash(i, taken[taken < i]).any()
    for i in near:
        earlier = taken[taken < i]
        gap = np.linalg.norm(features[earlier] - features[i], axis=1).min()
        assert clash(i, earlier).any() or gap < distance + 1e-4


def test_typical_distance_is_that_of_a_grid_whatever_is_twice_in_it():
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 2) * 3
    features = np.concatenate([grid, grid[:7]]).astype(np.float32)
    assert typical_distance(features, 0) == 3
    assert typical_distance(features[:1], 0) == 0


def test_a_repeated_digest_is_told_from_its_first():
    digests = np.array([b"b", b"a", b"b", b"b", b"c"])
    assert duplicates(digests).tolist() == [False, False, True, True, False]
    assert duplicates(digests, np.array([b"c", b"d"])).tolist() == [False, False, True, True, True]


def test_a_sample_that_the_source_has_is_a_duplicate():
    w = world(0, count=40)
    s, there = w.source, np.arange(len(w.truth))
    source = SourceSamples(s.features, s.probabilities, s.classes, s.held_out, digests=there + 190)
    target = TargetSamples(w.target.features, w.target.probabilities, digests=there)
    duplicates = select(source, target, TransferPlan(least=1)).statuses == SampleStatus.DUPLICATE
    np.testing.assert_array_equal(duplicates, there >= 190)


def line_world(target, probabilities, **more):
    """Class 0 at x = 0, 1... 9, class 1 at x = 100... 109; held-out ones of class 1 at 0... 9."""
    x = np.concatenate([np.arange(10), 100 + np.arange(10), np.arange(10)])
    classes = np.repeat([0, 1, 1], 10)
    source = SourceSamples(x[:, None], np.eye(2)[classes], classes, np.arange(30) >= 20)
    return source, TargetSamples(np.array(target)[:, None], np.array(probabilities), **more)


def statuses(chosen):
    return [SampleStatus(f) for f in chosen.statuses]


def test_each_rule_refuses_what_it_is_for():
    sure0, sure1, unsure = [0.9, 0.1], [0.1, 0.9], [0.7, 0.3]
    source, target = line_world(
        [5.2, 5.2, 6.2, 5.4, 54.0, 105.2],
        [sure0, sure0, unsure, sure1, sure0, sure1],
        digests=np.array([1, 1, 2, 3, 4, 5]),
    )
    chosen = select(source, target, TransferPlan(neighbours=10, agreement=0.4, **LOOSE))
    assert statuses(chosen) == [
        SampleStatus.KEPT,
        SampleStatus.DUPLICATE,
        SampleStatus.UNSURE,
        SampleStatus.DISAGREE,
        SampleStatus.MIXED,
        SampleStatus.KEPT,
    ]
    assert chosen.labels.tolist() == [0, 0, 0, 1, 0, 1]
    assert np.isnan(chosen.agreement[[1, 2]]).all()
    assert (chosen.neighbours.indices[[1, 2]] == -1).all()
    assert chosen.neighbours.indices.max() < 20, "held-out samples are not asked"
    assert chosen.neighbours.distances[0, 0] == pytest.approx(0.2, abs=1e-4)
    table = json.loads(json.dumps(chosen.table(("a", "b"))))
    assert table["a"]["duplicate"] == table["a"]["below threshold"] == 1
    assert table["b"]["neighbours disagree"] == 1


def test_mixed_neighbours_refuse_although_most_agree():
    # Class 0 is 45.4... 54.4 away and class 1 45.6... 54.6: all but the last are the 19 nearest.
    source, target = line_world([54.4], [[0.9, 0.1]])
    around = select(source, target, TransferPlan(neighbours=19, agreement=0.5, **LOOSE))
    assert around.agreement[0] == pytest.approx(10 / 19)
    assert statuses(around) == [SampleStatus.MIXED]
    free = TransferPlan(neighbours=19, agreement=0.5, entropy=1.0, **LOOSE)
    assert statuses(select(source, target, free)) == [SampleStatus.KEPT]


def test_summed_probabilities_count_as_their_mean():
    source, target = line_world([5.2, 5.4], [[2.7, 0.3], [2.1, 0.9]])
    assert statuses(select(source, target, TransferPlan(**LOOSE))) == [
        SampleStatus.KEPT,
        SampleStatus.UNSURE,
    ]


def test_near_neighbours_in_space_are_thinned_within_a_class():
    source, target = line_world(
        [5.2, 6.4, 7.6, 104.2],
        [[0.9, 0.1]] * 3 + [[0.1, 0.9]],
        positions=np.array([[0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]]),
    )
    chosen = select(source, target, TransferPlan(**{**LOOSE, "apart_patches": 2}))
    assert sorted(statuses(chosen)[:2]) == [SampleStatus.KEPT, SampleStatus.NEAR]
    assert statuses(chosen)[2:] == [SampleStatus.KEPT, SampleStatus.KEPT]


def test_caps_and_balance_bound_the_classes():
    w = world(1)
    few = np.flatnonzero((w.truth != 3) | (np.arange(len(w.truth)) % 15 == 0))
    target = TargetSamples(w.target.features[few], w.target.probabilities[few])
    free = select(w.source, target, TransferPlan(balance=1e6, apart=0)).counts()[
        :, SampleStatus.KEPT
    ]
    assert free.max() > 5 * free.min() > 0
    capped = select(w.source, target, TransferPlan(cap=50, balance=1e6, apart=0))
    np.testing.assert_array_equal(capped.counts()[:, SampleStatus.KEPT], np.minimum(free, 50))
    balanced = select(w.source, target, TransferPlan(balance=3, apart=0))
    kept = balanced.counts()[:, SampleStatus.KEPT]
    np.testing.assert_array_equal(kept, np.minimum(free, 3 * free.min()))
    assert balanced.counts().sum() == len(few)
    assert balanced.counts()[:, SampleStatus.SURPLUS].sum() == free.sum() - kept.sum()


def test_the_purest_neighbourhoods_go_first_when_there_is_a_cap():
    w = world(3, shift=2, spread=1.1)
    chosen = select(w.source, w.target, TransferPlan(cap=60, balance=1e6))
    for k in range(CLASSES):
        mine = chosen.labels == k
        kept, surplus = (
            chosen.entropy[mine & (chosen.statuses == f)] for f in (0, SampleStatus.SURPLUS)
        )
        assert not len(surplus) or kept.max() <= surplus.min()


def test_equal_inputs_choose_equally_and_another_seed_otherwise():
    w = world(0, shift=1)
    once, again, other = (
        select(w.source, w.target, TransferPlan(cap=40, seed=s)).statuses for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


def test_retrieval_leaves_fewer_wrong_labels():
    for seed in range(6):
        w = world(seed, shift=2, spread=1.1)
        chosen = select(w.source, w.target, TransferPlan())
        right = chosen.labels == w.truth
        before = right[chosen.statuses != SampleStatus.UNSURE].mean()
        assert right.mean() < before < right[chosen.selected].mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"neighbours": 0},
        {"neighbours": 2.5},
        {"agreement": -0.1},
        {"entropy": 2},
        {"cap": 5},
        {"balance": 0.5},
        {"apart": -1.0},
        {"apart_patches": -1},
        {"least": 0},
        {"seed": -1},
    ],
)
def test_impossible_plans_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "cap" not in wrong else "cap = 5"):
        TransferPlan(**wrong)


def test_arrays_that_do_not_fit_are_refused():
    x, p, ids, held = np.zeros((4, 2)), np.full((4, 2), 0.5), np.zeros(4, int), np.arange(4) > 1
    with pytest.raises(LabelError, match="from 0 to 2"):
        SourceSamples(x, p, np.array([0, 1, 2, 0]), held)
    with pytest.raises(LabelError, match="0 of 4 source samples are held out"):
        SourceSamples(x, p, ids, held & False)
    with pytest.raises(LabelError, match="4 samples, but 3"):
        SourceSamples(x, p, ids[:3], held)
    with pytest.raises(LabelError, match="not finite"):
        TargetSamples(x * np.nan, p)
    with pytest.raises(LabelError, match="4 samples of the target have no probability"):
        TargetSamples(x, 0 * p)
    with pytest.raises(LabelError, match="positions"):
        TargetSamples(x, p, np.zeros((4, 2)))
    with pytest.raises(ConfigError, match="features of the source have 2 columns"):
        select(SourceSamples(x, p, ids, held), TargetSamples(np.zeros((4, 3)), p), TransferPlan())
