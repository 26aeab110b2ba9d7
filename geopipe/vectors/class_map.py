"""The class map that vectors are made from: its class, its pixels on the ground, its scores."""

import math
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError, GridError, SceneError
from geopipe.grid import ground_gsd

_SCORE_FILES = ("scores.tif", "confidence.tif")
"""Beside a map, as ``geopipe map`` writes them; the first is used."""


def pixel_size(src: rasterio.DatasetReader) -> tuple[float, float]:
    """Metres on the ground per pixel, down and along.

    Raises:
        SceneError: The map has no CRS, or its rows and columns are not at right angles.
    """
    if src.crs is None:
        raise SceneError(
            f"{src.name} has no CRS, so nothing in it has a place or a size on the ground",
            "give it one, e.g. gdal_edit.py -a_srs EPSG:32631",
        )
    a, b, _, d, e, *_ = src.transform
    if abs(a * b + d * e) > 1e-3 * math.hypot(a, d) * math.hypot(b, e):
        raise SceneError(
            f"{src.name} has sheared pixels: rows and columns are not at right angles",
            "warp it to a grid without shear, e.g. gdalwarp -r near",
        )
    try:
        return ground_gsd(GeoBox(src.shape, src.transform, src.crs))
    except GridError as error:
        raise SceneError(f"{src.name}: {error.message}", error.hint) from error


def class_id_of(src: rasterio.DatasetReader, scheme: ClassScheme | None, name: str) -> int:
    """The id of class `name` in the map `src`.

    Raises:
        SceneError: The file holds no class ids.
        ConfigError: The map names no classes, or not this one.
    """
    if src.count != 1 or not np.issubdtype(src.dtypes[0], np.integer):
        raise SceneError(
            f"{src.name} has {src.count} bands of {src.dtypes[0]}",
            "give one band of whole numbers: class ids, not colours or scores",
        )
    if scheme is None:
        raise ConfigError(
            f"{src.name} names no classes", "keep its .aux.xml next to it, or give a class scheme"
        )
    if name not in scheme.names:
        raise ConfigError(
            f"{src.name} has no class '{name}'",
            f"its classes are {', '.join(scheme.names)}; name the one that is meant",
        )
    return scheme.id_of(name)


def scores_beside(class_map: Path) -> Path | None:
    """The scores or the confidence that were written with a map of ``geopipe map``."""
    if class_map.name != "classes.tif":
        return None
    return next((p for n in _SCORE_FILES if (p := class_map.with_name(n)).is_file()), None)
