"""Scene: a description of georeferenced bands. Raster: pixels read from it."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window as RioWindow

from geopipe.errors import GridError, SceneError
from geopipe.grid import Window
from geopipe.raster.holes import REACH, hole_mask

log = logging.getLogger(__name__)


_PATCH = 16
_PATCHES = 16


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

    @classmethod
    def open(
        cls, path: str | Path, bands: Sequence[int] | None = None, nodata: float | None = None
    ) -> "Scene":
        """Describe the raster at `path` (a file, a VRT, anything GDAL opens).

        `bands`: 1-based numbers; by default red, green, blue where the file names them, else its
        first three bands that are not alpha (all, when fewer). `nodata`: pixels with this value in
        all of them are not valid either, nor (8 bits) the rim that compression left around them.
        Raises SceneError when it is not a readable raster or has no CRS, GridError when it has no
        usable transform.
        """
        with opened(path) as src:
            if src.crs is None:
                raise SceneError(
                    f"{path} has no CRS",
                    "set it, e.g. gdal_edit.py -a_srs EPSG:2154 FILE, or give a georeferenced file",
                )
            if src.transform.is_identity or src.transform.determinant == 0:
                raise GridError(
                    f"{path} has no geotransform",
                    "georeference it, e.g. gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM FILE",
                )
            chosen = tuple(bands) if bands else _default_bands(src)
            wrong = [b for b in chosen if not 1 <= b <= src.count]
            if wrong:
                raise SceneError(f"{path} has bands 1 to {src.count}, not {wrong[0]}")
            dtypes = {src.dtypes[b - 1] for b in chosen}
            if any(d.startswith("complex") for d in dtypes):
                raise SceneError(
                    f"{path} holds complex numbers, not an image", "give a detected image"
                )
            geobox = GeoBox((src.height, src.width), src.transform, src.crs)
            return cls(str(path), geobox, chosen, np.result_type(*dtypes).name, nodata)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.geobox.shape[0], self.geobox.shape[1]

    def suspected_nodata(self) -> float | None:
        """A value that fills whole patches of valid pixels: probably holes that nobody declared.

        Looks at 256 patches of 16 x 16 pixels, whatever the size of the scene.
        """
        rows, cols = (np.linspace(0, max(n - _PATCH, 0), _PATCHES, dtype=int) for n in self.shape)
        found: Counter[float] = Counter()
        with opened(self.path) as src:
            for row, col in product(rows.tolist(), cols.tolist()):
                part = self._read(src, Window(row, col, _PATCH, _PATCH))
                values = np.unique(part.data[:, part.valid])
                if len(values) == 1 and part.valid.all() and values[0] in _limits(self.dtype):
                    found[float(values[0])] += 1
        return found.most_common(1)[0][0] if found else None

    def read(self, window: Window | None = None) -> Raster:
        """The pixels of `window` (default: all); what lies outside the scene is not valid.

        A pixel is valid when alpha, the mask or the nodata value says so for at least one band
        (as in rasterio's ``dataset_mask``) and its values are finite.
        """
        with opened(self.path) as src:
            return self._read(src, window or Window.of_shape(self.shape))

    def _read(self, src: rasterio.DatasetReader, window: Window) -> Raster:
        data = np.zeros((len(self.bands), *window.shape), self.dtype)
        valid = np.zeros(window.shape, bool)
        inside = window.clip(self.shape)
        if inside.height and inside.width:
            rio = RioWindow(inside.col, inside.row, inside.width, inside.height)
            try:
                pixels = self._pixels(src, rio)
                masks = src.read_masks(self.bands, window=rio)
            except RasterioIOError as e:
                raise SceneError(
                    f"cannot read rows {inside.row}-{inside.bottom}, columns {inside.col}-"
                    f"{inside.right} of {self.path}: {e.__cause__ or e}",
                    "the file, or one it refers to, is missing, truncated or damaged",
                ) from e
            ok = (masks > 0).any(axis=0)
            if np.issubdtype(pixels.dtype, np.floating):
                ok &= np.isfinite(pixels).all(axis=0)
            if self.nodata is not None:
                ok &= ~self._holes(src, inside)
            at = inside.within(window)
            data[(slice(None), *at)] = np.where(ok, pixels, 0)
            valid[at] = ok
        return Raster(data, valid, window_geobox(self.geobox, window))

    def _holes(self, src: rasterio.DatasetReader, inside: Window) -> np.ndarray:
        assert self.nodata is not None
        around = inside.expand(REACH).clip(self.shape)
        rio = RioWindow(around.col, around.row, around.width, around.height)
        holes = hole_mask(self._pixels(src, rio), self.nodata)
        return holes[inside.within(around)]

    def _pixels(self, src: rasterio.DatasetReader, rio: RioWindow) -> np.ndarray:
        if len({src.dtypes[b - 1] for b in self.bands}) == 1:
            return np.asarray(src.read(self.bands, window=rio))
        # rasterio reads bands of several dtypes one by one only
        return np.stack([src.read(b, window=rio).astype(self.dtype) for b in self.bands])


def _limits(dtype: str) -> tuple[float, ...]:
    """The values that holes are filled with."""
    kind = np.dtype(dtype)
    return (0.0, float(np.iinfo(kind).max)) if kind.kind in "iu" else (0.0,)


def window_geobox(geobox: GeoBox, window: Window) -> GeoBox:
    """The plane of `window`, which may stick out of `geobox`."""
    affine = geobox.affine * geobox.affine.translation(window.col, window.row)
    return GeoBox(window.shape, affine, geobox.crs)


@contextmanager
def opened(path: str | Path) -> Iterator[rasterio.DatasetReader]:
    """`path` opened for reading; what GDAL refuses becomes a SceneError."""
    try:
        src = rasterio.open(path)
    except RasterioError as e:
        if "://" not in str(path) and not str(path).startswith("/vsi") and not Path(path).exists():
            raise SceneError(f"there is no file {path}", "check the path") from e
        raise SceneError(
            f"{path} is not a raster that GDAL can open: {e}", "see what gdalinfo says of it"
        ) from e
    with src:
        yield src


def _default_bands(src: rasterio.DatasetReader) -> tuple[int, ...]:
    kinds = dict(zip(src.colorinterp, src.indexes, strict=True))
    try:
        return tuple(kinds[c] for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue))
    except KeyError:
        plain = [
            i for i, c in zip(src.indexes, src.colorinterp, strict=True) if c != ColorInterp.alpha
        ]
        if len(plain) > 3:
            log.warning(
                "%s does not say which bands are red, green and blue: taking bands 1, 2, 3 of %d",
                src.name,
                len(plain),
            )
        return tuple(plain[:3])
