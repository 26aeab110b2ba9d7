"""Filters whose nature is known, and the response of each to a smooth map."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter

from geopipe.errors import ConfigError
from geopipe.grid import Window
from geopipe.mapping.tile import score_window
from geopipe.nets import RefinementRNN
from geopipe.raster import Scene
from reproduce.maggiori.filters import (
    compare,
    covariance,
    derivative_like,
    list_filters,
    net_scores,
    refinement,
    response_like,
    untrained,
)

EAST, SOUTH = (np.mgrid[:5, :5] - 2)[::-1]
R2 = EAST**2 + SOUTH**2


def edge(angle):
    """Minus one on one side of a line through the middle and one on the other."""
    turn = np.radians(angle)
    return np.sign((EAST * np.cos(turn) - SOUTH * np.sin(turn)).round(6))


def slope(angle, scale=1.0):
    turn = np.radians(angle)
    return (EAST * np.cos(turn) - SOUTH * np.sin(turn)) * np.exp(-R2 / (2 * scale**2))


def apart(a, b):
    return abs((a - b + 180) % 360 - 180)


NOT_ONE = {
    "blur": np.exp(-R2 / 2),
    "Laplacian": (R2 - 2) * np.exp(-R2 / 2),
    "second derivative": (EAST**2 - 1) * np.exp(-R2 / 2),
    "mean": np.ones((5, 5)),
    "point": (R2 == 0).astype(float),
    "saddle": EAST * SOUTH * np.exp(-R2 / 2),
    "nothing": np.zeros((5, 5)),
}
SOBEL = np.pad(np.outer([1, 2, 1], [-1, 0, 1]), 1)


@pytest.fixture(scope="module")
def smooth_map():
    return gaussian_filter(np.random.default_rng(3).normal(size=(120, 120)), 3)


@pytest.mark.parametrize("angle", range(0, 360, 15))
@pytest.mark.parametrize("make", [edge, slope])
def test_derivatives_of_any_direction_are_found_with_their_direction(make, angle):
    found = derivative_like(make(angle))
    assert found.like
    assert found.share > 0.7
    assert found.antisymmetry == pytest.approx(1)
    assert apart(found.angle, angle) < 3


@pytest.mark.parametrize("gain", [1e-3, 1, -40])
def test_the_size_of_the_weights_does_not_matter(gain):
    found = derivative_like(gain * SOBEL)
    assert found.like
    assert apart(found.angle, 0 if gain > 0 else 180) < 1e-6


@pytest.mark.parametrize("kernel", NOT_ONE.values(), ids=NOT_ONE)
def test_other_filters_are_no_derivatives(kernel):
    found = derivative_like(kernel)
    assert not found.like
    assert found.share < 0.01


def test_a_derivative_upon_a_blur_is_none():
    assert not derivative_like(slope(30) + 0.5 * NOT_ONE["blur"]).like


def test_noise_is_hardly_ever_a_derivative():
    found = [derivative_like(k) for k in np.random.default_rng(0).normal(size=(3000, 5, 5))]
    assert np.mean([f.like for f in found]) < 0.004
    assert 0.07 < np.mean([f.share for f in found]) < 0.14  # 2 / 25, and the best of four scales
    assert np.mean([f.antisymmetry for f in found]) == pytest.approx(12 / 25, abs=0.01)


def test_a_response_is_measured_as_by_regression_on_the_maps_slopes(smooth_map):
    kernel = np.random.default_rng(5).normal(size=(5, 5))

    def response(k):
        inner = correlate(smooth_map, k)[2:-2, 2:-2].ravel()
        return inner - inner.mean()

    slopes = np.stack([response(EAST * np.exp(-R2 / 2)), response(SOUTH * np.exp(-R2 / 2))], 1)
    target = response(kernel)
    rest = target - slopes @ np.linalg.lstsq(slopes, target, rcond=None)[0]
    expected = 1 - (rest @ rest) / (target @ target)
    assert response_like(kernel, covariance(smooth_map))[0] == pytest.approx(expected, rel=1e-6)


def test_responses_of_derivatives_and_of_others(smooth_map):
    around = covariance(smooth_map)
    for angle in (0, 70, 200):
        share, found = response_like(edge(angle), around)
        assert share > 0.9
        assert apart(found, angle) < 12  # the map is not quite alike in all directions
    for name in ("blur", "Laplacian", "mean", "saddle", "nothing"):
        assert response_like(NOT_ONE[name], around)[0] < 0.05, name


def test_noise_without_a_sum_responds_to_a_smooth_map_like_a_derivative(smooth_map):
    """Why responses need the untrained filters beside them."""
    around = covariance(smooth_map)
    noise = np.random.default_rng(1).normal(size=(400, 5, 5))
    level = noise - noise.mean((1, 2), keepdims=True)
    shares = [np.mean([response_like(k, around)[0] > 0.5 for k in ks]) for ks in (noise, level)]
    assert shares[0] < 0.4 < 0.6 < shares[1]


def test_every_filter_of_every_step_is_listed(smooth_map):
    shared, own = (RefinementRNN(3, 3, iterations=2, recurrent=r) for r in (True, False))
    assert [(f.step, f.index) for f in list_filters(shared)] == [(0, i) for i in range(32)]
    listed = list_filters(own, [smooth_map, -smooth_map])
    assert {f.step for f in listed} == {0, 1}
    assert len(listed) == 64
    assert all(f.responses[0] == pytest.approx(f.responses[1]) for f in listed)


def test_a_model_trained_to_derivatives_stands_out(make_model, make_raster):
    model = make_model(iterations=1)
    with torch.no_grad():
        for i, kernel in enumerate(model.net.postprocessor.updates[0].m):
            kernel[0] = torch.from_numpy(slope(11 * i))
    scene = Scene.open(make_raster(np.random.default_rng(0).integers(0, 255, (3, 96, 96), "uint8")))
    tables = compare(model, scene, Window.of_shape(scene.shape), draws=3)
    assert tables["learned"]["like"] == 1
    assert min(tables["learned"]["response_like"]) == 1
    assert tables["untrained"]["count"] == 96
    assert tables["untrained"]["like"] < 0.05
    assert max(tables["untrained"]["response_like"]) < 0.7


def test_untrained_filters_follow_from_the_seed_alone():
    refine = RefinementRNN(3, 3, iterations=1)
    state = torch.random.get_rng_state()
    a, b, c = (untrained(refine, seed).updates[0].m for seed in (4, 4, 5))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_first_iteration_sees_the_coarse_nets_scores(make_model, make_raster):
    model = make_model(iterations=2)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 80, 96), "uint8")
    scene, window = Scene.open(make_raster(pixels)), Window(8, 16, 40, 48)
    image, scores = net_scores(model, scene, window)
    (expected,) = score_window(model, scene, window, iterations=(0,))
    assert np.allclose(scores[:, :40, :48], expected.numpy(), atol=1e-5)
    assert np.allclose(image[:, :40, :48], (pixels[:, 8:48, 16:64] - 100.0) / 50, atol=1e-5)


def test_a_coarse_model_has_no_filters(make_model):
    with pytest.raises(ConfigError, match="no refinement"):
        refinement(make_model(iterations=0))
