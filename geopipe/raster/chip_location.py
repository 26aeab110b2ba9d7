"""Geographic position of chips, where their files have one."""

import warnings
from collections.abc import Sequence

import numpy as np
import shapely
from geopandas import GeoSeries
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from geopipe.grid import ground_gsd
from geopipe.raster.chips import Chip
from geopipe.raster.opening import opened

WGS84 = "EPSG:4326"
_MAX_SAMPLED = 50
"""Chips whose ground sample distance is looked at."""


def place_of(chip: Chip) -> GeoBox | None:
    """The plane of a chip's pixels; None where the file has no CRS or no geotransform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with opened(chip.path) as src:
            if src.crs is None or src.transform.is_identity or not src.transform.determinant:
                return None
            return GeoBox(src.shape, src.transform, src.crs)


def ground_sample_distance(chips: Sequence[Chip]) -> float | None:
    """Median metres on the ground per pixel of chips that have a place; None if none has."""
    sampled = [
        chips[i] for i in np.linspace(0, len(chips) - 1, min(_MAX_SAMPLED, len(chips)), dtype=int)
    ]
    distances = [max(ground_gsd(box)) for box in map(place_of, sampled) if box is not None]
    return float(f"{np.median(distances):.3g}") if distances else None


def footprints(chips: Sequence[Chip]) -> GeoSeries:
    """The outline of each chip, None where it has no place; in their CRS, or WGS 84 if several."""
    geoboxes = [place_of(chip) for chip in chips]
    kinds = {str(box.crs) for box in geoboxes if box is not None}
    target = kinds.pop() if len(kinds) == 1 else WGS84
    shapes = [
        None
        if box is None
        else (box.extent if str(box.crs) == target else box.extent.to_crs(target)).geom
        for box in geoboxes
    ]
    return GeoSeries(np.array(shapes, dtype=object), crs=target)


def rectangle(box: GeoBox) -> shapely.Polygon:
    """The outline of a plane, its four corners."""
    height, width = box.shape
    corners = [box.affine * corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    return shapely.Polygon(corners)
