"""Write a GeoPackage that appears complete or not at all."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from geopipe.errors import LabelError

_SIDECAR_SUFFIXES = ("", "-journal", "-wal", "-shm")
"""What SQLite writes."""


def check_target(out: Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> None:
    """LabelError where `out` is no name for a new GeoPackage, or is one of its own `sources`."""
    if out.suffix.lower() != ".gpkg":
        raise LabelError(f"{out} would be a GeoPackage", "give it a name that ends in .gpkg")
    if out.is_dir():
        raise LabelError(f"{out} is a folder", "give the name of a file")
    if out.exists() and any(s.exists() and out.samefile(s) for s in sources):
        raise LabelError(f"{out} is what it would be made from", "give another name")
    if out.exists() and not overwrite:
        raise LabelError(f"{out} exists already", "give another name, or set overwrite")
    if not out.parent.is_dir():
        raise LabelError(f"there is no folder {out.parent}", "make it first")


@contextmanager
def atomic_geopackage(out: Path) -> Iterator[Path]:
    """A path to write to; it becomes `out` when all went well, and is gone when not."""
    part = out.with_name(out.name + ".part.gpkg")
    sidecars = [part.with_name(part.name + suffix) for suffix in _SIDECAR_SUFFIXES]
    try:
        for old in sidecars:
            old.unlink(missing_ok=True)
        yield part
        part.replace(out)
    except (DataSourceError, DataLayerError, FeatureError, sqlite3.Error, OSError) as e:
        raise LabelError(
            f"cannot write {out}: {' '.join(str(e).split())}", "is there room, and may you write?"
        ) from e
    finally:
        for left in sidecars:
            left.unlink(missing_ok=True)
