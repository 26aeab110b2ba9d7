"""Outlines against images: what agrees where, by brute force and by construction."""

import numpy as np
import pytest

from geopipe.register.evidence import correlate, edges, outline

RNG = np.random.default_rng(0)


def house(row, col, shape=(60, 70)):
    mask = np.zeros(shape, bool)
    mask[row : row + 18, col : col + 12] = True
    return mask


@pytest.mark.parametrize(("size", "reach"), [((5, 9), 3), ((8, 8), 1), ((1, 6), 4)])
def test_correlate_is_the_sum_over_every_displacement(size, reach):
    template = RNG.normal(size=(2, *size))
    field = RNG.normal(size=(2, size[0] + 2 * reach, size[1] + 2 * reach))
    found = correlate(field, template)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            part = field[:, i : i + size[0], j : j + size[1]]
            assert found[i, j] == pytest.approx((part * template).sum(), abs=1e-4)


@pytest.mark.parametrize("contrast", [40, -40])
def test_a_house_agrees_best_where_it_stands_bright_or_dark(contrast):
    """Drawn at (20, 30), standing 3 down and 2 left of it."""
    image = 100 + contrast * house(23, 28)[None].astype(np.float32)
    drawn = edges(image, np.ones(image.shape[1:], bool), 30)
    surface = correlate(drawn[:, 14:44, 24:48], outline(house(20, 30))[:, 20:38, 30:42])
    assert surface.shape == (13, 13)
    assert np.unravel_index(surface.argmax(), surface.shape) == (6 + 3, 6 - 2)


def test_edges_do_not_tell_which_side_is_brighter():
    image = RNG.uniform(0, 255, (3, 40, 40)).astype(np.float32)
    valid = np.ones((40, 40), bool)
    assert np.allclose(edges(image, valid, 9), edges(255 - image, valid, 9), atol=1e-3)


def test_an_even_image_has_no_edges():
    even = np.full((1, 40, 40), 65535, np.float32)
    assert not edges(even, np.ones((40, 40), bool), 9).any()


def test_the_rim_of_what_is_valid_is_no_edge():
    image = np.full((1, 60, 60), 200, np.float32)
    valid = np.ones((60, 60), bool)
    image[:, :, 40:], valid[:, 40:] = 0, False
    assert not edges(image, valid, 9).any()


def test_a_cut_is_no_outline():
    """A road's part runs through its window from left to right: only its sides are outlines."""
    mask = np.zeros((21, 30), bool)
    mask[7:14] = True
    line = outline(mask)
    assert np.allclose(line, line[..., :1], atol=1e-5)
    assert np.hypot(*line)[7].min() > 0.1
    assert not outline(np.ones((9, 9), bool)).any()
