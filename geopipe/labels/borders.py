"""Borders between neighbouring buildings, from the polygons that the class labels lose."""

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
BORDERS = ClassScheme.from_dict(
    {
        "name": "borders",
        "classes": [
            {"name": "elsewhere", "color": "#000000"},
            {"name": "border", "color": "#ffffff"},
        ],
    },
    "the borders of buildings",
)
"""What a raster of borders holds."""
_SAME = 0.5
"""Share of the smaller of two polygons from which on they are one building."""


def border_labels(labels: LabelSource, reach: float) -> LabelSource | None:
    """Where two buildings lie within `reach` metres of a pixel, as labels of the scheme BORDERS.

    Where two buildings share a wall that is a band of `reach` on both sides of it, in a gap of
    twice `reach` the line in its middle, and beyond that nothing. An area that limits `labels`
    limits the borders.

    Returns:
        None for labels that tell no single buildings: rasters, schemes without the class, and
        those that are not trusted near outlines.
    """
    if isinstance(labels, ClippedLabels):
        borders = border_labels(labels.labels, reach)
        return ClippedLabels(borders, labels.area) if borders else None
    if not isinstance(labels, VectorLabels) or BUILDING not in labels.scheme.names:
        return None
    buildings = labels.shapes[labels.ids == labels.scheme.id_of(BUILDING)]
    shapes = _borders(buildings, labels.geobox, reach)
    return replace(labels, scheme=BORDERS, shapes=shapes, ids=np.ones(len(shapes), np.uint8))


def _borders(buildings: np.ndarray, geobox: GeoBox, reach: float) -> np.ndarray:
    """(n,) polygons within `reach` metres of two `buildings`, in their CRS."""
    down, along = ground_gsd(geobox)
    to_px, from_px = ~geobox.affine, geobox.affine

    def to_metres(xy: np.ndarray) -> np.ndarray:
        col, row = to_px * (xy[:, 0], xy[:, 1])
        return np.column_stack([col * along, row * down])

    def from_metres(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(from_px * (xy[:, 0] / along, xy[:, 1] / down))

    plain = shapely.transform(buildings, to_metres)
    i, j = shapely.STRtree(plain).query(plain, "dwithin", distance=2 * reach)
    i, j = i[i < j], j[i < j]
    size = shapely.area(plain)
    common = shapely.area(shapely.intersection(plain[i], plain[j]))
    apart = common <= _SAME * np.minimum(size[i], size[j])  # else a part, or drawn twice
    i, j = i[apart], j[apart]
    around = shapely.buffer(plain, reach, quad_segs=4)
    both = shapely.get_parts(shapely.intersection(around[i], around[j]))
    areas = both[shapely.get_type_id(both) == shapely.GeometryType.POLYGON]
    return np.asarray(shapely.transform(areas[~shapely.is_empty(areas)], from_metres))
