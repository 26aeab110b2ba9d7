"""Extent: where a scene lies on Earth, in the CRS that a label file needs."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from geopipe.errors import GridError, LabelError
from geopipe.grid.crs import transformer
from geopipe.labels.meridian import at_longitude, near

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top)"""

LONLAT = CRS.from_epsg(4326)
_DIGITS = 4
"""Decimals of a bounding box (11 m): the same scene read twice asks the same question."""
_MOST_STRETCHED = 100.0
"""No projection that is used draws a metre so long: Mercator at 89 degrees does 57 m."""
MARGIN_M = 100.0
"""Half of the widest line (200 m): what lies farther off cannot reach into the scene."""


@dataclass(frozen=True)
class Extent:
    """The pixel plane of a scene as a place; raises GridError when its CRS cannot tell."""

    geobox: GeoBox

    @cached_property
    def crs(self) -> CRS:
        """The CRS of the scene."""
        if self.geobox.crs is None:
            raise GridError("the pixel plane has no CRS, so no label can be placed on it")
        return self.geobox.crs.proj

    @cached_property
    def local(self) -> CRS:
        """Metres on the ground around the scene's centre.

        Azimuthal equidistant, so it exists everywhere; 100 km off the centre lengths across are
        wrong by 4e-5, at the rim of any scene by less.
        """
        height, width = self.geobox.shape
        x, y = self.geobox.affine * (width / 2, height / 2)
        lon, lat = transformer(self.crs, LONLAT).transform(x, y)
        if not (math.isfinite(lon) and math.isfinite(lat)):
            raise GridError(
                f"the scene's centre {x:g}, {y:g} is no place in {self.crs.to_string()}",
                "check the scene with gdalinfo",
            )
        return CRS.from_proj4(
            f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m +no_defs"
        )

    @cached_property
    def outline(self) -> BaseGeometry:
        """The scene's edge in its own CRS."""
        outline: BaseGeometry = self.geobox.extent.geom
        shapely.prepare(outline)
        return outline

    def bounds_in(self, crs: CRS, margin: float = MARGIN_M) -> Bounds | None:
        """Bounds in `crs` of the scene and `margin` metres around it.

        None where bounds cannot say it: across the antimeridian, or out of the reach of `crs`.
        """
        try:
            to_local = transformer(self.crs, self.local)
            left, bottom, right, top = to_local.transform_bounds(*self.outline.bounds)
            expanded = (left - margin, bottom - margin, right + margin, top + margin)
            bounds = transformer(self.local, crs).transform_bounds(*expanded)
        except (ProjError, GridError):
            return None
        if not all(map(math.isfinite, bounds)) or bounds[0] > bounds[2]:
            return None
        return None if self._is_torn(bounds, expanded, crs) else bounds

    def _is_torn(self, bounds: Bounds, metres: Bounds, crs: CRS) -> bool:
        """Whether `bounds` in `crs` go around the Earth, for a box of so many `metres` across.

        So they do in Mercator and its like across the antimeridian, where degrees would show it by
        a left larger than the right.
        """
        if crs.is_geographic:
            return False
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        width = (bounds[2] - bounds[0]) * (unit or 1.0)
        return width > _MOST_STRETCHED * max(metres[2] - metres[0], metres[3] - metres[1])

    @cached_property
    def longitude(self) -> float | None:
        """Of the centre, as the scene counts it (181, say); None where units are no degrees."""
        if not self.crs.is_geographic:
            return None
        height, width = self.geobox.shape
        return float((self.geobox.affine * (width / 2, height / 2))[0])

    def bring(self, shapes: np.ndarray, source: CRS) -> np.ndarray:
        """`shapes` (n,) of `source` in the CRS of the scene, at the longitudes of the scene."""
        moved = reproject(shapes, source, self.crs)
        return moved if self.longitude is None else at_longitude(moved, self.longitude)

    def meets(self, bounds: Bounds) -> bool:
        """Whether `bounds` in the scene's CRS meet the scene."""
        there = bounds if self.longitude is None else near(bounds, self.longitude)
        return bool(self.outline.intersects(shapely.box(*there)))

    def lonlat(self) -> str:
        """The extent for a message."""
        return in_lonlat(self.outline.bounds, self.crs)


def scene_bounds(geobox: GeoBox) -> Bounds:
    """West, south, east, north of the scene and 100 m around it, in degrees, rounded.

    Raises LabelError where there is no such box.
    """
    bounds = Extent(geobox).bounds_in(LONLAT)
    if bounds is None:
        raise LabelError(
            "the scene has no bounding box in degrees (does it cross the antimeridian?)",
            "give a file of labels instead",
        )
    left, bottom, right, top = (round(b, _DIGITS) for b in bounds)
    return left, bottom, right, top


def in_lonlat(bounds: Bounds, crs: CRS) -> str:
    """`bounds` for a message: in degrees, or as they are when `crs` cannot be right for them."""
    try:
        to_lonlat = transformer(crs, LONLAT)
        left, bottom, right, top = to_lonlat.transform_bounds(*bounds)
    except (ProjError, GridError):
        left = math.inf
    if not math.isfinite(left):
        x, y = f"{bounds[0]:g} to {bounds[2]:g}", f"{bounds[1]:g} to {bounds[3]:g}"
        return f"x {x}, y {y}, which is nowhere in {crs.to_string()}"
    return f"lon {left:.5f} to {right:.5f}, lat {bottom:.5f} to {top:.5f}"


def reproject(shapes: np.ndarray, source: CRS, target: CRS) -> np.ndarray:
    """`shapes` (n,) in `target`, two-dimensional; coordinates that cannot be are infinite."""
    flat = shapely.force_2d(shapes)
    if source == target:
        return np.asarray(flat)
    to = transformer(source, target)
    return np.asarray(
        shapely.transform(flat, lambda xy: np.column_stack(to.transform(xy[:, 0], xy[:, 1])))
    )
