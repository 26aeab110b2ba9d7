"""The sequential test, the draw of places, and what a last layer learns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from geopipe.errors import ConfigError, LabelError
from geopipe.learn.ask import (
    Choice,
    Head,
    HeadPlan,
    TestPlan,
    decide,
    draw_disagreements,
    rank_by_gain,
    refit,
)
from geopipe.learn.ask.sequential import capital

# -- the test


@pytest.mark.parametrize("mean", [0.2, 0.5, 0.7])
def test_a_true_hypothesis_never_gains_in_the_mean(mean):
    """The expected capital is 1, exactly: over all sequences of eight answers."""
    sequences = (np.arange(256)[:, None] >> np.arange(8)) & 1
    chances = np.prod(np.where(sequences, mean, 1 - mean), axis=1)
    grown = np.array([capital(row.astype(float), mean) for row in sequences])
    np.testing.assert_allclose(chances @ grown, 1, rtol=1e-9)


def test_the_capital_of_one_win_and_one_loss_by_hand():
    bets = np.arange(1, 20) / 20
    np.testing.assert_allclose(
        capital(np.array([1.0, 0, 0.5]), 0.5),
        [np.mean(1 + bets), np.mean((1 + bets) * (1 - bets)), np.mean((1 + bets) * (1 - bets))],
    )


def test_clear_answers_stop_it_early_and_sides_are_alike():
    wins = decide(np.ones(30), 500, 0.2)
    losses = decide(-np.ones(30), 500, 0.2)
    assert (wins.choice, losses.choice) == (Choice.ADAPTED, Choice.OLD)
    assert wins.used == losses.used == 7  # 31.9 times the capital; six wins make it 18.1
    assert wins.gain[0] == pytest.approx(20)
    assert wins.gain == pytest.approx([-g for g in (losses.gain[0], *losses.gain[:0:-1])])
    assert wins.more == 0


def test_it_says_how_many_more_answers_it_wants():
    none = decide(np.empty(0), 500, 0.2)
    close = decide(np.tile([1, -1], 10), 500, 0.2)
    clear = decide(np.array([1, 1, 1, 1, 0]), 500, 0.2)
    assert {d.choice for d in (none, close, clear)} == {Choice.UNDECIDED}
    assert 1 <= clear.more < none.more < close.more
    assert none.gain == (0, -20, 20)
    assert f"about {close.more} more answers are wanted" in close.sentence()
    assert decide(np.tile([1, -1], 10), 500, 0.2, forecast=False).more == 0


def test_models_that_hardly_differ_need_no_answer():
    assert decide(np.empty(0), 8, 0.008).choice is Choice.EQUAL
    assert decide(np.empty(0), 80, 0.08).choice is Choice.UNDECIDED
    many = decide(np.tile([1, -1], 400), 5000, 0.05)
    assert many.choice is Choice.EQUAL
    assert many.used < 800
    assert max(map(abs, many.gain)) < 1.01


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=6))
def test_with_every_place_answered_the_answer_is_certain(outcomes):
    """A census needs no statistics."""
    result = decide(np.array(outcomes), len(outcomes), 0.5)
    expected = {1: Choice.ADAPTED, -1: Choice.OLD, 0: Choice.EQUAL}[int(np.sign(sum(outcomes)))]
    assert result.choice is expected


def test_wrong_decisions_are_rare():
    """Models that are as good as each other, and worse by a little; stopped at will."""
    for rate in (0.5, 0.45):
        wrong = 0
        for seed in range(150):
            rng = np.random.default_rng(seed)
            outcomes = np.where(np.arange(400) < rate * 400, 1, -1)  # clustered
            strata = np.array_split(np.roll(outcomes, rng.integers(400)), 80)
            draws = rng.permutation([rng.choice(s) for s in strata])
            choice = decide(draws, 400, 0.2, forecast=False).choice
            wrong += choice is Choice.ADAPTED or (rate == 0.5 and choice is Choice.OLD)
        assert wrong <= 7  # 5 %


def test_impossible_plans_and_counts_are_refused():
    with pytest.raises(ConfigError, match=r"error rate of 0\.7"):
        TestPlan(0.7)
    with pytest.raises(ConfigError, match="9 answers of 3 places"):
        decide(np.ones(9), 3, 0.1)


# -- places


def grid(images=6, side=10):
    return np.array([(i, r, c) for i in range(images) for r in range(side) for c in range(side)])


def test_places_are_drawn_where_models_disagree_and_spread_over_classes_and_images():
    positions = grid()
    rng = np.random.default_rng(0)
    old = rng.integers(0, 4, len(positions))
    adapted = np.where(rng.random(len(positions)) < 0.5, (old + 1) % 4, old)
    drawn = draw_disagreements(old, adapted, positions, 40, 0)
    assert (old[drawn] != adapted[drawn]).all()
    assert len(set(drawn)) == 40
    assert np.bincount(old[drawn]).tolist() == pytest.approx([10] * 4, abs=3)
    assert np.bincount(positions[drawn, 0], minlength=6).min() >= 3
    np.testing.assert_array_equal(drawn, draw_disagreements(old, adapted, positions, 40, 0))
    more = draw_disagreements(old, adapted, positions, 40, 0, drawn)
    assert not set(drawn) & set(more)
    everything = draw_disagreements(old, adapted, positions, 9999, 0)
    np.testing.assert_array_equal(np.sort(everything), np.flatnonzero(old != adapted))


@pytest.mark.parametrize("count", [3, 7])
def test_every_place_is_as_likely(count):
    positions = grid(1, 4)
    old, adapted = np.zeros(16, int), np.ones(16, int)
    counts = np.zeros(16)
    first = np.zeros(16)
    for seed in range(1500):
        drawn = draw_disagreements(old, adapted, positions, count, seed)
        counts[drawn] += 1
        first[drawn[0]] += 1
    expected = 1500 * count / 16
    assert abs(counts - expected).max() < 4.5 * np.sqrt(expected)
    assert abs(first - 1500 / 16).max() < 4.5 * np.sqrt(1500 / 16)


def clusters(rng, sizes, spread=0.05):
    centers = np.eye(len(sizes), 8)
    return np.concatenate(
        [c + spread * rng.normal(size=(n, 8)) for c, n in zip(centers, sizes, strict=True)]
    )


def test_the_largest_doubtful_group_is_asked_about_first():
    rng = np.random.default_rng(0)
    features = clusters(rng, (100, 40, 20))
    group = np.repeat([0, 1, 2], (100, 40, 20))
    confidence = np.array([0.99, 0.6, 0.55])[group]  # the largest group is certain
    probabilities = np.column_stack([confidence, 1 - confidence])
    places, gains = rank_by_gain(features, probabilities, 3, 0)
    assert group[places].tolist() == [1, 2, 0]
    np.testing.assert_allclose(gains, 100 * np.array([16, 9, 1]) / 160, rtol=1e-6)
    again, _ = rank_by_gain(features, probabilities, 3, 0, places)
    assert not set(places) & set(again)


def test_nothing_left_to_ask_is_an_error():
    with pytest.raises(LabelError, match="no place is left"):
        rank_by_gain(np.ones((3, 2)), np.full((3, 2), 0.5), 2, 0, np.arange(3))


# -- the last layer


def world(seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, 300)
    centers = 2 * np.random.default_rng(9).normal(size=(3, 6))
    return (centers[ids] + shift + rng.normal(size=(300, 6))).astype(np.float32), ids


def test_with_answers_alone_it_is_a_logistic_regression():
    x, y = world()
    zero = Head(np.zeros((3, 6), np.float32), np.zeros(3, np.float32))
    half = (x[:150], y[:150]), (x[150:], y[150:])
    fitted = refit(zero, *half, HeadPlan(0.999999, 0, penalty=1e-3))
    scaled = x[150:] / x.std(0)
    oracle = LogisticRegression(C=1 / (2 * 1e-3 * 150), tol=1e-8, max_iter=2000)
    oracle.fit(scaled, y[150:])
    np.testing.assert_allclose(
        fitted.probabilities(x), oracle.predict_proba(x / x.std(0)), atol=0.01
    )


def test_answers_move_the_head_to_the_target_and_few_move_it_little():
    known, target = world(), world(1, shift=np.array([4, 0, 0, -4, 0, 0]))
    zero = Head(np.zeros((3, 6), np.float32), np.zeros(3, np.float32))
    old = refit(zero, known, known, HeadPlan(half=0))
    accuracy = [(old.probabilities(target[0]).argmax(1) == target[1]).mean()]
    for n in (5, 150):
        head = refit(old, known, (target[0][:n], target[1][:n]))
        accuracy.append((head.probabilities(target[0][150:]).argmax(1) == target[1][150:]).mean())
    assert accuracy[2] > accuracy[0] + 0.05
    one = refit(old, known, (target[0][:1], target[1][:1]))
    assert abs(one.probabilities(known[0]) - old.probabilities(known[0])).mean() < 0.05
    assert refit(old, known, (target[0][:0], target[1][:0])) is old


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_probabilities_are_a_softmax(seed):
    rng = np.random.default_rng(seed)
    head = Head(50 * rng.normal(size=(4, 3)), rng.normal(size=4))
    x = rng.normal(size=(5, 3))
    expected = softmax(x @ head.weight.T + head.bias, axis=1)
    np.testing.assert_allclose(head.probabilities(x), expected, rtol=1e-9)


def test_the_range_of_the_gain_ends_where_the_open_places_do():
    """Three against one, and one place of five is open: a net loss of 1 to 3 places."""
    decision = decide(np.array([-1, -1, 1, -1]), 5, 0.05)
    assert decision.choice is Choice.OLD
    mean, low, high = decision.gain
    assert (low, high) == (pytest.approx(-3.0), pytest.approx(-1.0))
    assert low <= mean <= high
