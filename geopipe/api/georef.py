"""The pixel grid of a DataArray: read from its coordinates, and written to them."""

from typing import Any

import numpy as np
import rioxarray  # registers DataArray.rio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.errors import GridError, SceneError
from geopipe.grid import Window

_STRAY = 1e-3
"""Pixels by which a coordinate may be off the regular grid: rounding in a file of coordinates."""


def layered(array: xr.DataArray) -> xr.DataArray:
    """`array` with the dimensions (band, y, x); one band where it has two dimensions.

    Raises GridError where there are no spatial dimensions, SceneError where there are more.
    """
    y, x = _spatial(array)
    others = [d for d in array.dims if d not in (y, x)]
    if len(others) > 1:
        raise SceneError(
            f"the array has the dimensions {', '.join(map(str, array.dims))}, not (band, y, x)",
            f"select one of the others, e.g. array.isel({others[0]}=0)",
        )
    if not others:
        array = array.expand_dims("band")
        others = ["band"]
    return array.transpose(others[0], y, x)


def grid_of(array: xr.DataArray) -> GeoBox:
    """The pixel grid of `array`, exactly that of the file it was read from where it still is.

    Raises SceneError without a CRS, GridError for a rotated or irregular grid.
    """
    y, x = _spatial(array)
    crs = array.rio.crs
    if crs is None:
        raise SceneError(
            "the array has no CRS", "set it, e.g. array.rio.write_crs('EPSG:2154'), if you know it"
        )
    written = _written(array)
    if written is not None and (written.b or written.d):
        raise GridError(
            "the array's grid is rotated against its CRS, so it has no row and column coordinates",
            "bring it onto a plain grid, e.g. array.rio.reproject(array.rio.crs)",
        )
    if x not in array.coords or y not in array.coords:
        if written is None:
            raise GridError(
                f"the array has no coordinates {x} and {y}", "read it with rioxarray, or add them"
            )
        affine = written
    else:
        affine = _from_coordinates(array, x, y, written)
    return GeoBox((array.sizes[y], array.sizes[x]), affine, crs)


def located(
    data: Any, geobox: GeoBox, *, bands: tuple[int, ...] | None = None, **attrs: Any
) -> xr.DataArray:
    """`data` (bands, h, w), or (h, w) where `bands` is None, as a DataArray on `geobox`.

    Raises GridError for a rotated grid, which has no coordinates of rows and columns.
    """
    affine = geobox.affine
    if affine.b or affine.d:
        raise GridError(
            "the scene's grid is rotated against its CRS, which an array with x and y cannot say",
            "warp it first, e.g. gdalwarp SCENE north-up.tif",
        )
    height, width = geobox.shape
    # As rioxarray computes them: xarray aligns arrays by equal coordinates.
    middle = affine * Affine.translation(0.5, 0.5)
    coords: dict[str, Any] = {
        "y": middle.e * np.arange(height) + middle.f,
        "x": middle.a * np.arange(width) + middle.c,
    }
    dims = ("y", "x")
    if bands is not None:
        coords, dims = {"band": list(bands), **coords}, ("band", *dims)  # type: ignore[assignment]
    array = xr.DataArray(data, coords, dims, attrs=attrs)
    assert geobox.crs is not None
    array = array.rio.write_crs(geobox.crs.to_wkt())
    return array.rio.write_transform(affine)  # type: ignore[no-any-return]


def window_of(geobox: GeoBox, bounds: tuple[float, float, float, float] | None) -> Window:
    """The pixels of `geobox` that `bounds` (left, bottom, right, top; its CRS) touch.

    All of them where `bounds` is None. Raises GridError where there are none.
    """
    shape = geobox.shape[0], geobox.shape[1]
    if bounds is None:
        return Window.of_shape(shape)
    try:
        left, bottom, right, top = map(float, bounds)
    except (TypeError, ValueError) as e:
        raise GridError(f"bounds={bounds!r}", "give (left, bottom, right, top)") from e
    corners = [~geobox.affine * (x, y) for x in (left, right) for y in (bottom, top)]
    window = Window(0, 0, 0, 0)
    if left < right and bottom < top and np.isfinite(corners).all():
        (c0, r0), (c1, r1) = np.min(corners, 0), np.max(corners, 0)
        row, col = int(np.floor(r0 + _STRAY)), int(np.floor(c0 + _STRAY))
        height, width = int(np.ceil(r1 - _STRAY)) - row, int(np.ceil(c1 - _STRAY)) - col
        window = Window(row, col, max(height, 1), max(width, 1)).clip(shape)
    if not (window.height and window.width):
        there = ", ".join(f"{n:.10g}" for n in geobox.boundingbox)
        raise GridError(
            f"bounds={tuple(bounds)} hold no pixel: the grid has {there}",
            "give (left, bottom, right, top) in the CRS of the scene",
        )
    return window


def _spatial(array: xr.DataArray) -> tuple[Any, Any]:
    try:
        return array.rio.y_dim, array.rio.x_dim
    except rioxarray.exceptions.MissingSpatialDimensionError as e:
        raise GridError(
            f"the array has the dimensions {', '.join(map(str, array.dims))}, of which none are "
            "known as rows and columns",
            "name them y and x, or array.rio.set_spatial_dims(x_dim, y_dim)",
        ) from e


def _written(array: xr.DataArray) -> Affine | None:
    """The transform that the array carries; it is that of its parent where it was cropped."""
    text = array.coords[array.rio.grid_mapping].attrs.get("GeoTransform")
    return Affine.from_gdal(*map(float, text.split())) if text else None


def _from_coordinates(array: xr.DataArray, x: Any, y: Any, written: Affine | None) -> Affine:
    (left, width), (top, height) = (
        _regular(np.asarray(array.coords[d].values), str(d), size)
        for d, size in ((x, written.a if written else None), (y, written.e if written else None))
    )
    regular = Affine(width, 0, left - width / 2, 0, height, top - height / 2)
    if written is None:
        return regular
    rows, cols = array.sizes[y], array.sizes[x]
    strays = np.subtract(
        [~regular * (written * corner) for corner in ((0, 0), (cols, rows))], ((0, 0), (cols, rows))
    )
    return written if np.abs(strays).max() < _STRAY else regular


def _regular(values: np.ndarray, name: str, size: float | None) -> tuple[float, float]:
    """The first of equally spaced coordinates and their distance (`size` where there is one)."""
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise GridError(f"the coordinates {name} are no row of numbers", "resample the array")
    if len(values) == 1:
        if not size:
            raise GridError(f"one coordinate {name} does not tell how large a pixel is")
        return float(values[0]), float(size)
    values = values.astype(float)
    step = (values[-1] - values[0]) / (len(values) - 1)
    gaps = np.diff(values)
    strays = np.abs(values - (values[0] + step * np.arange(len(values))))
    if not step or strays.max() > _STRAY * abs(step):
        raise GridError(
            f"the array's grid is irregular: along {name}, pixels are {np.abs(gaps).min():.6g} to "
            f"{np.abs(gaps).max():.6g} apart",
            "resample it, e.g. array.rio.reproject(array.rio.crs)",
        )
    return float(values[0]), float(step)
