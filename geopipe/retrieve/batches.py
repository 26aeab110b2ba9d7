"""Batches of work of an index build: image files or scene windows to embeddings."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning

from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.grid import Window, ground_gsd
from geopipe.nets.backbones import backbone
from geopipe.raster import Scene
from geopipe.raster.chips import Chip, require_bytes
from geopipe.raster.scene import opened, window_geobox
from geopipe.retrieve.embedding import EmbeddingModel
from geopipe.retrieve.header import SceneEntry
from geopipe.retrieve.rows import ChipRow, crs_name
from geopipe.tensors import read_npy

FILES = 64
"""Image files in a batch."""
BATCH_WINDOWS = 8
"""Windows a side of a batch of a scene."""
_GEOREFERENCED_SUFFIXES = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True, slots=True)
class FileItem:
    """An image file that is a chip."""

    path: str
    stamp: str
    class_name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Files, or windows of a scene."""

    index: int
    files: tuple[FileItem, ...] = ()
    scene: SceneEntry | None = None
    windows: tuple[Window, ...] = ()

    def __str__(self) -> str:
        if self.scene is not None:
            w = self.windows[0]
            return f"{self.index} (from row {w.row}, column {w.col} of {self.scene.path})"
        return f"{self.index} (from {self.files[0].path})"


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Chips whose vectors are in a file."""

    rows: tuple[ChipRow, ...]
    file: str
    """.npy: (rows, d) float32"""
    bad: tuple[str, ...] = ()
    """What could not be read, and why."""
    blank: int = 0
    """Windows with too few valid pixels."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """All a worker needs to do a batch."""

    model: EmbeddingModel
    folder: str
    """Where vectors go, in files named after the pixels and the model."""
    skip_bad: bool = False

    def __call__(self, batch: Batch) -> BatchResult:
        """Read, describe and keep what is in `batch`; SceneError where it cannot be read."""
        unreadable: list[str] = []
        chips, blank = [], 0
        for row, pixels in self._read(batch, unreadable):
            if pixels is None:
                blank += 1
            else:
                chips.append((row, pixels))
        file = ""
        if chips:
            file = self._save_vectors([r for r, _ in chips], [p for _, p in chips])
        return BatchResult(tuple(r for r, _ in chips), file, tuple(unreadable), blank)

    def _read(
        self, batch: Batch, unreadable: list[str]
    ) -> Iterator[tuple[ChipRow, np.ndarray | None]]:
        """Row and pixels of each chip; no pixels where too few are valid."""
        if batch.scene is not None:
            yield from self._windows(batch.scene, batch.windows, unreadable)
            return
        for item in batch.files:
            try:
                yield read_file(item)
            except SceneError as e:
                if not self.skip_bad:
                    raise
                unreadable.append(e.message)

    def _windows(
        self, entry: SceneEntry, windows: Sequence[Window], unreadable: list[str]
    ) -> Iterator[tuple[ChipRow, np.ndarray | None]]:
        fill = mean_colour(self.model)
        try:
            yield from read_windows(entry, windows, fill)
        except SceneError as e:
            if not self.skip_bad:
                raise
            if len(windows) == 1:
                unreadable.append(e.message)
                return
            for window in windows:  # all but those that touch the damage
                yield from self._windows(entry, (window,), unreadable)

    def _save_vectors(self, rows: Sequence[ChipRow], images: Sequence[np.ndarray]) -> str:
        """The file with the vectors of `images`, which may be there from an earlier run."""
        identity = [self.model.identity(), [r.digest for r in rows]]
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        path = Path(self.folder) / f"{name}.npy"
        if load_vectors(path, len(rows)) is None:
            vectors = self.model.embed(images)
            with atomic_file(path, shared=True) as part:  # equal batches may be at it
                np.save(part, vectors)
        return str(path)


def load_vectors(path: Path, count: int) -> np.ndarray | None:
    """(count, d) float32; None where the file is not there or not whole."""
    try:
        vectors = read_npy(path, "float32", (count, None), SceneError)
    except SceneError:
        return None
    return vectors if np.isfinite(vectors).all() else None


def mean_colour(model: EmbeddingModel) -> np.ndarray:
    """(3,) uint8 that stands for invalid pixels: the mean of the net's images."""
    return np.round(backbone(model.config.backbone).mean).astype(np.uint8)


def stamp(path: str | Path) -> str:
    """Size and time of change of a file; "" where there is none (an address)."""
    try:
        file_stat = Path(path).stat()
    except OSError:
        return ""
    return f"{file_stat.st_size}:{file_stat.st_mtime_ns}"


def read_file(item: FileItem) -> tuple[ChipRow, np.ndarray]:
    """The row and the pixels (3, h, w) uint8 of an image file; SceneError for other images."""
    pixels = Chip(item.path).read(3)
    require_bytes(item.path, str(pixels.dtype))
    height, width = pixels.shape[1:]
    crs, affine = _georeference(item.path)
    row = ChipRow(
        item.path, item.stamp, item.class_name, digest(pixels), 0, 0, height, width, crs, affine
    )
    return row, pixels


def _georeference(path: str) -> tuple[str, tuple[float, ...] | None]:
    """CRS and affine of an image file that has both."""
    if Path(path).suffix.lower() not in _GEOREFERENCED_SUFFIXES:
        return "", None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with opened(path) as src:
            if src.crs is None or src.transform.is_identity:
                return "", None
            return crs_name(CRS.from_user_input(src.crs)), tuple(src.transform)[:6]


def read_windows(
    entry: SceneEntry, windows: Sequence[Window], fill: np.ndarray
) -> Iterator[tuple[ChipRow, np.ndarray | None]]:
    """Row and pixels (3, h, w) uint8 of windows of a scene, which is read once for all of them.

    `fill` (3,) stands where pixels are not valid; None where too few are.
    """
    scene = entry.scene
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    outer = Window(
        row, col, max(w.bottom for w in windows) - row, max(w.right for w in windows) - col
    )
    raster = scene.read(outer)
    for window in windows:
        inside_outer = window.within(outer)
        valid = raster.valid[inside_outer]
        affine = tuple(window_geobox(scene.geobox, window).affine)[:6]
        data = np.where(valid, raster.data[:, *inside_outer], fill[: len(raster.data), None, None])
        pixels = np.broadcast_to(data, (3, *window.shape))
        chip_row = ChipRow(
            entry.path,
            entry.stamp,
            "",
            digest(pixels),
            window.row,
            window.col,
            window.height,
            window.width,
            entry.crs,
            affine,
        )
        yield chip_row, pixels if valid.mean() >= max(entry.cut[2], 1e-9) else None


def digest(pixels: np.ndarray) -> str:
    """32 hexadecimal digits, equal for equal pixels (3, h, w)."""
    hasher = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.hexdigest()


def chip_shape(scene: Scene, metres: float) -> tuple[int, int]:
    """Pixels (down, along) that `metres` on the ground are in a scene, at least 1."""
    gsd_y, gsd_x = ground_gsd(scene.geobox)
    return max(1, round(metres / gsd_y)), max(1, round(metres / gsd_x))


def scene_windows(entry: SceneEntry) -> list[Window]:
    """The windows of a scene's chips, row by row; the last ones end at its edges.

    Raises SceneError for a scene smaller than a chip, and chips below 16 px.
    """
    (h, w), (step_rows, step_cols) = (chip_shape(entry.scene, m) for m in entry.cut[:2])
    if min(h, w) < 16:
        raise SceneError(
            f"chips of {entry.cut[0]:g} m are {h} x {w} px in {entry.path}: at least 16 are needed",
            "give a larger `size`",
        )
    if entry.shape[0] < h or entry.shape[1] < w:
        raise SceneError(
            f"{entry.path} has {entry.shape[0]} x {entry.shape[1]} px, a chip of "
            f"{entry.cut[0]:g} m {h} x {w}",
            "give a smaller `size`",
        )
    rows, cols = (
        _starts(n, s, d)
        for n, s, d in zip(entry.shape, (h, w), (step_rows, step_cols), strict=True)
    )
    return [Window(r, c, h, w) for r in rows for c in cols]


def _starts(length: int, size: int, step: int) -> list[int]:
    starts = list(range(0, length - size + 1, step))
    return starts if starts[-1] == length - size else [*starts, length - size]


def grouped(windows: Sequence[Window]) -> list[tuple[Window, ...]]:
    """Windows in squares of SQUARE x SQUARE neighbours, in a fixed order."""
    rows = {r: i for i, r in enumerate(sorted({w.row for w in windows}))}
    cols = {c: i for i, c in enumerate(sorted({w.col for w in windows}))}
    groups: dict[tuple[int, int], list[Window]] = {}
    for w in windows:
        groups.setdefault((rows[w.row] // BATCH_WINDOWS, cols[w.col] // BATCH_WINDOWS), []).append(
            w
        )
    return [tuple(groups[key]) for key in sorted(groups)]
