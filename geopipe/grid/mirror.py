"""Continue an image beyond its edges by its mirror image."""

import numpy as np

from geopipe.grid.window import Window


def mirror_pad(window: Window, shape: tuple[int, int]) -> tuple[Window, np.ndarray, np.ndarray]:
    """What `window` sees of a plane of `shape` that is reflected at its edges, over and over.

    Returns the part of the plane to read, and the rows and columns of that part (int64) that make
    up the window, its height and width of them. Depends on global positions alone.
    """
    rows, cols = (
        _reflected(np.arange(first, last), n)
        for first, last, n in (
            (window.row, window.bottom, shape[0]),
            (window.col, window.right, shape[1]),
        )
    )
    top, left = int(rows.min()), int(cols.min())
    part = Window(top, left, int(rows.max()) + 1 - top, int(cols.max()) + 1 - left)
    return part, rows - top, cols - left


def _reflected(indices: np.ndarray, n: int) -> np.ndarray:
    """... 1 0 | 0 1 ... n-1 | n-1 n-2 ..."""
    indices = indices % (2 * n)
    return np.where(indices < n, indices, 2 * n - 1 - indices)
