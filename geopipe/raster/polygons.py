"""A class map as polygons: tables of outlines with areas on the ground."""

from collections.abc import Collection, Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.grid.crs import transformer
from geopipe.raster.outlines import OutlineMerger, trace_outlines

_BATCH = 20_000
"""Polygons written at a time..."""
_VERTICES = 500_000
"""...or fewer, as soon as they have this many vertices."""
_WINDOW = 2048
"""Side of the windows that are traced one after the other."""


def polygon_tables(
    src: rasterio.DatasetReader, scheme: ClassScheme, class_ids: Collection[int]
) -> Iterator[GeoDataFrame]:
    """The areas of equal class in `src`, in tables that fit into memory; at least one table.

    Columns ``class_id``, ``class`` (its name) and ``area_m2``, square metres on the ground; in the
    CRS of the map. Pixels belong together when they share a side; only classes of `class_ids` are
    given.

    The map is traced in windows and the pieces joined, with the same result as at once. Held in
    memory: one window, the polygons of a batch, and the pieces of areas that go on in windows to
    come. An area as large as the scene (a road network, the background) is held whole until its
    last window is done, and takes memory of its own size.

    Raises SceneError when the map cannot be read, has no CRS or holds ids the scheme does not name.
    """
    if src.crs is None:
        raise SceneError(f"{src.name} has no CRS, so its areas are unknown")
    equal_area = equal_area_projection(src)
    unwanted = set(range(len(scheme))) - set(class_ids)
    for batch in _batches(trace_areas(src, unwanted)):
        ids = np.array([i for i, _ in batch], np.int32)
        unknown = ids[(ids < 0) | (ids >= len(scheme))]
        if unknown.size:
            raise SceneError(
                f"{src.name} holds the class id {unknown.max()}",
                f"'{scheme.name}' has {len(scheme)} classes: {', '.join(scheme.names)}",
            )
        outlines = to_crs(np.array([g for _, g in batch], dtype=object), src.transform)
        columns = {
            "class_id": ids,
            "class": [scheme.names[i] for i in ids],
            "area_m2": ground_areas(outlines, equal_area),
        }
        yield GeoDataFrame(columns, geometry=outlines, crs=src.crs)


def _batches(polygons: Iterable[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    """`polygons` in lists that fit into memory; one empty list when nothing was found."""
    batch, vertices, empty = [], 0, True
    for class_id, outline in polygons:
        batch.append((class_id, outline))
        vertices += shapely.get_num_coordinates(outline)
        if len(batch) >= _BATCH or vertices >= _VERTICES:
            yield batch
            batch, vertices, empty = [], 0, False
    if batch or empty:
        yield batch


def to_crs(outlines: np.ndarray, affine: Affine) -> np.ndarray:
    """Polygons in pixel coordinates, brought to map coordinates in the order GDAL computes."""
    a, b, c, d, e, f, *_ = affine

    def transform(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        return np.column_stack([c + x * a + y * b, f + x * d + y * e])

    transformed: np.ndarray = shapely.transform(outlines, transform)
    return transformed


def trace_areas(
    src: rasterio.DatasetReader, unwanted: Collection[int], window_size: int | None = None
) -> Iterator[tuple[int, Any]]:
    """(class id, polygon in pixel coordinates) of each connected area of band 1.

    Ids of `unwanted`, and nodata, are left out. `window_size` changes the order, nothing else.
    """
    window_size = window_size or _WINDOW
    merger = OutlineMerger(src.shape)
    rows, cols = range(0, src.height, window_size), range(0, src.width, window_size)
    for row, col in product(rows, cols):
        window = Window(row, col, window_size, window_size).clip(src.shape)
        ids = _read(src, window)
        mask = ~np.isin(ids, [IGNORE, *unwanted])
        merger.begin_tile(window)
        if mask.any():
            for part in trace_outlines(ids, mask, window, src.shape):
                if part.spans:
                    merger.add(part)
                else:
                    yield part.class_id, part.outline
        yield from merger.end_tile(window)


def _read(src: rasterio.DatasetReader, window: Window) -> np.ndarray:
    """The class ids (height, width) of `window`, as stored."""
    rio = RioWindow(window.col, window.row, window.width, window.height)
    try:
        return np.asarray(src.read(1, window=rio))
    except RasterioIOError as e:
        raise SceneError(
            f"cannot read rows {window.row}-{window.bottom}, columns {window.col}-{window.right} "
            f"of {src.name}: {e.__cause__ or e}",
            "the file is truncated or damaged",
        ) from e


def equal_area_projection(src: rasterio.DatasetReader) -> pyproj.Transformer:
    """From the map's CRS to an equal-area projection around the map's centre, in metres."""
    crs = pyproj.CRS.from_wkt(src.crs.to_wkt())
    x, y = src.transform * (src.width / 2, src.height / 2)
    lon, lat = transformer(crs, "EPSG:4326").transform(x, y)
    laea = f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +ellps=WGS84 +units=m"
    return transformer(crs, laea)


def ground_areas(outlines: np.ndarray, equal_area: pyproj.Transformer) -> np.ndarray:
    """Square metres of each polygon (float64)."""
    areas: np.ndarray = shapely.area(_projected(outlines, equal_area))
    return areas


def _projected(outlines: np.ndarray, to: pyproj.Transformer) -> np.ndarray:
    def project(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(to.transform(xy[:, 0], xy[:, 1]))

    projected: np.ndarray = shapely.transform(outlines, project)
    return projected
