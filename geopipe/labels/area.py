"""Area: polygons that say where labels, or a comparison, count."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.features import rasterize
from shapely import STRtree

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.grid.crs import nowhere
from geopipe.labels.drawn import drawn_windows, is_drawing_file
from geopipe.labels.extent import Extent
from geopipe.labels.features import kind_of, of_one_kind
from geopipe.labels.layers import layers_of
from geopipe.labels.source import LabelSource

_FORMATS = "give GeoPackage, GeoJSON, GeoParquet or Shapefile"
_NAMES = {"ring": "closed line"}


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
        extent = Extent(geobox)
        brought = [extent.bring(shapes, crs) for shapes, crs in read_area(path)]
        polygon_array = np.concatenate(brought)
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


def read_area(path: Path) -> list[tuple[np.ndarray, CRS]]:
    """The polygons (n,) of each layer of `path` that has some, and their CRS.

    Raises LabelError where there are none, or where their place on Earth is not known.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    if is_drawing_file(path):
        windows = drawn_windows(path)
        layers = [(np.asarray(windows.array, object), windows.crs, str(path))]
    else:
        try:
            frames = [(layer.rows([], None), layer) for layer in layers_of(path, None)]
        except LabelError as e:
            reason = e.message.removeprefix(f"cannot read {path}: ")
            raise LabelError(f"cannot read polygons from {path}: {reason}", _FORMATS) from e
        layers = [
            (np.asarray(frame.geometry.array, object), layer.crs, str(layer))
            for frame, layer in frames
        ]
    result, others = [], Counter[str]()
    for shapes, crs, name in layers:
        shapes = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
        shapes = np.array([of_one_kind(shape) for shape in shapes], object)
        kinds = np.array([kind_of(shape) for shape in shapes], object)
        others.update(kinds[kinds != "polygon"].tolist())
        if not (kinds == "polygon").any():
            continue
        if crs is None:
            raise LabelError(f"{name} has no CRS", "set it, or save the polygons as GeoPackage")
        known = CRS.from_user_input(crs)
        if wrong := nowhere(known, name, "ogr2ogr -a_srs {code} out.gpkg FILE"):
            raise LabelError(*wrong)
        result.append((shapes[kinds == "polygon"], known))
    if not result:
        raise _no_polygon(path, others)
    return result


def _no_polygon(path: Path, others: Counter[str]) -> LabelError:
    if not others:
        return LabelError(f"{path} is empty", "draw the polygons that limit the area in it")
    what = ", ".join(f"{n} x {_NAMES.get(kind, kind)}" for kind, n in sorted(others.items()))
    return LabelError(
        f"{path} holds no polygon, but {what}",
        "an area is given by polygons; 'Lines to polygons' of QGIS makes them of closed lines",
    )


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

    @property
    def skipped(self) -> tuple[tuple[str, int], ...]:
        """What was left out of the labels, and why."""
        return getattr(self.labels, "skipped", ())

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8 of `geobox`; IGNORE where unknown or outside the area."""
        ids = np.where(self.area.inside(geobox), self.labels.read(geobox), IGNORE)
        return ids.astype(np.uint8)
