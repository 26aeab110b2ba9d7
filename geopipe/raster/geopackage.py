"""Write a GeoPackage that appears complete or not at all."""

import io
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from geopipe.errors import OutputError
from geopipe.files import atomic_file, check_new_file

GEOPACKAGE_ERRORS = (DataSourceError, DataLayerError, FeatureError, sqlite3.Error)
"""What pyogrio and SQLite raise where a GeoPackage cannot be written."""
_MOMENT = "2000-01-01T00:00:00.000Z"
_OBJECTS = "SELECT name FROM sqlite_master"
_LAYER, _COLUMN = "any_layer", "any_geometry"


def check_target(out: Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> None:
    """OutputError where `out` is no name for a new GeoPackage, or is one of its own `sources`."""
    if out.suffix.lower() != ".gpkg":
        raise OutputError(f"{out} would be a GeoPackage", "give it a name that ends in .gpkg")
    check_new_file(out, overwrite=overwrite, sources=sources)


@contextmanager
def atomic_geopackage(out: Path) -> Iterator[Path]:
    """A path to write to; it becomes `out` when all went well, and is gone when not."""
    with atomic_file(out, *GEOPACKAGE_ERRORS) as part:
        yield part
        finish_geopackage(part)


def write_layer(frame: gpd.GeoDataFrame, path: Path, layer: str, **options: Any) -> None:
    """Write `frame` as a layer of the GeoPackage `path`, which may have others.

    A new file is of version 1.2: QGIS 3.22 warns at the one that GDAL would choose. `options`: of
    pyogrio.write_dataframe.
    """
    if not path.exists():
        options["dataset_options"] = {"VERSION": "1.2"}
    pyogrio.write_dataframe(frame, path, layer=layer, driver="GPKG", **options)


def finish_geopackage(path: Path) -> None:
    """Check the GeoPackage `path`, and set its times of change: equal layers, equal bytes.

    GDAL goes on where SQLite fails to insert the CRS of a layer or to make its spatial index, and
    says nothing. Raises sqlite3.DatabaseError for such a file.
    """
    with closing(sqlite3.connect(path)) as db, db:
        if lost := next(_damage(db), None):
            raise sqlite3.DatabaseError(lost)
        tables = _column(db, _OBJECTS)
        for table, column in (
            ("gpkg_contents", "last_change"),
            ("gpkg_metadata_reference", "timestamp"),
            ("layer_styles", "update_time"),
        ):
            if table in tables:
                db.execute(f"UPDATE {table} SET {column} = ?", [_MOMENT])


def _damage(db: sqlite3.Connection) -> Iterator[str]:
    """What of a GeoPackage is damaged, or lacks what GDAL writes into each."""
    yield from (text for (text,) in db.execute("PRAGMA quick_check(1)") if text != "ok")
    for table, _, other, _ in db.execute("PRAGMA foreign_key_check"):
        yield f"{table} lacks a row of {other}"
    layers = dict(db.execute("SELECT table_name, column_name FROM gpkg_geometry_columns"))
    listed = "SELECT table_name FROM gpkg_contents WHERE data_type = 'features'"
    yield from (f"layer {name} has no geometry" for name in _column(db, listed) - set(layers))
    for table in ("gpkg_contents", "gpkg_ogr_contents", "gpkg_extensions"):
        missing = set(layers) - _column(db, f"SELECT table_name FROM {table}")
        yield from (f"{table} lacks layer {name}" for name in missing)
    objects = _column(db, _OBJECTS)
    expected = _objects_of_layer(db.execute("PRAGMA user_version").fetchone()[0])
    for layer, column in layers.items():
        for name in (n.replace(_LAYER, layer).replace(_COLUMN, column) for n in expected):
            if name not in objects:
                yield f"{name} is missing"
        index, table = (_quoted(n) for n in (f"rtree_{layer}_{column}", layer))
        counts = f"SELECT (SELECT count(*) FROM {index}), (SELECT count(*) FROM {table}), "
        counts += "feature_count FROM gpkg_ogr_contents WHERE table_name = ?"
        indexed, there, counted = db.execute(counts, [layer]).fetchone()
        if indexed > there or counted != there:
            yield f"layer {layer} has {there} features, {counted} counted and {indexed} indexed"
        bounds = "SELECT min(minx), min(miny), max(maxx), max(maxy) FROM " + index
        extent = "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = ?"
        if not _agree(db.execute(bounds).fetchone(), db.execute(extent, [layer]).fetchone()):
            yield f"layer {layer} has another extent than it says"


def _agree(indexed: tuple[float | None, ...], stated: tuple[float | None, ...]) -> bool:
    """Whether two boxes are one but for float32, in which the index keeps its own."""
    if None in indexed or None in stated:
        return indexed == stated
    return bool(np.allclose(np.array(indexed, float), np.array(stated, float), rtol=1e-6))


def _column(db: sqlite3.Connection, query: str) -> set[str]:
    return {value for (value,) in db.execute(query)}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@cache
def _objects_of_layer(version: int) -> frozenset[str]:
    """Names of the tables and triggers that GDAL makes for a layer (written to memory).

    `version`: of the format, as SQLite's user_version.
    """
    buffer = io.BytesIO()
    pyogrio.write_dataframe(
        gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs="EPSG:4326"),
        buffer,
        layer=_LAYER,
        driver="GPKG",
        dataset_options={"VERSION": f"{version // 10000}.{version // 100 % 100}"},
        layer_options={"GEOMETRY_NAME": _COLUMN},
    )
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(buffer.getvalue())
        return frozenset(_column(db, _OBJECTS))
