"""Undeclared nodata: holes filled with one value, blurred at the rim by compression."""

import numpy as np

CORE_RADIUS = 8
"""A hole holds squares of 2 SOLID + 1 pixels of exactly its value; smaller spots may be roofs."""
RIM_PX = 16
"""Pixels around such a square that its blocks of lossy compression may have touched."""
TOLERANCE = 24
"""How far, in 8-bit levels, a rim's pixels are from the value."""
MARGIN_PX = 2 * CORE_RADIUS + RIM_PX
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
    is_close: np.ndarray = (np.abs(pixels.astype(np.int16) - value) <= TOLERANCE).all(axis=0)
    solid = _box(exact, CORE_RADIUS) == (2 * CORE_RADIUS + 1) ** 2
    return np.asarray(exact | (is_close & (_box(solid, CORE_RADIUS + RIM_PX) > 0)))


def _box(mask: np.ndarray, radius: int) -> np.ndarray:
    """How many pixels are set in the square of 2 radius + 1 around each; none lie outside."""
    integral = np.pad(mask, ((radius + 1, radius), (radius + 1, radius))).astype(np.int32)
    integral = integral.cumsum(axis=0).cumsum(axis=1)
    size = 2 * radius + 1
    return np.asarray(
        integral[size:, size:]
        - integral[:-size, size:]
        - integral[size:, :-size]
        + integral[:-size, :-size]
    )
