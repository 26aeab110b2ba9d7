"""Edges of an image, and how well outlines match them at every displacement."""

import numpy as np
from scipy import fft, ndimage

from geopipe.register.threads import in_order

SMOOTH_PX = 1.0
"""Deviation of the blur before a derivative is taken."""
_RADIUS = 4
"""Pixels that a derivative looks at on either side."""
CONTRAST_M = 30.0
"""Edges count relative to those around them, so that one bright roof does not decide alone."""


_OFFSETS = np.arange(-_RADIUS, _RADIUS + 1)
_BLUR = np.exp(-((_OFFSETS / SMOOTH_PX) ** 2) / 2)
_BLUR /= _BLUR.sum()
_SLOPE = _OFFSETS / SMOOTH_PX**2 * _BLUR
"""A Gaussian and its derivative, as correlated with rows and columns."""


def edges(image: np.ndarray, valid: np.ndarray, window_radius: int) -> np.ndarray:
    """Strength and direction of edges, (2, h, w) float32; 0 near pixels that are not valid.

    The direction counts twice (cosine and sine of an angle of 2a): whichever side is the brighter,
    an edge is the same edge. Bands (bands, h, w) are added; each is divided by the strength within
    `window_radius` pixels.
    """
    total = np.zeros((2, *valid.shape), np.float32)
    for band_edges in in_order(
        lambda band: _relative(_filled(band, valid), window_radius), [*image]
    ):
        total += band_edges
    if not valid.all():
        total *= ndimage.binary_erosion(valid, iterations=_RADIUS, border_value=1)
    return total


def _relative(band: np.ndarray, window_radius: int) -> np.ndarray:
    directions, strength = _doubled_angle(band)
    mean = float(strength.mean())
    local_energy = ndimage.uniform_filter(np.square(strength, out=strength), 2 * window_radius + 1)
    np.sqrt(np.maximum(local_energy, 0, out=local_energy), out=local_energy)
    local_energy += 1e-6 + 0.1 * mean
    directions /= local_energy
    return directions


def outline(mask: np.ndarray) -> np.ndarray:
    """As `edges`, of a mask (h, w) bool; where it touches the border there is no outline."""
    padded = np.pad(mask.astype(np.float32), _RADIUS, mode="edge")
    directions, strength = _doubled_angle(padded)
    directions *= strength > 1e-3
    return directions[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def correlate(evidence: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Agreement of `template` (c, h, w) with `evidence` (c, h + 2 r, w + 2 r), summed over c.

    Entry (i, j) of the result, (2 r + 1, 2 r + 1) float32, is for the template moved by
    (i - r, j - r) pixels down and right.
    """
    rows, cols = (n - m + 1 for n, m in zip(evidence.shape[1:], template.shape[1:], strict=True))
    shape = [fft.next_fast_len(n, real=True) for n in evidence.shape[1:]]
    product = fft.rfft2(evidence, shape) * np.conj(fft.rfft2(template, shape))
    return np.asarray(fft.irfft2(product.sum(0), shape)[:rows, :cols], np.float32)


def _doubled_angle(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts of |g| e^(2ia) of the gradient g = |g| e^(ia), (2, h, w), and |g|, (h, w)."""
    gradient_y = ndimage.correlate1d(ndimage.correlate1d(pixels, _SLOPE, 0), _BLUR, 1)
    gradient_x = ndimage.correlate1d(ndimage.correlate1d(pixels, _BLUR, 0), _SLOPE, 1)
    directions = np.empty((2, *pixels.shape), np.float32)
    np.multiply(gradient_x, gradient_y, out=directions[1])
    directions[1] *= 2
    np.square(gradient_x, out=gradient_x)
    np.square(gradient_y, out=gradient_y)
    np.subtract(gradient_x, gradient_y, out=directions[0])
    gradient_x += gradient_y
    strength = np.sqrt(gradient_x, out=gradient_x)
    directions /= strength + np.float32(1e-9)
    return directions, strength


def _filled(band: np.ndarray, valid: np.ndarray) -> np.ndarray:
    if valid.all():
        return np.asarray(band, np.float32)
    mean = float(band[valid].mean()) if valid.any() else 0.0
    return np.where(valid, band, mean).astype(np.float32)
