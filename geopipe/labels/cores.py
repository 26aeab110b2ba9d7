"""Cores of buildings, from the polygons that the class labels lose."""

from dataclasses import replace

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.classes import ClassScheme
from geopipe.grid import ground_gsd
from geopipe.labels.area import ClippedLabels
from geopipe.labels.source import LabelSource
from geopipe.labels.vector import VectorLabels

BUILDING = "building"
"""The class whose objects may touch."""
CORES = ClassScheme.from_dict(
    {
        "name": "cores",
        "classes": [
            {"name": "elsewhere", "color": "#000000"},
            {"name": "core", "color": "#ffffff"},
        ],
    },
    "the cores of buildings",
)
"""What a raster of cores holds."""


def core_labels(labels: LabelSource, depth: float) -> LabelSource | None:
    """The buildings of `labels` without `depth` metres along their outlines, of the scheme CORES.

    Cores of two buildings never touch, even where these share a wall. An area that limits
    `labels` limits the cores.

    Returns:
        None for labels that tell no single buildings: rasters, schemes without the class, and
        those that are not trusted near outlines.
    """
    if isinstance(labels, ClippedLabels):
        cores = core_labels(labels.labels, depth)
        return ClippedLabels(cores, labels.area) if cores else None
    if not isinstance(labels, VectorLabels) or BUILDING not in labels.scheme.names:
        return None
    buildings = labels.shapes[labels.ids == labels.scheme.id_of(BUILDING)]
    shapes = _shrunk(buildings, labels.geobox, depth)
    return replace(labels, scheme=CORES, shapes=shapes, ids=np.ones(len(shapes), np.uint8))


def _shrunk(buildings: np.ndarray, geobox: GeoBox, depth: float) -> np.ndarray:
    """(n,) what lies at least `depth` metres inside `buildings`, in their CRS."""
    down, along = ground_gsd(geobox)
    to_metres = Affine.scale(along, down) * ~geobox.affine
    shrunk = shapely.buffer(_moved(buildings, to_metres), -depth, join_style="mitre")
    return _moved(shrunk[~shapely.is_empty(shrunk)], ~to_metres)


def _moved(shapes: np.ndarray, by: Affine) -> np.ndarray:
    linear, offset = np.array([[by.a, by.d], [by.b, by.e]]), (by.c, by.f)
    return np.asarray(shapely.transform(shapes, lambda xy: xy @ linear + offset))
