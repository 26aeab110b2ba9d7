"""The file of where to draw: windows of a scene, and the outlines that an analyst draws in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pyogrio.errors
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.labels.openvector import list_layers, read_dataframe, read_info
from geopipe.raster.geopackage import atomic_geopackage, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.style import outlines_qml, windows_qml

WINDOWS, OUTLINES = "windows", "outlines"
_DRAWN = "drawn"


@dataclass(frozen=True)
class DrawingWindow:
    """A window of a scene in which accurate outlines are wanted."""

    shape: Any
    """Polygon in the scene's CRS."""
    gain_m2: float
    """Square metres that the model is expected to have wrong."""
    uncertainty: float
    """Their share of the window."""
    out_of_domain: float
    """Share of the window that is unlike the training images."""


def write_drawing_file(
    out: Path, windows: Sequence[DrawingWindow], geobox: GeoBox, scheme: ClassScheme
) -> None:
    """Write the windows, best first, and an empty layer of outlines to draw.

    Raises OutputError when the file cannot be written; then nothing is left behind.
    """
    crs = CRS.from_user_input(str(geobox.crs))
    columns = {
        "rank": np.arange(1, len(windows) + 1, dtype=np.int32),
        "gain_m2": [round(w.gain_m2, 1) for w in windows],
        "uncertainty": [round(w.uncertainty, 4) for w in windows],
        "out_of_domain": [round(w.out_of_domain, 3) for w in windows],
        _DRAWN: np.zeros(len(windows), bool),
    }
    frame = geopandas.GeoDataFrame(columns, geometry=[w.shape for w in windows], crs=crs)
    empty = geopandas.GeoDataFrame({"class": np.array([], object)}, geometry=[], crs=crs)
    layers = ((WINDOWS, frame, windows_qml()), (OUTLINES, empty, outlines_qml(scheme)))
    with atomic_geopackage(out) as part:
        for layer, table, style in layers:
            write_layer(table, part, layer, geometry_type="Polygon")
            add_layer_style(part, layer, layer, style, "where to draw, and what was drawn")


def is_drawing_file(path: Path) -> bool:
    """Whether `write_drawing_file` wrote the GeoPackage `path`, by its layers."""
    if path.suffix.lower() != ".gpkg" or not path.is_file():
        return False
    try:
        names = {name for name, _ in list_layers(path)}
        if not {WINDOWS, OUTLINES} <= names:
            return False
        return _DRAWN in read_info(path, layer=WINDOWS)["fields"]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return False


def drawn_windows(path: Path) -> geopandas.GeoSeries:
    """The windows that are marked as drawn; LabelError where none is."""
    try:
        frame = read_dataframe(path, layer=WINDOWS, columns=[_DRAWN])
    except (RuntimeError, ValueError) as e:
        raise LabelError(f"cannot read the layer '{WINDOWS}' of {path}: {e}") from e
    is_drawn = frame[_DRAWN].fillna(0).astype(bool)
    if not is_drawn.any():
        raise LabelError(
            f"none of the {len(frame)} windows of {path} is marked as drawn",
            "outline all objects of a window, set its field 'drawn' to true, and save both layers",
        )
    return frame.geometry[is_drawn]
