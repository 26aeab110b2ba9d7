"""Smooth and simplify lines by no more than a stated distance."""

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter1d


def smoothed(xy: np.ndarray, step: float, tolerance: float, *, closed: bool) -> np.ndarray:
    """The line `xy` (n, 2) with fewer vertices and without the pixels' stairs, (m, 2).

    Its first and last vertices stay. Half of `tolerance` (the units of `xy`) is the most that
    smoothing moves a point, half the most that a vertex left out lies off the new line. `step`:
    distance between the vertices of `xy`, a pixel; longer pieces are straight.
    """
    points = shapely.get_coordinates(shapely.segmentize(shapely.LineString(xy), 1.5 * step))
    moved = _blurred(points, max(1.0, 2 * tolerance / step), closed) - points
    distance = np.hypot(*moved.T)
    moved *= np.minimum(1.0, tolerance / 2 / np.maximum(distance, 1e-12))[:, None]
    moved[[0, -1]] = 0.0
    line = shapely.LineString(points + moved)
    return shapely.get_coordinates(shapely.simplify(line, tolerance / 2))


def _blurred(points: np.ndarray, sigma: float, closed: bool) -> np.ndarray:
    """`points` averaged along the line with a Gaussian of `sigma` points, its ends held."""
    if closed:
        blurred = gaussian_filter1d(points[:-1], sigma, axis=0, mode="wrap")
        return np.concatenate([blurred, blurred[:1]])
    reach = min(len(points) - 1, int(4 * sigma) + 1)
    # Turned about its ends the line goes on straight, so that the average of an end is the end.
    before = 2 * points[0] - points[reach:0:-1]
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    longer = np.concatenate([before, points, after])
    return np.asarray(
        gaussian_filter1d(longer, sigma, axis=0, mode="nearest")[reach : reach + len(points)]
    )
