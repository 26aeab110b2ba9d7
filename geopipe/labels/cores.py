"""Cores of buildings, from the polygons that the class labels lose."""

from dataclasses import replace

import numpy as np
import shapely
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
    to_px, from_px = ~geobox.affine, geobox.affine

    def to_metres(xy: np.ndarray) -> np.ndarray:
        col, row = to_px * (xy[:, 0], xy[:, 1])
        return np.column_stack([col * along, row * down])

    def from_metres(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(from_px * (xy[:, 0] / along, xy[:, 1] / down))

    plain = shapely.transform(buildings, to_metres)
    shrunk = shapely.buffer(plain, -depth, join_style="mitre")
    return np.asarray(shapely.transform(shrunk[~shapely.is_empty(shrunk)], from_metres))
