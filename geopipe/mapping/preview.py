"""Preview of a large scene, assembled from what each of its tiles has read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from geopipe.files import atomic_file
from geopipe.grid import Window
from geopipe.mapping.tile_store import tile_path
from geopipe.raster.scene import Scene, opened

Shape = tuple[int, int]

_MIN_SHRINK = 4
"""Times that a scene is larger than its picture; below, reading it again costs little."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The means of the valid pixels of a scene (first three bands) in cells of equal size."""

    data: np.ndarray
    """(bands, h, w) in the scene's dtype; 0 where nothing is valid"""
    valid: np.ndarray
    """(h, w) bool"""


def preview_shape(scene: Scene, limit: int) -> tuple[int, int] | None:
    """Rows and columns, at most `limit`, of a picture that is worth adding up from tiles.

    None for a small scene, and for one with overviews: there a decimated read is quick.
    """
    shrink = max(scene.shape) / limit
    if shrink < _MIN_SHRINK:
        return None
    with opened(scene.path) as src:
        if src.overviews(scene.bands[0]):
            return None
    rows, cols = (max(1, round(n / shrink)) for n in scene.shape)
    return rows, cols


def part_path(folder: Path, index: int) -> Path:
    """Where the part of tile `index` is kept: beside the tile."""
    return tile_path(folder, index).with_suffix(".npz")


def write_part(
    path: Path,
    data: np.ndarray,
    valid: np.ndarray,
    window: Window,
    scene_shape: Shape,
    preview_shape_px: Shape,
) -> None:
    """Write, whole, what the pixels of `window` add to the cells that they lie in.

    `data` (bands, h, w), 0 where not `valid` (h, w); `scene_shape` and `preview_shape_px` are the
    shapes of the scene and of its picture.
    """
    (row, rows), (col, cols) = (
        _cell_sizes(start, count, n, m)
        for start, count, n, m in zip(
            (window.row, window.col), window.shape, scene_shape, preview_shape_px, strict=True
        )
    )
    sums, counts = (
        np.add.reduceat(np.add.reduceat(x, rows, axis=1, dtype=np.float32), cols, axis=2)
        for x in (data[:3], valid[None])
    )
    with atomic_file(path, parents=True, shared=True) as part, part.open("wb") as file:
        np.savez(file, at=np.array([row, col]), sums=sums, counts=counts[0])


def _cell_sizes(start: int, count: int, n: int, m: int) -> tuple[int, np.ndarray]:
    """Of m cells over n pixels the first that pixel `start` lies in, and where each begins."""
    first, last = start * m // n, (start + count - 1) * m // n
    return first, np.maximum([-(-cell * n // m) - start for cell in range(first, last + 1)], 0)


def read_preview(parts: Iterable[Path], dtype: str, shape: tuple[int, int]) -> Preview | None:
    """The picture that `parts` make up; None when one is missing or damaged."""
    sums, counts = None, np.zeros(shape)
    try:
        for path in parts:
            with np.load(path) as part:
                (row, col), added = part["at"], part["sums"]
                if sums is None:
                    sums = np.zeros((len(added), *shape))
                h, w = added.shape[1:]
                sums[:, row : row + h, col : col + w] += added
                counts[row : row + h, col : col + w] += part["counts"]
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        return None
    if sums is None:
        return None
    means = sums / np.maximum(counts, 1)
    if np.issubdtype(np.dtype(dtype), np.integer):
        means = np.rint(means)
    return Preview(means.astype(dtype), counts > 0)
