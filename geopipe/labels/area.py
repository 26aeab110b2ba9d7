"""Area: polygons that say where labels, or a comparison, count."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import shapely
from geopandas import GeoSeries
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.features import rasterize
from shapely import STRtree

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.grid.crs import nowhere
from geopipe.labels.drawn import drawn_windows, is_drawing_file
from geopipe.labels.extent import Extent
from geopipe.labels.openvector import read_dataframe
from geopipe.labels.source import LabelSource


@dataclass(frozen=True, eq=False)
class Area:
    """Polygons in a scene's CRS; picklable, opens no file."""

    shapes: np.ndarray
    """(n,) shapely polygons"""
    path: str

    @classmethod
    def open(cls, path: Path, geobox: GeoBox) -> Self:
        """The polygons of `path` that meet the scene; LabelError when there are none.

        Of a file of `geopipe ask` those windows are taken that are marked as drawn.
        """
        if not path.exists():
            raise LabelError(f"there is no file {path}", "check the path")
        try:
            shapes: GeoSeries = (
                drawn_windows(path)
                if is_drawing_file(path)
                else read_dataframe(path, columns=[]).geometry
            )
        except (RuntimeError, ValueError, AttributeError) as e:
            raise LabelError(f"cannot read polygons from {path}: {e}") from e
        if shapes.crs is None:
            raise LabelError(f"{path} has no CRS", "set it, or save the polygons as GeoPackage")
        polygons = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])]
        extent = Extent(geobox)
        crs = CRS.from_user_input(shapes.crs)
        if wrong := nowhere(crs, str(path), "ogr2ogr -a_srs {code} out.gpkg FILE"):
            raise LabelError(*wrong)
        polygon_array = extent.bring(np.asarray(polygons.array, object), crs)
        overlapping = polygon_array[shapely.intersects(extent.outline, polygon_array)]
        if not len(overlapping):
            raise LabelError(
                f"none of the {len(polygon_array)} polygons of {path} lies on the scene",
                "check the place and the CRS of both",
            )
        return cls(overlapping, str(path))

    def inside(self, geobox: GeoBox) -> np.ndarray:
        """Whether the centre of each pixel of `geobox` lies in a polygon, (h, w) bool."""
        overlapping = self.shapes[STRtree(self.shapes).query(geobox.extent.geom)]
        if not len(overlapping):
            return np.zeros(geobox.shape, bool)
        mask = rasterize(
            overlapping.tolist(), out_shape=geobox.shape, transform=geobox.affine, dtype="uint8"
        )
        return np.asarray(mask, bool)


@dataclass(frozen=True, eq=False)
class ClippedLabels:
    """`labels` inside `area`; outside, where absence of a label means nothing, IGNORE."""

    labels: LabelSource
    area: Area

    @property
    def scheme(self) -> ClassScheme:
        """The classes that the ids stand for."""
        return self.labels.scheme

    @property
    def credit(self) -> str:
        """Whom to name in everything made from the labels."""
        return self.labels.credit

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8 of `geobox`; IGNORE where unknown or outside the area."""
        ids = np.where(self.area.inside(geobox), self.labels.read(geobox), IGNORE)
        return ids.astype(np.uint8)
