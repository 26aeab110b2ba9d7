"""What an image says about outlines, and how well shapes agree with it at every displacement."""

import numpy as np
from scipy import fft, ndimage

SMOOTH_PX = 1.0
"""Deviation of the blur before a derivative is taken."""
CONTRAST_M = 30.0
"""Edges count relative to those around them, so that one bright roof does not decide alone."""


def edges(image: np.ndarray, valid: np.ndarray, around: int) -> np.ndarray:
    """Strength and direction of edges, (h, w) complex64; 0 near pixels that are not valid.

    The direction counts twice (an angle of 2a): whichever side is the brighter, an edge is the same
    edge. Bands (bands, h, w) are added; each is divided by the strength within `around` pixels.
    """
    total = np.zeros(valid.shape, np.complex64)
    for band in image:
        found = _doubled(_filled(band, valid))
        near = ndimage.uniform_filter(np.abs(found) ** 2, 2 * around + 1)
        total += found / (np.sqrt(np.maximum(near, 0)) + 1e-6 + 0.1 * np.abs(found).mean())
    inner = ndimage.binary_erosion(valid, iterations=4, border_value=1)
    return np.where(inner, total, 0).astype(np.complex64)


def outline(mask: np.ndarray) -> np.ndarray:
    """As `edges`, of a mask (h, w) float32; where it touches the border there is no outline."""
    padded = np.pad(mask, 4, mode="edge")
    found = _doubled(padded)[4:-4, 4:-4]
    return np.where(np.abs(found) > 1e-3, found, 0).astype(np.complex64)


def correlate(evidence: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Agreement of `template` (h, w) with `evidence` (h + 2 r, w + 2 r), real (2 r + 1, 2 r + 1).

    Entry (i, j) is for the template moved by (i - r, j - r) pixels down and right.
    """
    size = tuple(n - m + 1 for n, m in zip(evidence.shape, template.shape, strict=True))
    shape = [fft.next_fast_len(n, real=False) for n in evidence.shape]
    product = fft.fft2(evidence, shape) * np.conj(fft.fft2(template, shape))
    return np.asarray(fft.ifft2(product).real[: size[0], : size[1]], np.float32)


def _doubled(pixels: np.ndarray) -> np.ndarray:
    """|g| e^(2ia) of the gradient g = |g| e^(ia)."""
    down = ndimage.gaussian_filter(pixels, SMOOTH_PX, order=(1, 0))
    along = ndimage.gaussian_filter(pixels, SMOOTH_PX, order=(0, 1))
    gradient = along + 1j * down
    return np.asarray(gradient**2 / (np.abs(gradient) + 1e-9), np.complex64)


def _filled(band: np.ndarray, valid: np.ndarray) -> np.ndarray:
    mean = float(band[valid].mean()) if valid.any() else 0.0
    return np.where(valid, band, mean).astype(np.float32)
