"""Undeclared nodata: holes filled with one value, blurred at the rim by compression."""

import numpy as np

SOLID = 8
"""A hole holds squares of 2 SOLID + 1 pixels of exactly its value; smaller spots may be roofs."""
RIM = 16
"""Pixels around such a square that its blocks of lossy compression may have touched."""
TOLERANCE = 24
"""How far, in 8-bit levels, a rim's pixels are from the value."""
REACH = 2 * SOLID + RIM
"""Pixels around a window that decide on its holes."""


def undeclared_nodata_mask(pixels: np.ndarray, value: float) -> np.ndarray:
    """Where `pixels` (bands, h, w) are `value`, and the rims of solid holes, (h, w) bool.

    JPEG leaves almost-white pixels around a white hole (at Banepa up to 17 px); mapped, they become
    the outline of a building that is not there. The answer for a pixel depends on the REACH pixels
    around it alone, so windows agree.
    """
    exact: np.ndarray = (pixels == value).all(axis=0)
    if pixels.dtype != np.uint8:
        return exact
    near: np.ndarray = (np.abs(pixels.astype(np.int16) - value) <= TOLERANCE).all(axis=0)
    solid = _box(exact, SOLID) == (2 * SOLID + 1) ** 2
    return np.asarray(exact | (near & (_box(solid, SOLID + RIM) > 0)))


def _box(mask: np.ndarray, radius: int) -> np.ndarray:
    """How many pixels are set in the square of 2 radius + 1 around each; none lie outside."""
    sums = np.pad(mask, ((radius + 1, radius), (radius + 1, radius))).astype(np.int32)
    sums = sums.cumsum(axis=0).cumsum(axis=1)
    size = 2 * radius + 1
    return np.asarray(
        sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    )
