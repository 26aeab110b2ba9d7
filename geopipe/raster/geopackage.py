"""Write a GeoPackage that appears complete or not at all."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from geopipe.errors import OutputError
from geopipe.files import atomic_file, check_new_file

GEOPACKAGE_ERRORS = (DataSourceError, DataLayerError, FeatureError, sqlite3.Error)
"""What pyogrio and SQLite raise where a GeoPackage cannot be written."""
_MOMENT = "2000-01-01T00:00:00.000Z"


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


def fix_timestamps(path: Path) -> None:
    """Set the times of change in the GeoPackage `path` to a constant: equal layers, equal bytes."""
    with closing(sqlite3.connect(path)) as db, db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        for table, column in (
            ("gpkg_contents", "last_change"),
            ("gpkg_metadata_reference", "timestamp"),
            ("layer_styles", "update_time"),
        ):
            if table in tables:
                db.execute(f"UPDATE {table} SET {column} = ?", [_MOMENT])
