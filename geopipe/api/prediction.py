"""Predictions for a scene or an array, without files: exactly the pixels that a map has there."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from geopipe.api.georef import grid_of, layered, located, window_of
from geopipe.api.labels import classified
from geopipe.api.model import Model, as_model
from geopipe.api.scene import as_scene
from geopipe.classes import IGNORE
from geopipe.errors import CheckpointError, ConfigError, GeopipeError, SceneError
from geopipe.grid import NetworkGrid, Tile, Tiling, Window
from geopipe.mapping import Engine, run_tiles, tile_job
from geopipe.mapping.tile import TileJob, source_window
from geopipe.raster import scene as raster_scene
from geopipe.raster.arrayscene import ArrayScene
from geopipe.raster.cog import CONFIDENCE, SCORE_STEPS
from geopipe.raster.scene import window_geobox

log = logging.getLogger(__name__)

Output = Literal["classes", "confidence", "scores"]
Bounds = tuple[float, float, float, float]
_MASK = "valid"
"""The coordinate of `Scene.to_xarray` that tells which pixels are valid."""


def predict(
    model: Model | str | Path,
    scene: raster_scene.Scene | xr.DataArray | str | Path,
    *,
    bounds: Bounds | None = None,
    output: Output = "classes",
    device: str = "auto",
) -> xr.DataArray:
    """Classify a scene, or the part of it in `bounds`.

    The pixels are those that `geopipe.map_scene` and ``geopipe map`` write there, byte by byte: the
    tiles of the map that the part lies in (about 1024 px a side) are computed, each with the
    context the network needs, and cut to it.

    Args:
        model: A model, or its file.
        scene: A scene or its path; or a DataArray with the dimensions (band, y, x), or (y, x) for
            one band, and a CRS (rioxarray). A crop of an array is a scene of its own: for a part
            of a map, give the whole array and `bounds`. Not valid are pixels where the coordinate
            ``valid`` (y, x) is False; without it, those that hold the nodata value in all bands or
            are not finite.
        bounds: (left, bottom, right, top) in the CRS of the scene; all pixels they touch.
        output: "classes": class ids, 255 where the scene is not valid. "confidence", "scores": the
            probability of the best class, of each class, in steps of 1/250 (attribute
            ``scale_factor``), 255 where the scene is not valid.
        device: "auto", "cpu" or "cuda:N".

    Returns:
        A uint8 DataArray (y, x), of scores (band, y, x), on the grid of the scene. Of an array on
        dask it is lazy, one block per tile; else it is computed.

    Raises:
        SceneError: No CRS, other bands than the model's, or pixels that cannot be read.
        GridError: A rotated or irregular grid, or bounds without a pixel.
        CheckpointError: The array has another dtype than the scenes the model was trained on.
    """
    if output not in get_args(Output):
        raise ConfigError(f"output={output!r}", f"one of {', '.join(get_args(Output))}")
    model, engine = as_model(model), Engine(device)
    if isinstance(scene, xr.DataArray):
        return _of_array(model, scene, bounds, output, engine)
    place = as_scene(scene)
    for warning in model.checkpoint.check_fits(place):
        log.warning(warning)
    grid = located(np.empty(place.shape, np.uint8), place.geobox)  # a rotated one is refused
    window = window_of(place.geobox, bounds)
    target = _part(grid, place.geobox, window)
    job, tiling = _job(model, place, output, engine)
    data = _computed(job, tiling, window)
    return _described(data, target, model, output)


def _of_array(
    model: Model, given: xr.DataArray, bounds: Bounds | None, output: Output, engine: Engine
) -> xr.DataArray:
    from geopipe.api.lazy import by_tile, is_lazy

    array = layered(given)
    geobox = grid_of(array)
    _require_fit(array, model)
    window = window_of(geobox, bounds)
    template = array.isel({array.dims[0]: 0}, drop=True).drop_vars(_MASK, errors="ignore")
    template = template.rename(dict(zip(template.dims, ("y", "x"), strict=True)))
    template = _part(template, geobox, window).drop_attrs(deep=False)
    place = ArrayScene("the array", geobox, tuple(range(1, len(array) + 1)), model.dtype)
    job, tiling = _job(model, place, output, engine)
    grid = NetworkGrid.of(geobox, model.gsd)
    needed = partial(source_window, model.checkpoint, grid)
    nodata = _nodata(array)
    mask = array.coords.get(_MASK)
    if is_lazy(array.data if array.chunks else None):
        mask_data = None if mask is None else mask.data
        tile = _ArrayTile(job, geobox, nodata)
        data = by_tile(tiling, needed, tile, array.data, mask_data, _bands(model, output))
        return _described(data[(slice(None), *window.slices)], template, model, output)
    held = _hull([needed(t.core).clip(tiling.shape) for t in _touched(tiling, window)])
    try:
        pixels = array[(slice(None), *held.slices)].values
        known = None if mask is None else mask[held.slices].values
    except GeopipeError:
        raise
    except Exception as e:  # whatever the array is read from
        raise SceneError(
            f"cannot read rows {held.row}-{held.bottom}, columns {held.col}-{held.right} of the "
            f"array: {type(e).__name__}: {e}",
            "what it is read from is missing, truncated or damaged",
        ) from e
    job = replace(job, scene=_in_memory(job.scene, pixels, known, nodata, held))
    return _described(_computed(job, tiling, window), template, model, output)


@dataclass(frozen=True)
class _ArrayTile:
    """Computes one tile of an array; a task of dask's."""

    job: TileJob
    geobox: GeoBox
    nodata: float | None

    def __call__(self, tile: Tile, held: Window, pixels: Any, mask: Any) -> np.ndarray:
        scene = _in_memory(self.job.scene, np.asarray(pixels), mask, self.nodata, held)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the tiles of a map, so that sums keep their order
        try:
            return replace(self.job, scene=scene).compute(tile)
        finally:
            torch.set_num_threads(threads)


def _in_memory(
    scene: raster_scene.Scene, pixels: np.ndarray, mask: Any, nodata: float | None, held: Window
) -> ArrayScene:
    """The pixels of `held` as a part of `scene`, 0 where they are not valid."""
    if pixels.shape != (len(scene.bands), *held.shape):
        raise SceneError(
            f"rows {held.row}-{held.bottom}, columns {held.col}-{held.right} are {pixels.shape} "
            f"values, not {(len(scene.bands), *held.shape)}",
            "what the array is computed from gives blocks of another shape than it says",
        )
    if mask is not None:
        valid = np.asarray(mask, bool)
    elif nodata is None:
        valid = np.ones(held.shape, bool)
    else:  # as for a file: valid where one band is
        valid = (pixels != nodata).any(axis=0)
    if pixels.dtype.kind == "f":
        valid = valid & np.isfinite(pixels).all(axis=0)
    if not valid.all():
        pixels = np.where(valid, pixels, pixels.dtype.type(0))
    return ArrayScene(
        scene.path, scene.geobox, scene.bands, scene.dtype, pixels=pixels, mask=valid, held=held
    )


def _job(
    model: Model, scene: raster_scene.Scene, output: Output, engine: Engine
) -> tuple[TileJob, Tiling]:
    return tile_job(
        scene,
        model.file,
        engine,
        with_scores=output == "scores",
        with_confidence=output == "confidence",
    )


def _computed(job: TileJob, tiling: Tiling, window: Window) -> np.ndarray:
    """(bands, h, w) of `window` from the tiles that it touches."""
    out: np.ndarray | None = None
    for tile, data in run_tiles(job.compute, _touched(tiling, window), Engine().workers):
        if out is None:
            out = np.empty((len(data), *window.shape), np.uint8)
        part = _meet(tile.core, window)
        out[(slice(None), *part.within(window))] = data[(slice(None), *part.within(tile.core))]
    assert out is not None
    return out


def _touched(tiling: Tiling, window: Window) -> list[Tile]:
    return [t for t in tiling if min(_meet(t.core, window).shape) > 0]


def _meet(a: Window, b: Window) -> Window:
    row, col = max(a.row, b.row), max(a.col, b.col)
    bottom, right = min(a.bottom, b.bottom), min(a.right, b.right)
    return Window(row, col, max(bottom - row, 0), max(right - col, 0))


def _hull(windows: list[Window]) -> Window:
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    bottom, right = max(w.bottom for w in windows), max(w.right for w in windows)
    return Window(row, col, bottom - row, right - col)


def _part(array: xr.DataArray, geobox: GeoBox, window: Window) -> xr.DataArray:
    """`window` of an array (y, x) on `geobox`, with a transform of its own."""
    rows, cols = window.slices
    part = array.isel(y=rows, x=cols)
    affine = window_geobox(geobox, window).affine
    return part.rio.write_transform(affine)  # type: ignore[no-any-return]


def _bands(model: Model, output: Output) -> int:
    """Of a tile: the class map, and after it what else was asked for."""
    return 1 + {"classes": 0, "confidence": 1, "scores": len(model.classes)}[output]


def _described(data: Any, target: xr.DataArray, model: Model, output: Output) -> xr.DataArray:
    """A tile's bands (classes first) of `output` on the grid of `target` (y, x)."""
    if output == "classes":
        array = target.copy(data=data[0]).assign_attrs(long_name="class")
        return classified(array.rename("classes"), model.checkpoint.scheme)
    scale = {"scale_factor": 1 / SCORE_STEPS, "add_offset": 0.0}
    if output == "confidence":
        array = target.copy(data=data[1]).assign_attrs(long_name=CONFIDENCE, **scale)
    else:
        names = model.classes
        array = target.expand_dims(band=list(range(1, len(names) + 1))).copy(data=data[1:])
        array = array.assign_attrs(long_name=names, **scale)
    return array.rename(output).rio.write_nodata(IGNORE)  # type: ignore[no-any-return]


def _require_fit(array: xr.DataArray, model: Model) -> None:
    """Raise where the model cannot take the bands or the dtype of `array`."""
    model.checkpoint.require_gsd("map it with geopipe chips classify and a gsd")
    if len(array) != model.bands:
        raise SceneError(
            f"the model takes {model.bands} bands, the array has {len(array)}",
            f"choose them, e.g. array.sel(band={list(range(1, model.bands + 1))})",
        )
    dtype = _stored_dtype(array)
    if dtype != model.dtype:
        raise CheckpointError(
            f"the array is {dtype}, the model was trained on {model.dtype}",
            f"bring its values to the units of training, then array.astype({model.dtype!r})",
        )


def _stored_dtype(array: xr.DataArray) -> str:
    """Of what the values are: a masked array is float, with NaN in the place of nodata."""
    kept = array.encoding.get("rasterio_dtype") if array.dtype.kind == "f" else None
    return np.dtype(kept or array.dtype).name


def _nodata(array: xr.DataArray) -> float | None:
    """The value that means nodata among those of the array; NaN never is valid anyway."""
    value = array.rio.nodata
    return None if value is None or np.isnan(value) else float(value)
