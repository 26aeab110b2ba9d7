"""Preview of a large scene, assembled from what each of its tiles has read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.grid import Window
from geopipe.mapping.tile_store import tile_path
from geopipe.raster.scene import Scene, opened
from geopipe.tensors import TensorFile

Shape = tuple[int, int]

_MIN_SHRINK = 4
"""Times that a scene is larger than its picture; below, reading it again costs little."""

_PART: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "at": ("I64", (2,)),
    "sums": ("F32", (None, None, None)),
    "counts": ("F32", (None, None)),
}
"""What a tile adds to the picture: where, sums of its valid pixels by cell, and their number."""


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
    return tile_path(folder, index).with_suffix(".safetensors")


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
    arrays = {"at": np.array([row, col], np.int64), "sums": sums, "counts": counts[0]}
    with atomic_file(path, parents=True, shared=True) as part:
        part.write_bytes(save({name: np.ascontiguousarray(x) for name, x in arrays.items()}))


def _cell_sizes(start: int, count: int, n: int, m: int) -> tuple[int, np.ndarray]:
    """Of m cells over n pixels the first that pixel `start` lies in, and where each begins."""
    first, last = start * m // n, (start + count - 1) * m // n
    return first, np.maximum([-(-cell * n // m) - start for cell in range(first, last + 1)], 0)


def read_preview(parts: Iterable[Path], dtype: str, shape: tuple[int, int]) -> Preview | None:
    """The picture that `parts` make up; None when one is missing or damaged."""
    sums, counts = None, np.zeros(shape, np.float32)
    try:
        for path in parts:
            part = TensorFile.open(path, SceneError).arrays(_PART)
            (row, col), added = part["at"].tolist(), part["sums"]
            bands, h, w = added.shape
            if not (0 <= row <= shape[0] - h and 0 <= col <= shape[1] - w and 1 <= bands <= 3):
                return None
            if sums is None:
                sums = np.zeros((bands, *shape), np.float32)
            if bands != len(sums) or part["counts"].shape != (h, w):
                return None
            sums[:, row : row + h, col : col + w] += added
            counts[row : row + h, col : col + w] += part["counts"]
    except SceneError:
        return None
    if sums is None:
        return None
    valid = counts > 0
    sums /= np.maximum(counts, 1, out=counts)
    if np.issubdtype(np.dtype(dtype), np.integer):
        np.rint(sums, out=sums)
    return Preview(sums.astype(dtype), valid)
