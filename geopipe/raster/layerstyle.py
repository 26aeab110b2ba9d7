"""Default QGIS styles inside a GeoPackage."""

import sqlite3
from contextlib import closing
from pathlib import Path

_CREATE = """
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
 f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
 f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
 useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
 update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""
"""The table as QGIS 3.22 makes it."""


def add_layer_style(path: Path, layer: str, name: str, qml: str, description: str) -> None:
    """Make `qml` the default style of `layer` in the GeoPackage `path`.

    QGIS's table of styles is created when the file has none; an older default style of the layer
    stays in the file, but is no longer the default. `name` is cut to the 30 characters that QGIS
    allows. Raises sqlite3.Error when the file is no GeoPackage or cannot be written, and
    LookupError when it has no such layer with geometries.
    """
    with closing(sqlite3.connect(path)) as db, db:
        existing = db.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", [layer]
        ).fetchone()
        if existing is None:
            raise LookupError(f"{path} has no layer '{layer}' with geometries")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'layer_styles'").fetchone():
            db.execute(_CREATE)
            db.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier)"
                " VALUES ('layer_styles', 'attributes', 'layer_styles')"
            )
        db.execute("UPDATE layer_styles SET useAsDefault = 0 WHERE f_table_name = ?", [layer])
        db.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name,"
            " f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner)"
            " VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '')",
            [layer, existing[0], name[:30], qml, description],
        )
