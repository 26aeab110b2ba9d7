"""What a command made: layers to load, and its figures as text; knows nothing of QGIS."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

_LONG = 12


def layer_sources(path: Path) -> list[tuple[str, str]]:
    """Name and source of each layer in a file: the tables of a GeoPackage, or the file itself."""
    if path.suffix.lower() != ".gpkg":
        return [(path.stem, str(path))]
    return [(table, f"{path}|layername={table}") for table in geopackage_tables(path)]


def scene_name(folder: Path) -> str:
    """The scene that a map folder shows, as its STAC item names it; empty for anything else."""
    try:
        item = json.loads((folder / "item.json").read_text(encoding="utf-8"))
        return str(item["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def geopackage_tables(path: Path) -> list[str]:
    """The tables of a GeoPackage that have geometries, by name; [] of another file."""
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT table_name FROM gpkg_contents WHERE data_type = 'features' ORDER BY 1"
            )
            return [name for (name,) in rows]
    except sqlite3.Error:
        return []


def summary(value: Any, name: str = "") -> Iterator[str]:
    """Lines ``name: value`` of what a command printed as JSON; a long list is only counted."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from summary(item, f"{name} {key}".strip())
    elif isinstance(value, list) and (
        len(value) > _LONG or any(isinstance(v, (dict, list)) for v in value)
    ):
        yield f"{name}: {len(value)} entries"
    elif isinstance(value, list):
        yield f"{name}: {', '.join(map(_text, value)) or 'none'}"
    else:
        yield f"{name}: {_text(value)}"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
