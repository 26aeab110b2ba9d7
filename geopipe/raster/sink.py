"""Sink: the writer of a raster that arrives window by window."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geopipe.grid import Window
from geopipe.oserrors import write_error

BLOCK = 256


class Sink:
    """A tiled GeoTIFF being written; use as a context manager.

    The file has exactly the GeoBox given and nodata 255. It is removed again if the block raises,
    so what stays is whole.
    """

    def __init__(self, path: Path, geobox: GeoBox, count: int = 1) -> None:
        self.path = path
        try:
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
        except RasterioError as e:
            raise write_error(path, e) from e

    def write(self, window: Window, data: np.ndarray) -> None:
        """`data` (count, h, w) uint8 into `window`."""
        rio = RioWindow(window.col, window.row, window.width, window.height)
        try:
            self._out.write(data, window=rio)
        except RasterioError as e:
            raise write_error(self.path, e) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self._out.close()
        except RasterioError as e:
            self.path.unlink(missing_ok=True)
            raise write_error(self.path, e) from e
        if kind is not None:
            self.path.unlink(missing_ok=True)
