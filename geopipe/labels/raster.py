"""RasterLabels: a raster of class ids as labels."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError, SceneError
from geopipe.grid import Window, ground_gsd
from geopipe.grid.crs import transformer
from geopipe.labels.extent import Extent
from geopipe.labels.maskfile import held_values, mask_classes
from geopipe.raster.georeference import unplaced
from geopipe.raster.opening import opened
from geopipe.raster.validity import valid_pixels

_ALIGNED = 1e-3
"""Planes whose pixels match to a thousandth are the same plane."""
_SAMPLES = 16
"""At most so many samples along each side of a coarse pixel."""
_FEWEST = 5
"""Samples along a pixel that is no whole number of the labels' pixels: 3 are too rough a measure of
their shares (0.3 % of a town's area at a ratio of 1.5, measured)."""
_SNAP = 0.01
"""Ratios this near to a whole number are that number: projections stretch by less."""
_DECIDE = 40
"""Samples around the centre that decide ties; half powers of so many fit beside a count."""
_AT_ONCE = 1 << 22
"""Samples taken at a time (some 150 MB with their coordinates)."""
_FAR = 2.0**52
"""Pixels; what a damaged geotransform puts farther away than that is outside all the same."""


@dataclass(frozen=True)
class RasterLabels:
    """One band of class ids; cheap, picklable, holds no open file."""

    scheme: ClassScheme
    path: str
    geobox: GeoBox
    nodata: float | None
    credit: str = ""
    is_mask: bool = False
    """255 is class 1, not "not labelled"."""

    @classmethod
    def open(cls, path: str | Path, scheme: ClassScheme) -> Self:
        """Describe the raster at `path`; LabelError unless it is one band with a CRS.

        Of a scheme of two classes a raster of 0 and 255 alone without nodata is a mask: 255 is
        class 1. LabelError for masks that cannot be labels.
        """
        with _opened(path) as src:
            if src.count - (src.colorinterp[-1] == ColorInterp.alpha) != 1:
                raise LabelError(
                    f"{path} has {src.count} bands; labels are one band of class ids",
                    "give a class map, not an image",
                )
            if wrong := unplaced(src, str(path)):
                raise LabelError(*wrong)
            geobox = GeoBox((src.height, src.width), src.transform, src.crs)
            try:
                is_mask = mask_classes(src, path, scheme)
            except RasterioError as e:
                raise _damaged(path, e) from e
            credit = src.tags().get("credit", "")
            return cls(scheme, str(path), geobox, src.nodata, credit, is_mask)

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8 of `geobox`; IGNORE for nodata and outside the raster.

        Pixels on the raster's own plane are read as they are; on a coarser plane each pixel gets
        the most frequent class under it (of two equals the one nearer to its centre, so that no
        class gains area), on any other the nearest.
        Raises LabelError naming values that are no class of the scheme.
        """
        window = _window_of(self.geobox, geobox)
        with _opened(self.path) as src:
            height, width = self.geobox.shape
            inside = window is not None and window.clip((height, width)) == window
            if window is not None and (inside or not self._turn):
                return self._ids(src, window)
            k = _sample_counts(self.geobox, geobox)
            out = np.empty(geobox.shape, np.uint8)
            for rows, x, y in _samples(self.geobox, geobox, k):
                out[rows] = _most_frequent(self._sample(src, x, y), k, len(self.scheme))
            return out

    @property
    def _turn(self) -> float:
        """Pixels once around the Earth along a row; 0 where longitudes are not along rows."""
        a = self.geobox.affine
        degrees = self.geobox.crs is not None and self.geobox.crs.geographic
        return 360 / abs(a.a) if degrees and a.a and not (a.b or a.d) else 0.0

    def _sample(self, src: rasterio.DatasetReader, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Ids (n, m) at the points `x`, `y` (n, m), in pixels of the raster."""
        if self._turn:
            x = x % self._turn
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
            values, known = src.read(1, window=rio), valid_pixels(src, [1], rio)
        except RasterioError as e:
            raise _damaged(self.path, e) from e
        if self.is_mask:
            values = (values == IGNORE).astype(np.uint8)
        unknown = ~np.isfinite(values) | (values == IGNORE) | ~known
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


def _sample_counts(plane: GeoBox, target: GeoBox) -> tuple[int, int]:
    """How many samples a pixel of `target` gets, down and along, so that none of `plane` is missed.

    As many as the pixels of `plane` where these are a whole number, else an odd number: then one is
    in the middle. Measured at the centre of `plane`, so that all windows of a plane agree.
    """
    height, width = plane.shape
    x, y = np.array([0.0, 0.0, 1.0]) + width / 2, np.array([0.0, 1.0, 0.0]) + height / 2
    if target.crs == plane.crs:
        link = ~target.affine * plane.affine
        u, v = link.a * x + link.b * y, link.d * x + link.e * y
    else:
        u, v = (np.diagonal(at) for at in _sampled_across_crs(target, plane, x, y))
    steps = np.array([[v[1] - v[0], v[2] - v[0]], [u[1] - u[0], u[2] - u[0]]])
    if not np.isfinite(steps).all() or np.linalg.det(steps) == 0:
        down, along = (a / b for a, b in zip(ground_gsd(target), ground_gsd(plane), strict=True))
    else:
        down, along = np.hypot(*np.linalg.inv(steps)).tolist()
    return _count(down), _count(along)


def _count(ratio: float) -> int:
    """Samples along a pixel that is `ratio` pixels of the labels long."""
    whole = max(1, round(ratio))
    if abs(ratio - whole) <= _SNAP:
        return whole if whole <= _SAMPLES else _SAMPLES - whole % 2
    return 1 if ratio < 1 else min(max(_FEWEST, math.ceil(ratio) // 2 * 2 + 1), _SAMPLES - 1)


def _samples(
    source: GeoBox, target: GeoBox, k: tuple[int, int]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Some rows of `target` and where their k[0] x k[1] samples a pixel lie in pixels of `source`.

    GDAL's mode resampling is no help: it also counts pixels that merely touch, so that a coarse
    pixel right outside the raster gets a class. Positions are counted from the corner of `source`,
    so they do not depend on the window that asks.
    """
    height, width = target.shape
    link = ~target.affine * source.affine
    col, row = (round(min(max(place, -_FAR), _FAR)) for place in (link.c, link.f))
    inverse = ~Affine(link.a, link.b, link.c - col, link.d, link.e, link.f - row)
    step = max(1, _AT_ONCE // (width * k[0] * k[1]))
    down, along = ((np.arange(n) + 0.5) / n for n in k)
    u = (np.arange(width)[:, None] - col + along).ravel()
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        v = (np.arange(rows.start, rows.stop)[:, None] - row + down).ravel()
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
    to_plane = transformer(Extent(target).crs, Extent(source).crs)
    east, north = to_plane.transform(
        a.a * u + a.b * v[:, None] + a.c, a.d * u + a.e * v[:, None] + a.f
    )
    return b.a * east + b.b * north + b.c, b.d * east + b.e * north + b.f


def _most_frequent(ids: np.ndarray, k: tuple[int, int], classes: int) -> np.ndarray:
    """(h, w) of `ids` (h k[0], w k[1]): the class most samples have; IGNORE where none has one."""
    if k == (1, 1):
        return ids
    blocks = ids.reshape(ids.shape[0] // k[0], k[0], -1, k[1])
    weights = _weights(k)
    best = np.full((blocks.shape[0], blocks.shape[2]), IGNORE, np.uint8)
    max_count = np.zeros(best.shape)
    for class_id in range(classes):
        count = np.einsum("ikjl,kl->ij", blocks == class_id, weights)
        best[count > max_count] = class_id
        np.maximum(max_count, count, out=max_count)
    return best


def _weights(k: tuple[int, int]) -> np.ndarray:
    """(k[0], k[1]): 1 for each sample, and so little more near the centre that it decides ties.

    Ties that always went to one class would take a part of each outline from the others.
    """
    down, along = ((np.arange(n) + 0.5) / n - 0.5 for n in k)
    far = np.hypot(down[:, None], along)
    # Of samples equally near the last one: floor() of a place between pixels is the later one too.
    rank = np.empty(far.size, int)
    rank[np.lexsort((-np.arange(far.size), far.ravel().round(9)))] = np.arange(far.size)
    more = np.where(rank < _DECIDE, 0.5 ** (rank + 2.0), 0.0)
    return np.asarray(1 + more.reshape(k))


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


def _damaged(path: str | Path, error: Exception) -> LabelError:
    return LabelError(f"cannot read {path}: {error}", "the file is damaged; copy it again")


def why_missing(labels: object, names: Sequence[str]) -> str:
    """Why classes `names` have no pixel in `labels`, where a label raster tells; else ""."""
    while not isinstance(labels, RasterLabels):
        labels = getattr(labels, "labels", None)
        if labels is None:
            return ""
    nodata = labels.nodata
    if nodata is None or nodata not in {IGNORE, *range(len(labels.scheme))}:
        return ""
    hidden = "" if nodata == IGNORE else labels.scheme.names[int(nodata)]
    if nodata != IGNORE and hidden not in names:
        return ""
    with _opened(labels.path) as src:
        held = held_values(src)
    # 255 stays "not labelled" without nodata, but in a mask of 0 and 255, where it is class 1.
    is_mask = held == {0, IGNORE} and tuple(names) == labels.scheme.names[1:2]
    if nodata not in held or (nodata == IGNORE and not (is_mask and len(labels.scheme) == 2)):
        return ""
    what = hidden or "not labelled"
    return (
        f"the value {nodata:g} ({what}) is declared nodata in {labels.path}; if it is no nodata: "
        f"gdal_edit.py -unsetnodata {labels.path}"
    )
