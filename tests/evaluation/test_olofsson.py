import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from geopipe.errors import ConfigError, LabelError
from geopipe.evaluation.assess.olofsson import Estimate, Stratum, estimate, sample_size
from geopipe.evaluation.assess.sampling import MAX_POINTS, SampleSize, allocate

# Olofsson et al. 2014, section 5 and table 8: 30 m pixels, deforestation to stable non-forest.
PAPER = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
NAMES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
HA = 0.09


def points_of(matrix):
    """(mapped, truth) of the points that `matrix` counts."""
    mapped, truth = np.indices(matrix.shape)
    times = matrix.ravel()
    return np.repeat(mapped.ravel(), times), np.repeat(truth.ravel(), times)


@pytest.fixture(scope="module")
def paper():
    return estimate(Stratum(NAMES, PIXELS, PIXELS * HA), *points_of(PAPER))


def rounded(estimates):
    return [(round(e.value, 2), round(e.half_width, 2)) for e in estimates]


def test_the_papers_accuracies(paper):
    assert rounded([paper.overall]) == [(0.95, 0.02)]
    assert rounded(paper.users) == [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    # Of eq. 7, which the next test but two writes out.
    assert rounded(paper.producers) == [(0.75, 0.21), (0.85, 0.25), (0.93, 0.03), (0.96, 0.02)]
    np.testing.assert_array_equal(paper.counts, PAPER)


def test_the_papers_matrix_of_proportions(paper):
    printed = [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    np.testing.assert_allclose(paper.proportions, printed, atol=6e-5)
    assert paper.proportions.sum() == pytest.approx(1)


def test_the_papers_areas(paper):
    deforestation = paper.areas[0]
    assert round(deforestation.value) == 21_158
    assert round(deforestation.half_width) == 6_158
    in_pixels = deforestation.times(1 / HA)
    assert (round(in_pixels.value), round(in_pixels.half_width)) == (235_086, 68_418)
    assert sum(a.value for a in paper.areas) == pytest.approx(PIXELS.sum() * HA)


def test_producers_accuracy_is_eq_7_written_out(paper):
    n, true = PAPER.sum(1), (PIXELS[:, None] * PAPER / PAPER.sum(1)[:, None]).sum(0)
    for j, found in enumerate(paper.producers):
        u = PAPER[j, j] / n[j]
        p = PIXELS[j] * u / true[j]
        own = PIXELS[j] ** 2 * (1 - p) ** 2 * u * (1 - u) / (n[j] - 1)
        shares = PAPER[:, j] / n
        others = PIXELS**2 * shares * (1 - shares) / (n - 1)
        variance = (own + p**2 * (others.sum() - others[j])) / true[j] ** 2
        assert found.value == pytest.approx(p)
        assert found.se == pytest.approx(math.sqrt(variance))


def test_kappa_is_scikit_learns_with_weights(paper):
    mapped, truth = np.indices((4, 4)).reshape(2, -1)
    oracle = cohen_kappa_score(truth, mapped, sample_weight=paper.proportions.ravel())
    assert paper.kappa == pytest.approx(oracle)


def test_only_the_ratio_of_the_weights_matters():
    mapped, truth = points_of(PAPER)
    strata = Stratum(NAMES, PIXELS, PIXELS * HA)
    plain = estimate(strata, mapped, truth)
    weighed = estimate(strata, mapped, truth, np.array([3.0, 5, 7, 11])[mapped])
    np.testing.assert_allclose(weighed.proportions, plain.proportions)
    np.testing.assert_allclose([e.se for e in weighed.users], [e.se for e in plain.users])


# -- what a sample cannot say


def two(counts, pixels=(1000, 3000)):
    pixels = np.array(pixels)
    return estimate(Stratum(("land", "house"), pixels, pixels * 1.0), *points_of(np.array(counts)))


def test_one_point_in_a_stratum_gives_no_interval():
    found = two([[1, 0], [2, 8]])
    assert found.users[0].value == 1
    assert math.isnan(found.users[0].se)
    assert found.users[1].se > 0
    for e in (found.overall, *found.producers, *found.areas):
        assert not math.isnan(e.value)
        assert math.isnan(e.half_width)


def test_a_stratum_without_a_point_is_named():
    with pytest.raises(LabelError, match="'land', 25 %"):
        two([[0, 0], [2, 8]])


def test_a_class_that_is_not_mapped_can_still_be_found():
    found = two([[0, 0], [2, 8]], (0, 4000))
    assert math.isnan(found.users[0].value)
    assert found.producers[0] == Estimate(0.0, 0.0)
    assert found.areas[0].value == pytest.approx(800)
    assert found.areas[0].se == pytest.approx(4000 * math.sqrt(0.2 * 0.8 / 9))


def test_a_class_without_a_true_point_has_no_producers_accuracy():
    found = two([[5, 0], [9, 0]])
    assert math.isnan(found.producers[1].value)
    assert found.areas[1].value == 0


def test_a_stratum_looked_at_in_full_adds_no_uncertainty():
    some, all_ = two([[1, 2], [3, 97]], (50, 3000)), two([[1, 2], [3, 97]], (3, 3000))
    assert some.users[0].se > 0
    assert all_.users[0] == Estimate(pytest.approx(1 / 3), 0.0)
    lone = two([[1, 0], [3, 97]], (1, 3000))
    assert lone.overall.se == pytest.approx(3000 / 3001 * math.sqrt(0.97 * 0.03 / 99))


# -- many samples of a known truth


SIZE = 100_000


def population(rng):
    """(mapped, truth, area) of SIZE pixels in four classes, the rarer the worse mapped."""
    truth = rng.choice(4, SIZE, p=[0.1, 0.2, 0.3, 0.4])
    wrong = rng.random(SIZE) < np.array([0.3, 0.25, 0.2, 0.15])[truth]
    mapped = np.where(wrong, rng.integers(0, 4, SIZE), truth)
    # The more common a class, the larger its pixels: up to twice.
    area = 1 + np.clip(truth / 4 + rng.normal(0, 0.1, SIZE), 0, 1)
    return mapped, truth, area


def coverage(strata_area, by_area, runs=1500):
    """Share of the runs whose 95 % interval holds the truth: overall, areas, producer's."""
    rng = np.random.default_rng(11)
    mapped, truth, area = population(rng)
    size = area if by_area else np.ones_like(area)
    strata = Stratum(NAMES, np.bincount(mapped), strata_area(np.bincount(mapped, size)))
    right = mapped == truth
    goal = [
        size[right].sum() / size.sum(),
        *(np.bincount(truth, size) / size.sum()),
        *(np.bincount(truth, size * right) / np.bincount(truth, size)),
    ]
    members = [np.flatnonzero(mapped == c) for c in range(4)]
    held = np.zeros(9)
    for _ in range(runs):
        chosen = np.concatenate([rng.choice(m, 200, shuffle=False, replace=False) for m in members])
        e = estimate(strata, mapped[chosen], truth[chosen], size[chosen])
        shares = [a.times(1 / strata.area.sum()) for a in e.areas]
        found = [e.overall, *shares, *e.producers]
        held += [abs(x.value - g) <= x.half_width for x, g in zip(found, goal, strict=True)]
    return held / runs


@pytest.mark.parametrize("by_area", [False, True], ids=["equal pixels", "unequal pixels"])
def test_95_of_100_intervals_hold_the_truth(by_area):
    # 0.95 +- 4.4 standard deviations of 1500 runs.
    found = coverage(lambda area: area, by_area)
    assert (found > 0.925).all(), found
    assert (found < 0.975).all(), found


def test_of_intervals_without_weights_few_do():
    """What the test above says of an estimator that takes the sample for the map."""
    found = coverage(np.ones_like, False, 300)
    assert found[0] < 0.8
    assert found[1:5].max() < 0.8


def test_pixels_taken_for_areas_miss_the_truth():
    """The point weights matter: without them the areas are those of equal pixels."""
    mapped, truth, area = population(np.random.default_rng(11))
    strata = Stratum(NAMES, np.bincount(mapped), np.bincount(mapped, area))
    goal = np.bincount(truth, area)
    errors = [
        abs(estimate(strata, mapped, truth, w).areas[3].value / goal[3] - 1)
        for w in (area, np.ones_like(area))
    ]
    assert errors[0] < 1e-12
    assert errors[1] > 0.01


# -- sample size


def test_the_papers_sample_size():
    """Section 5.1.1: a standard error of 0.01 takes 641 points."""
    assert sample_size(PIXELS.tolist(), (0.7, 0.6, 0.9, 0.95), 1.96 * 0.01) == 641


def test_a_small_map_takes_fewer_points():
    shares = (200, 150, 3200, 6450)
    n = sample_size(shares, (0.7, 0.6, 0.9, 0.95), 1.96 * 0.01)
    assert n < 641
    assert sample_size(shares, (0.7, 0.6, 0.9, 0.95), 1e-9) <= sum(shares)


def test_rare_classes_get_the_minimum_and_the_rest_its_share():
    expected = dict(zip(NAMES, (0.7, 0.6, 0.9, 0.95), strict=True))
    size = SampleSize(half_width=1.96 * 0.01, minimum=75, expected=expected)
    found = allocate(NAMES, PIXELS.tolist(), size)
    assert found.points[:2] == (75, 75)
    assert found.points[2] / found.points[3] == pytest.approx(3200 / 6450, abs=0.01)
    assert sum(found.points) > 641, "proportional is not the best allocation"
    assert 0.019 < found.half_width <= 0.0196


def test_what_is_expected_by_default():
    found = allocate(("a", "b", "c"), (10, 900, 90), SampleSize(half_width=0.05))
    assert found.expected == (0.7, 0.9, 0.7)
    assert found.points[0] == 10
    assert found.half_width <= 0.05


def test_no_class_gets_more_points_than_pixels():
    assert allocate("abc", (3, 0, 500), SampleSize(per_class=50)).points == (3, 0, 50)
    assert allocate("ab", (30, 20), SampleSize(half_width=1e-6)).points == (30, 20)


def test_impossible_sizes_are_refused():
    for wrong in (
        {"per_class": 1},
        {"half_width": 0.0},
        {"half_width": 2.0},
        {"minimum": 1},
        {"expected": {"a": 1.0}},
    ):
        with pytest.raises(ConfigError):
            SampleSize(**wrong)
    with pytest.raises(ConfigError, match=f"more than {MAX_POINTS}"):
        allocate(NAMES, PIXELS.tolist(), SampleSize(half_width=1e-4))
    with pytest.raises(ConfigError, match="'lake'"):
        allocate(NAMES, PIXELS.tolist(), SampleSize(expected={"lake": 0.8}))
