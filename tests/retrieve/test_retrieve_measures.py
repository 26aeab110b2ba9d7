"""mAP, ANMRR, precision and recall: by hand, by loops, and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from geopipe.errors import ConfigError
from geopipe.retrieve.measures import evaluate_ranking, evaluate_vectors


def ranking(*ranks, of):
    return np.isin(np.arange(1, of + 1), ranks)


def test_worked_by_hand():
    # NG = 2, K = min(8, 4) = 4, worst 1.25 x 4 - 1.5 = 3.5.
    ap, nmrr, precision, recall = evaluate_ranking(ranking(1, 3, of=5), largest=2)
    assert ap == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert nmrr == pytest.approx(((1 + 3) / 2 - 1.5) / 3.5)
    assert precision == pytest.approx([1 / 2, 2 / 3, 2 / 4, 2 / 5])
    assert recall == pytest.approx([1 / 2, 1, 1, 1])


def test_what_lies_beyond_k_counts_as_five_quarters_of_k():
    _, nmrr, _, _ = evaluate_ranking(ranking(1, 9, of=20), largest=2)
    assert nmrr == pytest.approx(((1 + 5) / 2 - 1.5) / 3.5)
    # A class larger than this query's widens K: min(4 x 2, 2 x 5) = 8.
    _, nmrr, _, _ = evaluate_ranking(ranking(1, 9, of=20), largest=5)
    assert nmrr == pytest.approx(((1 + 10) / 2 - 1.5) / (10 - 1.5))


@pytest.mark.parametrize(("ranks", "wanted"), [((1, 2, 3), 0), ((50, 60, 70), 1)])
def test_best_and_worst(ranks, wanted):
    assert evaluate_ranking(ranking(*ranks, of=80), largest=3)[1] == pytest.approx(wanted)


def slow(vectors, names):
    """AP and NMRR of every query by its definition, number by number."""
    counts = {n: names.count(n) for n in names if n}
    largest = max(c - 1 for c in counts.values())
    out = []
    for q, name in enumerate(names):
        if not name or counts[name] < 2:
            continue
        others = [i for i in range(len(names)) if i != q and names[i]]
        others.sort(
            key=lambda i: (
                sum((a - b) ** 2 for a, b in zip(vectors[q], vectors[i], strict=True)),
                i,
            )
        )
        found, sum_ap, sum_rank = 0, 0.0, 0.0
        total = counts[name] - 1
        limit = min(4 * total, 2 * largest)
        for rank, i in enumerate(others, 1):
            if names[i] == name:
                found += 1
                sum_ap += found / rank
                sum_rank += rank if rank <= limit else 1.25 * limit
        ideal = (1 + total) / 2
        out.append((sum_ap / total, (sum_rank / total - ideal) / (1.25 * limit - ideal)))
    return np.array(out)


@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(any))
def test_average_precision_is_scikit_learns(relevant):
    relevant = np.array(relevant)
    ap = evaluate_ranking(relevant, int(relevant.sum()))[0]
    assert ap == pytest.approx(average_precision_score(relevant, -np.arange(len(relevant))))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=3))
def test_as_slow_loops(seed, names):
    assume(any(names.count(name) > 1 for name in "abc"))
    vectors = np.random.default_rng(seed).normal(size=(len(names), 3))
    judged = evaluate_vectors(vectors, names)
    expected = slow(vectors.astype(np.float32).tolist(), names)
    assert judged.ap == pytest.approx(expected[:, 0])
    assert judged.nmrr == pytest.approx(expected[:, 1])
    assert ((judged.nmrr >= 0) & (judged.nmrr <= 1)).all()


def test_gaussian_classes_as_slow_loops():
    rng = np.random.default_rng(0)
    names = [*("abc" * 9), "", "lonely"]
    vectors = rng.normal(size=(len(names), 5)) + [[ord(n[0]) % 3 if n else 0] for n in names]
    judged = evaluate_vectors(vectors, names)
    expected = slow(vectors.tolist(), names)
    assert judged.ap == pytest.approx(expected[:, 0])
    assert judged.nmrr == pytest.approx(expected[:, 1])
    assert judged.left_out == ("lonely",)
    assert len(judged.ap) == 27
    parts = judged.by_class
    assert sorted(parts) == ["a", "b", "c"]
    assert np.mean([p.mean_ap for p in parts.values()]) == pytest.approx(judged.mean_ap)
    some = evaluate_vectors(vectors, names, np.array([3, 27, 28, 5]))
    assert some.ap == pytest.approx(judged.ap[[3, 5]])


def test_curve_ends_at_100_or_at_what_there_is():
    rng = np.random.default_rng(1)
    judged = evaluate_vectors(rng.normal(size=(130, 4)), ["a", "b"] * 65)
    assert judged.retrieved.tolist() == list(range(2, 101))
    few = evaluate_vectors(rng.normal(size=(6, 4)), ["a", "b"] * 3)
    assert few.retrieved.tolist() == [2, 3, 4, 5]
    assert few.recall[:, -1] == pytest.approx(1)
    assert few.precision[:, -1] == pytest.approx(2 / 5)


def test_equal_images_are_found_first():
    vectors = np.repeat(np.eye(4), 2, 0) * 1e-3 + 1e3  # far from zero, near each other
    judged = evaluate_vectors(vectors, ["a", "a", "b", "b", "c", "c", "d", "d"])
    assert judged.mean_ap == 1
    assert judged.anmrr == 0


def test_no_class_with_two_images():
    with pytest.raises(ConfigError, match="no class has two images"):
        evaluate_vectors(np.eye(3), ["a", "b", ""])


def test_moved_questions():
    vectors = np.array([[0.0], [1], [10], [11]])
    names = ["a", "b", "a", "b"]
    assert evaluate_vectors(vectors, names).ap == pytest.approx([1 / 2, 1 / 3, 1 / 3, 1 / 2])
    swapped = evaluate_vectors(vectors, names, query_vectors=vectors[[2, 3, 0, 1]])
    assert swapped.ap == pytest.approx([1, 1, 1, 1])
