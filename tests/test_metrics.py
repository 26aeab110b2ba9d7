import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.metrics import Metrics

NAMES = ("background", "building", "road", "water")
ids = arrays(np.uint8, 60, elements=st.sampled_from([0, 1, 2, 3, IGNORE]))


def same(ours, theirs, there):
    """Equal where the denominator is not zero, nan where it is."""
    np.testing.assert_allclose([x for x, t in zip(ours, there, strict=True) if t], theirs[there])
    assert all(math.isnan(x) for x, t in zip(ours, there, strict=True) if not t)


@settings(max_examples=100, deadline=None)
@given(truth=ids, mapped=ids)
def test_every_figure_is_scikit_learns(truth, mapped):
    m = Metrics.of(NAMES, truth, mapped)
    known = (truth != IGNORE) & (mapped != IGNORE)
    t, p = truth[known], mapped[known]
    assert (m.pixels, m.ignored) == (known.sum(), 60 - known.sum())
    if not t.size:
        assert math.isnan(m.overall_accuracy)
        assert math.isnan(m.mean_iou)
        return
    k = range(4)
    np.testing.assert_array_equal(m.matrix, sk.confusion_matrix(t, p, labels=k))
    in_truth, in_map = (np.isin(k, x) for x in (t, p))
    either = in_truth | in_map
    settled = {"labels": k, "average": None, "zero_division": 0}
    same(m.iou, sk.jaccard_score(t, p, **settled), either)
    same(m.f1, sk.f1_score(t, p, **settled), either)
    same(m.users_accuracy, sk.precision_score(t, p, **settled), in_map)
    same(m.producers_accuracy, sk.recall_score(t, p, **settled), in_truth)
    assert m.overall_accuracy == pytest.approx(sk.accuracy_score(t, p))
    present = np.flatnonzero(either)
    expected = sk.jaccard_score(t, p, labels=present, average="macro")
    assert m.mean_iou == pytest.approx(expected)
    if len(present) > 1:
        assert m.kappa == pytest.approx(sk.cohen_kappa_score(t, p), abs=1e-12)
    else:
        assert math.isnan(m.kappa)


@given(truth=ids, mapped=ids, cut=st.integers(0, 60))
@settings(deadline=None)
def test_parts_add_up_to_the_whole(truth, mapped, cut):
    whole = Metrics.of(NAMES, truth, mapped)
    parts = Metrics.of(NAMES, truth[:cut], mapped[:cut]) + Metrics.of(
        NAMES, truth[cut:], mapped[cut:]
    )
    np.testing.assert_array_equal(whole.matrix, parts.matrix)
    assert whole.ignored == parts.ignored
    assert (Metrics.empty(NAMES) + whole).to_dict() == whole.to_dict()


def test_json_has_no_nan_and_comes_back():
    m = Metrics.of(NAMES, np.array([0, 1, 1, 255]), np.array([0, 1, 0, 0]))
    tables = json.loads(json.dumps(m.to_dict(), allow_nan=False))
    assert tables["classes"]["road"]["iou"] is None
    assert tables["classes"]["building"]["iou"] == 0.5
    back = Metrics.from_dict(tables)
    assert back.to_dict() == m.to_dict()


def test_figures_of_a_known_map():
    # 90 + 5 of 100 right; building: 5 of 10 found, nothing wrong beside.
    m = Metrics(("background", "building"), np.array([[90, 0], [5, 5]]), ignored=7)
    assert m.overall_accuracy == 0.95
    assert m.iou == (90 / 95, 0.5)
    assert m.users_accuracy == (90 / 95, 1.0)
    assert m.producers_accuracy == (1.0, 0.5)
    text = m.to_markdown()
    assert "| 100 | 7 | 95.00 % |" in text
    assert "| building | 50.00 % | 66.67 % | 100.00 % | 50.00 % | 10 |" in text


def test_large_maps_do_not_overflow():
    m = Metrics(("a", "b"), np.array([[4 * 10**10, 10**10], [10**10, 4 * 10**10]]))
    assert m.kappa == pytest.approx(0.6)


def test_an_id_without_a_name_is_refused():
    with pytest.raises(LabelError, match="the truth holds the class id 7"):
        Metrics.of(NAMES, np.array([7]), np.array([0]))
    with pytest.raises(LabelError, match="the map holds the class id -3"):
        Metrics.of(NAMES, np.array([0]), np.array([-3]))
    with pytest.raises(ValueError, match="other classes"):
        Metrics.empty(NAMES) + Metrics.empty(NAMES[:2])
