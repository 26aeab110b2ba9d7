"""Scene: a description of georeferenced bands. Raster: pixels read from it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RioWindow
from shapely.geometry.base import BaseGeometry

from geopipe.errors import GridError, SceneError
from geopipe.grid import Window
from geopipe.raster.georeference import unplaced
from geopipe.raster.opening import GDAL_ERRORS, GdalMessages, collect_gdal_errors, opened, pooled
from geopipe.raster.remote import display_name, remote_allowed, with_retries
from geopipe.raster.undeclared_nodata import MARGIN_PX, undeclared_nodata_mask
from geopipe.raster.validity import valid_pixels
from geopipe.web import redacted

__all__ = ["Raster", "Scene", "opened", "window_geobox"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Raster:
    """Pixels with their place and their validity."""

    data: np.ndarray
    """(bands, height, width), dtype of the scene; 0 where not `valid`."""
    valid: np.ndarray
    """(height, width) bool"""
    geobox: GeoBox


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the bands are and what their pixels mean; cheap, picklable, holds no open file."""

    path: str
    geobox: GeoBox
    bands: tuple[int, ...]
    """1-based band numbers in the order they are read."""
    dtype: str
    nodata: float | None = None
    """A value that means nodata although the file does not say so."""
    remote: bool = False
    """Whether a VRT may refer to files on a network: the user's consent, also for workers."""

    @classmethod
    def open(
        cls, path: str | Path, bands: Sequence[int] | None = None, nodata: float | None = None
    ) -> "Scene":
        """Describe the raster at `path`: a file, a VRT, an address, anything GDAL opens.

        `bands`: 1-based numbers; by default red, green, blue where the file names them, else its
        first three bands that are not alpha (all, when fewer). `nodata`: pixels with this value in
        all of them are not valid either, nor (8 bits) the rim that compression left around them.
        Raises SceneError when it is not a readable raster or has no CRS, GridError when it has no
        usable transform.
        """
        name = display_name(path)
        with opened(path) as src:
            if invalid := unplaced(src, name):
                raise (GridError if src.crs else SceneError)(*invalid)
            selected = tuple(bands) if bands else _default_bands(src)
            absent = [b for b in selected if not 1 <= b <= src.count]
            if absent:
                raise SceneError(f"{name} has bands 1 to {src.count}, not {absent[0]}")
            dtypes = {src.dtypes[b - 1] for b in selected}
            if any(d.startswith("complex") for d in dtypes):
                raise SceneError(
                    f"{name} holds complex numbers, not an image", "give a detected image"
                )
            geobox = GeoBox((src.height, src.width), src.transform, src.crs)
            return cls(
                str(path), geobox, selected, np.result_type(*dtypes).name, nodata, remote_allowed()
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.geobox.shape[0], self.geobox.shape[1]

    def read(self, window: Window | None = None) -> Raster:
        """The pixels of `window` (default: all); what lies outside the scene is not valid.

        A pixel is valid when the mask or the nodata value says so for at least one band, no alpha
        band (in any place, of any type) is 0 there, and its values are finite. Raises SceneError
        with the rows and columns where a block cannot be read; over a network only after further
        tries.
        """
        window = window or Window.of_shape(self.shape)
        inside = window.clip(self.shape)
        if not (inside.height and inside.width):
            data = np.zeros((len(self.bands), *window.shape), self.dtype)
            valid = np.zeros(window.shape, bool)
        else:
            data, valid = with_retries(self.path, lambda: self._read(inside))
            if inside != window:
                rows, cols = inside.within(window)
                edges = (
                    (rows.start, window.height - rows.stop),
                    (cols.start, window.width - cols.stop),
                )
                data, valid = np.pad(data, ((0, 0), *edges)), np.pad(valid, edges)
        return Raster(data, valid, window_geobox(self.geobox, window))

    def _read(self, inside: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and validity of a window that lies in the scene."""
        where = f"rows {inside.row}-{inside.bottom}, columns {inside.col}-{inside.right}"
        with (
            pooled(self.path, where, remote=self.remote) as src,
            collect_gdal_errors() as messages,
        ):
            if src.shape != self.shape or max(self.bands) > src.count:
                raise SceneError(
                    f"{display_name(self.path)} has {src.count} bands of "
                    f"{src.height} x {src.width} "
                    f"pixels now, it was {self.shape[0]} x {self.shape[1]} when it was described",
                    "start again",
                )
            try:
                pixels = self._pixels(src, inside)
                ok = valid_pixels(src, self.bands, _rio(inside))
                if np.issubdtype(pixels.dtype, np.floating):
                    ok &= np.isfinite(pixels).all(axis=0)
                if self.nodata is not None:
                    ok &= ~self._undeclared_nodata(src, inside)
            except GDAL_ERRORS as e:
                raise self._read_error(where, messages, str(e.__cause__ or e)) from e
            if messages.errors:  # GDAL calls it a success, yet it is none
                raise self._read_error(where, messages, messages.errors[0])
        if not ok.all():
            np.copyto(pixels, 0, where=~ok)
        return pixels, ok

    def _read_error(self, where: str, messages: GdalMessages, reason: str) -> SceneError:
        reason = f"{reason}; {messages.server_response}" if messages.server_response else reason
        return SceneError(
            f"cannot read {where} of {display_name(self.path)}: {redacted(reason)}",
            "the file, or one it refers to, is missing, truncated or damaged",
        )

    def _undeclared_nodata(self, src: rasterio.DatasetReader, inside: Window) -> np.ndarray:
        assert self.nodata is not None
        expanded = inside.expand(MARGIN_PX).clip(self.shape)
        nodata_mask = undeclared_nodata_mask(self._pixels(src, expanded), self.nodata)
        return nodata_mask[inside.within(expanded)]

    def _pixels(self, src: rasterio.DatasetReader, inside: Window) -> np.ndarray:
        rio = _rio(inside)
        if len({src.dtypes[b - 1] for b in self.bands}) == 1:
            return np.asarray(src.read(self.bands, window=rio))
        # rasterio reads bands of several dtypes one by one only
        return np.stack([src.read(b, window=rio).astype(self.dtype) for b in self.bands])


def window_geobox(geobox: GeoBox, window: Window) -> GeoBox:
    """The plane of `window`, which may stick out of `geobox`."""
    affine = geobox.affine * geobox.affine.translation(window.col, window.row)
    return GeoBox(window.shape, affine, geobox.crs)


def window_polygon(geobox: GeoBox, window: Window) -> BaseGeometry:
    """The outline of `window` in the CRS of `geobox`."""
    return window_geobox(geobox, window).extent.geom


def _rio(window: Window) -> RioWindow:
    return RioWindow(window.col, window.row, window.width, window.height)


def _default_bands(src: rasterio.DatasetReader) -> tuple[int, ...]:
    kinds = dict(zip(src.colorinterp, src.indexes, strict=True))
    try:
        return tuple(kinds[c] for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue))
    except KeyError:
        plain = [
            i for i, c in zip(src.indexes, src.colorinterp, strict=True) if c != ColorInterp.alpha
        ]
        if ColorInterp.palette in kinds:
            raise SceneError(
                f"{display_name(src.name)} holds numbers of a palette's colours, not colours",
                "expand them, e.g. gdal_translate -of VRT -expand rgb FILE scene.vrt",
            ) from None
        if len(plain) > 3:
            log.warning(
                "%s does not say which bands are red, green and blue: taking bands 1, 2, 3 of %d",
                display_name(src.name),
                len(plain),
            )
        return tuple(plain[:3])
