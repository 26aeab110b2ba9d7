"""Vectors made comparable, and questions moved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from geopipe.errors import ConfigError
from geopipe.retrieve.normalization import (
    Whitening,
    expanded,
    gaussian,
    normalised,
    rocchio,
    similarity,
    unit,
)

RNG = np.random.default_rng(0)


def test_gaussian_is_the_papers_equation():
    f = RNG.normal(3, 7, (5, 40))
    mu, sigma = f.mean(1, keepdims=True), f.std(1, keepdims=True)
    assert gaussian(f) == pytest.approx((1 + (f - mu) / (3 * sigma)) / 2, abs=1e-6)
    assert gaussian(f).mean(1) == pytest.approx(0.5, abs=1e-6)
    assert gaussian(f).std(1) == pytest.approx(1 / 6, abs=1e-6)


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_gaussian_forgets_light(gain, offset):
    f = np.linspace(-1, 2, 12)[None] ** 2
    assert gaussian(gain * f + offset) == pytest.approx(gaussian(f), abs=1e-4)


def test_constant_vectors_are_no_trouble():
    assert (gaussian(np.full((1, 4), 7.0)) == 0.5).all()
    assert (unit(np.zeros((1, 4))) == 0).all()


def test_similarity_is_correlation_and_falls_with_distance():
    f = RNG.normal(size=(30, 50))
    g = gaussian(f)
    s = similarity(g, g[0], "gauss")
    assert s == pytest.approx([np.corrcoef(f[0], x)[0, 1] for x in f], abs=1e-5)
    distance = np.linalg.norm(g - g[0], axis=1)
    assert (np.argsort(distance) == np.argsort(-s)).all()
    assert distance**2 == pytest.approx(50 * (1 - s) / 18, abs=1e-4)


@pytest.mark.parametrize("shape", [(60, 8), (8, 60)])
def test_whitening_as_scikit_learn(shape):
    f = RNG.normal(size=shape) @ np.diag(np.linspace(1, 5, shape[1]))
    mine = Whitening.fit(f, 5)
    z = (f - mine.mean) @ mine.axes
    assert np.cov(z.T, bias=True) == pytest.approx(np.eye(5), abs=1e-6)
    theirs = PCA(5, svd_solver="full").fit(f)
    plain = Whitening.fit(f, 5, whiten=False)
    assert np.abs(plain.axes.T @ theirs.components_.T) == pytest.approx(np.eye(5), abs=1e-6)
    assert np.linalg.norm(mine.apply(f), axis=1) == pytest.approx(1)
    with pytest.raises(ConfigError, match=r"1 to [78]$"):
        Whitening.fit(f, 99)


def test_rocchio_moves_towards_and_away():
    a, b, q = gaussian(RNG.normal(size=(3, 30)))
    moved = rocchio(q, a[None], b[None], "gauss")
    assert similarity(moved[None], a, "gauss") > similarity(q[None], a, "gauss")
    assert similarity(moved[None], b, "gauss") < similarity(q[None], b, "gauss")
    assert moved == pytest.approx(gaussian(q[None] + 0.75 * a - 0.15 * b)[0], abs=1e-6)
    nothing = np.zeros((0, 30))
    assert rocchio(q, nothing, nothing, "gauss") == pytest.approx(q, abs=1e-6)
    assert rocchio(None, a[None], nothing, "gauss") == pytest.approx(a, abs=1e-6)
    with pytest.raises(ConfigError, match="nothing is asked"):
        rocchio(None, nothing, b[None], "gauss")


def test_expansion_is_the_mean():
    q, *found = RNG.normal(size=(4, 6)).astype(np.float32)
    mean = (q + sum(found)) / 4
    assert expanded(q, np.array(found), "l2") == pytest.approx(unit(mean[None])[0], abs=1e-6)


def test_norms():
    f = RNG.normal(size=(2, 9))
    assert (normalised(f, "none") == f.astype(np.float32)).all()
    assert np.linalg.norm(normalised(f, "l2"), axis=1) == pytest.approx(1)
