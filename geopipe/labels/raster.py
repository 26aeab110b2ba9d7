"""RasterLabels: a raster of class ids as labels."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError, SceneError
from geopipe.grid import Window, ground_gsd
from geopipe.labels.extent import Extent
from geopipe.raster.opening import opened

_ALIGNED = 1e-3
"""Planes whose pixels match to a thousandth are the same plane."""
_SAMPLES = 16
"""At most so many samples along each side of a coarse pixel."""
_SNAP = 0.01
"""Ratios this near above a whole number are that number: projections stretch by less."""
_AT_ONCE = 1 << 22
"""Samples taken at a time (some 150 MB with their coordinates)."""


@dataclass(frozen=True)
class RasterLabels:
    """One band of class ids; cheap, picklable, holds no open file."""

    scheme: ClassScheme
    path: str
    geobox: GeoBox
    nodata: float | None
    credit: str = ""

    @classmethod
    def open(cls, path: str | Path, scheme: ClassScheme) -> Self:
        """Describe the raster at `path`; LabelError unless it is one band with a CRS."""
        with _opened(path) as src:
            if src.count != 1:
                raise LabelError(
                    f"{path} has {src.count} bands; labels are one band of class ids",
                    "give a class map, not an image",
                )
            if src.crs is None or src.transform.is_identity:
                raise LabelError(
                    f"{path} has no CRS or geotransform",
                    "georeference it, e.g. gdal_edit.py -a_srs EPSG:2154 FILE",
                )
            geobox = GeoBox((src.height, src.width), src.transform, src.crs)
            return cls(scheme, str(path), geobox, src.nodata, src.tags().get("credit", ""))

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8 of `geobox`; IGNORE for nodata and outside the raster.

        Pixels on the raster's own plane are read as they are; on a coarser plane each pixel gets
        the most frequent class under it (of two equals the lower id), on any other the nearest.
        Raises LabelError naming values that are no class of the scheme.
        """
        window = _window_of(self.geobox, geobox)
        with _opened(self.path) as src:
            if window is not None:
                return self._ids(src, window)
            ratios = zip(ground_gsd(geobox), ground_gsd(self.geobox), strict=True)
            k = min(_SAMPLES, max(1, *(math.ceil(a / b - _SNAP) for a, b in ratios)))
            out = np.empty(geobox.shape, np.uint8)
            for rows, x, y in _samples(self.geobox, geobox, k):
                out[rows] = _most_frequent(self._sample(src, x, y), k, len(self.scheme))
            return out

    def _sample(self, src: rasterio.DatasetReader, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Ids (n, m) at the points `x`, `y` (n, m), in pixels of the raster."""
        height, width = src.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        ids = np.full(x.shape, IGNORE, np.uint8)
        if inside.any():
            row, col = y[inside].astype(np.int64), x[inside].astype(np.int64)
            top, left = int(row.min()), int(col.min())
            window = Window(top, left, int(row.max()) - top + 1, int(col.max()) - left + 1)
            ids[inside] = self._ids(src, window)[row - top, col - left]
        return ids

    def _ids(self, src: rasterio.DatasetReader, window: Window) -> np.ndarray:
        """Ids (h, w) of a window of the raster's own plane, which may stick out of it."""
        ids = np.full(window.shape, IGNORE, np.uint8)
        inside = window.clip(src.shape)
        if not (inside.height and inside.width):
            return ids
        rio = RioWindow(inside.col, inside.row, inside.width, inside.height)
        try:
            values, mask = src.read(1, window=rio), src.read_masks(1, window=rio)
        except RasterioError as e:
            raise LabelError(
                f"cannot read {self.path}: {e}", "the file is damaged; copy it again"
            ) from e
        unknown = ~np.isfinite(values) | (values == IGNORE) | (mask == 0)
        if self.nodata is not None:
            unknown |= values == self.nodata
        self._require_classes(values[~unknown])
        ids[inside.within(window)] = np.where(unknown, IGNORE, np.where(unknown, 0, values))
        return ids

    def _require_classes(self, values: np.ndarray) -> None:
        invalid = np.unique(values[~np.isin(values, np.arange(len(self.scheme)))])
        if invalid.size:
            invalid_text = ", ".join(f"{v:g}" for v in invalid[:8]) + (
                ", ..." if invalid.size > 8 else ""
            )
            names = ", ".join(f"{i} {n}" for i, n in enumerate(self.scheme.names))
            raise LabelError(
                f"{self.path} has the values {invalid_text}, which are no class of "
                f"'{self.scheme.name}'",
                f"ids: {names}; {IGNORE} = not labelled",
            )


def _samples(
    source: GeoBox, target: GeoBox, k: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Some rows of `target` and where their k x k samples a pixel lie in pixels of `source`.

    GDAL's mode resampling is no help: it also counts pixels that merely touch, so that a coarse
    pixel right outside the raster gets a class. Positions are counted from the corner of `source`,
    so they do not depend on the window that asks.
    """
    height, width = target.shape
    link = ~target.affine * source.affine
    col, row = round(link.c), round(link.f)
    inverse = ~Affine(link.a, link.b, link.c - col, link.d, link.e, link.f - row)
    step = max(1, _AT_ONCE // (width * k * k))
    within = (np.arange(k) + 0.5) / k
    u = (np.arange(width)[:, None] - col + within).ravel()
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        v = (np.arange(rows.start, rows.stop)[:, None] - row + within).ravel()
        if target.crs == source.crs:
            x = inverse.a * u + inverse.b * v[:, None] + inverse.c
            y = inverse.d * u + inverse.e * v[:, None] + inverse.f
        else:
            x, y = _sampled_across_crs(source, target, u + col, v + row)
        yield rows, x, y


def _sampled_across_crs(
    source: GeoBox, target: GeoBox, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Columns `u` and rows `v` of `target` as x, y (v, u) in pixels of `source`, in another CRS."""
    a, b = target.affine, ~source.affine
    to_plane = Transformer.from_crs(Extent(target).crs, Extent(source).crs, always_xy=True)
    east, north = to_plane.transform(
        a.a * u + a.b * v[:, None] + a.c, a.d * u + a.e * v[:, None] + a.f
    )
    return b.a * east + b.b * north + b.c, b.d * east + b.e * north + b.f


def _most_frequent(ids: np.ndarray, k: int, classes: int) -> np.ndarray:
    """(h, w) of `ids` (h k, w k): the class most samples have; IGNORE where none has a class."""
    if k == 1:
        return ids
    blocks = ids.reshape(ids.shape[0] // k, k, -1, k)
    best = np.full(blocks.shape[::2], IGNORE, np.uint8)
    max_count = np.zeros(best.shape, np.int32)
    for class_id in range(classes):
        count = (blocks == class_id).sum(axis=(1, 3), dtype=np.int32)
        best[count > max_count] = class_id
        np.maximum(max_count, count, out=max_count)
    return best


def _window_of(source: GeoBox, geobox: GeoBox) -> Window | None:
    """Where `geobox` lies on the pixels of `source`; None when it has other pixels."""
    if geobox.crs != source.crs:
        return None
    link = ~source.affine * geobox.affine
    height, width = geobox.shape
    error_rows = abs(link.d) * width + abs(link.e - 1) * height
    error_cols = abs(link.a - 1) * width + abs(link.b) * height
    col, row = round(link.c), round(link.f)
    if max(error_rows, error_cols, abs(link.c - col), abs(link.f - row)) > _ALIGNED:
        return None
    return Window(row, col, height, width)


@contextmanager
def _opened(path: str | Path) -> Iterator[rasterio.DatasetReader]:
    with ExitStack() as stack:
        try:
            src = stack.enter_context(opened(path))
        except SceneError as e:
            raise LabelError(e.message, e.hint) from e
        yield src
