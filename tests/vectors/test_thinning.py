"""Thinning: the pixels of scikit-image's, at the cost of the mask alone."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.morphology import thin as reference

from geopipe.vectors.thinning import thin


@pytest.mark.parametrize("blur", [1.0, 2.5, 6.0])
def test_equal_to_scikit_image(blur):
    noise = gaussian_filter(np.random.default_rng(3).normal(size=(90, 110)), blur)
    mask = noise > 0
    thinned, done = thin(mask, 100)
    assert done
    np.testing.assert_array_equal(thinned, reference(mask))
    np.testing.assert_array_equal(thin(mask, 2)[0], reference(mask, max_num_iter=2))


def test_a_diagonal_of_even_width_keeps_its_length():
    # The algorithm of Zhang and Suen takes half of it away.
    rows, cols = np.indices((80, 80))
    thinned, done = thin((np.abs(rows - cols) <= 1) & (rows != cols + 1), 20)
    assert done
    assert thinned.sum() >= 78


def test_says_when_it_is_not_done():
    mask = np.pad(np.ones((40, 40), bool), 2)
    assert not thin(mask, 10)[1]
    assert thin(mask, 30)[1]
