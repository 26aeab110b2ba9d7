"""A class map as polygons: one GeoPackage layer that QGIS opens in the colours of the scheme."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyproj
import rasterio
import shapely
from geopandas import GeoDataFrame
from rasterio.features import shapes

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import SceneError
from geopipe.raster.scene import opened
from geopipe.raster.style import vector_qml

LAYER = "classes"
_BATCH = 20_000
"""Polygons written at a time."""


def write_polygons(
    class_map: Path, target: Path, scheme: ClassScheme, *, background: bool = False
) -> int:
    """Write the areas of equal class in `class_map` to the GeoPackage `target`; returns how many.

    Layer ``classes``: ``class_id``, ``class`` (its name) and ``area_m2``, square metres on the
    ground, in the CRS of the map. Pixels belong together when they share a side; class 0 is left
    out unless `background`. GDAL holds the outlines in memory while it traces them, the table is
    written in batches. Raises SceneError when the map has no CRS, holds ids the scheme does not
    name, or the file cannot be written; then nothing is left behind.
    """
    part = target.with_name(target.name + ".part.gpkg")  # pyogrio wants the suffix
    try:
        with opened(class_map) as src:
            if src.crs is None:
                raise SceneError(f"{class_map} has no CRS, so its areas are unknown")
            total = _write_layer(src, part, scheme, background)
        _add_style(part, scheme, vector_qml(scheme, background=background))
        part.replace(target)
    except (pyogrio.errors.DataSourceError, sqlite3.Error, OSError) as e:
        if isinstance(e, SceneError):
            raise
        raise SceneError(f"cannot write {target}: {e}", "is the folder there?") from e
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
    return total


def _write_layer(
    src: rasterio.DatasetReader, part: Path, scheme: ClassScheme, background: bool
) -> int:
    """Polygonise band 1 of `src` into the layer of a new file `part`; returns how many polygons."""
    part.unlink(missing_ok=True)
    equal_area = _equal_area(src)
    found = _polygons(src, background)
    total = 0
    while True:
        batch = list(islice(found, _BATCH))
        if total and not batch:
            return total
        ids = np.array([i for i, _ in batch], np.int32)
        if ids.size and ids.max() >= len(scheme):
            raise SceneError(
                f"{src.name} holds the class id {ids.max()}",
                f"'{scheme.name}' has {len(scheme)} classes: {', '.join(scheme.names)}",
            )
        outlines = np.array([g for _, g in batch], dtype=object)
        columns = {
            "class_id": ids,
            "class": [scheme.names[i] for i in ids],
            "area_m2": _areas(outlines, equal_area),
        }
        table = GeoDataFrame(columns, geometry=outlines, crs=src.crs)
        # Version 1.2: QGIS 3.22 warns at the version that GDAL would choose.
        how = {"append": True} if total else {"dataset_options": {"VERSION": "1.2"}}
        pyogrio.write_dataframe(
            table, part, layer=LAYER, driver="GPKG", geometry_type="Polygon", **how
        )
        total += len(batch)
        if not batch:
            return total


def _polygons(src: rasterio.DatasetReader, background: bool) -> Iterator[tuple[int, Any]]:
    """(class id, polygon) of each connected area of band 1."""
    band = rasterio.band(src, 1)
    # The band is its own mask: 0 is background and is not traced at all.
    mask = None if background else band
    for shape, value in shapes(band, mask=mask, connectivity=4, transform=src.transform):
        if int(value) != IGNORE:
            yield int(value), shapely.geometry.shape(shape)


def _equal_area(src: rasterio.DatasetReader) -> pyproj.Transformer:
    """From the map's CRS to an equal-area projection around the map's centre, in metres."""
    crs = pyproj.CRS.from_wkt(src.crs.to_wkt())
    x, y = src.transform * (src.width / 2, src.height / 2)
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    laea = f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +ellps=WGS84 +units=m"
    return pyproj.Transformer.from_crs(crs, laea, always_xy=True)


def _areas(outlines: np.ndarray, equal_area: pyproj.Transformer) -> np.ndarray:
    """Square metres of each polygon (float64)."""

    def project(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(equal_area.transform(xy[:, 0], xy[:, 1]))

    areas: np.ndarray = shapely.area(shapely.transform(outlines, project))
    return areas


def _add_style(part: Path, scheme: ClassScheme, style: str) -> None:
    """Add QGIS's table of styles, with one default style for the layer."""
    with closing(sqlite3.connect(part)) as db, db:
        (geometry,) = db.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", [LAYER]
        ).fetchone()
        db.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,"
            " f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),"
            " f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,"
            " useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),"
            " update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"
        )
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier)"
            " VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
        db.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name,"
            " f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner)"
            " VALUES ('', '', ?, ?, ?, ?, '', 1, 'the classes in their colours', '')",
            [LAYER, geometry, scheme.name[:30], style],
        )
