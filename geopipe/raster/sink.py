"""Sink: the writer of a raster that arrives window by window."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RioWindow

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.oserrors import write_error
from geopipe.raster.opening import GDAL_ERRORS, GdalMessages, collect_gdal_errors, opened

BLOCK = 256


class Sink:
    """A tiled GeoTIFF being written; use as a context manager.

    The file has exactly the GeoBox given and nodata 255. It is removed again if the block raises,
    so what stays is whole. In the end it is read again and compared: GDAL may lose a block that it
    cannot write when its cache is full or the file is closed, and return success.
    """

    def __init__(self, path: Path, geobox: GeoBox, count: int = 1) -> None:
        self.path = path
        self._written: list[tuple[RioWindow, int]] = []
        self._reasons: list[str] = []
        with self._gdal():
            self._out = rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=geobox.shape[0],
                width=geobox.shape[1],
                count=count,
                dtype="uint8",
                nodata=255,
                crs=str(geobox.crs),
                transform=geobox.affine,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                compress="zstd",
                zstd_level=1,
                interleave="band",
                bigtiff="if_safer",
                sparse_ok=True,
            )

    def write(self, window: Window, data: np.ndarray) -> None:
        """`data` (count, h, w) uint8 into `window`, no pixel of which was written before."""
        rio = RioWindow(window.col, window.row, window.width, window.height)
        with self._gdal():
            self._out.write(data, window=rio)
        self._written.append((rio, _checksum(data)))

    @contextmanager
    def _gdal(self) -> Iterator[GdalMessages]:
        """What GDAL says of a file that it cannot write is kept, and not printed."""
        try:
            with rasterio.Env(), collect_gdal_errors() as messages:
                try:
                    yield messages
                finally:
                    self._reasons += messages.errors
        except GDAL_ERRORS as e:
            raise write_error(self.path, e) from e

    def _verify(self) -> None:
        """OutputError unless the file holds what was written."""
        try:
            with opened(self.path) as src, self._gdal():
                lost = any(
                    _checksum(src.read(window=window)) != checksum
                    for window, checksum in self._written
                )
        except SceneError as e:
            self._reasons.append(e.message)
            lost = True
        if lost:
            reason = self._reasons[0] if self._reasons else "GDAL lost pixels"
            raise write_error(self.path, OSError(reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            with self._gdal():
                self._out.close()
            if kind is None:
                self._verify()
        except BaseException:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            if kind is None:  # else the block's own error is the cause
                raise
        if kind is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)
