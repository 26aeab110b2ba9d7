"""Opening vectors: the one place that does so with GDAL.

GDAL keeps the drivers of `geopipe.raster.drivers` alone, and what a virtual file refers to is
looked at first: a file of labels comes from anybody, and opening it must not run what it says.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from shapely.errors import ShapelyError

from geopipe.errors import GeopipeError, LabelError
from geopipe.raster.drivers import vector_network
from geopipe.raster.remote import is_remote, remote_allowed
from geopipe.raster.virtual import check_input

log = logging.getLogger(__name__)


def list_layers(path: Path, *, error: type[GeopipeError] = LabelError) -> list[tuple[str, Any]]:
    """Names and geometry types (None: a table) of the layers in `path`.

    Raises:
        GeopipeError: of the type `error`, where `path` is no file, or refers to what it may not.
        pyogrio.errors.DataSourceError: GDAL cannot read it.
    """
    with _safe(path, error):
        layers = _decoded(pyogrio.list_layers, path, error, {})
        return [(str(name), kind) for name, kind in layers]


def read_info(
    path: Path, *, error: type[GeopipeError] = LabelError, **options: Any
) -> dict[str, Any]:
    """What a layer says of itself, as pyogrio.read_info; errors as of `list_layers`."""
    with _safe(path, error):
        return dict(_decoded(pyogrio.read_info, path, error, options))


def read_dataframe(path: Path, *, error: type[GeopipeError] = LabelError, **options: Any) -> Any:
    """The features of a layer as pyogrio.read_dataframe; errors as of `list_layers`."""
    with _safe(path, error):
        try:
            return _finite(_decoded(pyogrio.read_dataframe, path, error, options), path)
        except ShapelyError as e:  # GDAL passes shapes on that GEOS takes for none
            reason = " ".join(str(e).split())
            raise error(
                f"cannot read {path}: {reason}", "repair it, in QGIS with 'Fix geometries'"
            ) from e


def _finite(frame: Any, path: Path) -> Any:
    """`frame`, its shapes with coordinates that are no numbers taken away, which is logged."""
    if not hasattr(frame, "geometry"):  # a table
        return frame
    shapes = np.asarray(frame.geometry.array, object)
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    wrong = np.unique(owners[~np.isfinite(coordinates).all(1)])
    if len(wrong):
        log.warning("%s: coordinates of %d shapes are no numbers: left out", path, len(wrong))
        shapes[wrong] = None
        frame = frame.set_geometry(shapes, crs=frame.crs)
    return frame


def _decoded(
    read: Callable[..., Any], path: Path, error: type[GeopipeError], options: dict[str, Any]
) -> Any:
    """``read(path)``; a Shapefile whose text is not in the encoding that it names as Latin-1."""
    try:
        return read(path, **options)
    except UnicodeDecodeError as e:
        if path.suffix.lower() not in (".shp", ".dbf") or read is pyogrio.list_layers:
            raise error(
                f"{path} is damaged: its text is no UTF-8 ({e.reason})", "write it again"
            ) from e
    log.warning("%s: its text is not in the encoding it names; read as Latin-1", path)
    return read(path, **{**options, "encoding": "ISO-8859-1"})


@contextmanager
def _safe(path: Path, error: type[GeopipeError]) -> Iterator[None]:
    text, allowed = str(path), remote_allowed()
    if text.startswith("/vsi") or path.suffix.lower() == ".zip":
        archive = not is_remote(text)
    else:
        archive = False
        check_input(path, error)
    with vector_network(allowed or is_remote(text)):
        if archive and pyogrio.read_info(path).get("driver") == "OGR_VRT":
            raise error(f"{path} is an OGR VRT in an archive", "unpack the archive")
        yield
