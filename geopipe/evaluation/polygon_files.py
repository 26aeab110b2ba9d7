"""Polygons of one class from vector files, in a common plane of true areas."""

import logging
import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyarrow import ArrowException
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from geopipe.errors import LabelError
from geopipe.grid.crs import transformer
from geopipe.labels.openvector import list_layers, read_dataframe, read_info

log = logging.getLogger(__name__)

BUILDINGS = "buildings"
"""The layer that is taken where a file has several."""
_ALIKE = 0.75
"""From which similarity on (difflib, 0 to 1) a name is a misspelt one."""
_PARQUET = (".parquet", ".geoparquet", ".pq")


def has_polygons(path: Path) -> bool:
    """Whether `path` is a vector file with polygons; False for rasters and what cannot be read."""
    if path.suffix.lower() in _PARQUET:
        return path.is_file()
    try:
        kinds = [str(kind) for _, kind in list_layers(path)]
    except (DataSourceError, DataLayerError):
        return False
    return any("Polygon" in kind or kind == "Unknown" for kind in kinds)


@dataclass(frozen=True, eq=False)
class PolygonLayer:
    """The polygons of a layer in its CRS."""

    shapes: np.ndarray
    """(n,) valid polygons, one per object."""
    crs: CRS
    footprint: Any = None
    """Polygon in `crs`: where objects were looked for; None where the file does not say."""

    def plane(self) -> str | None:
        """An equal-area projection around the polygons, in metres; None without polygons."""
        if self.footprint is None and not len(self.shapes):
            return None
        shapes = self.shapes if self.footprint is None else np.array([self.footprint], object)
        left, bottom, right, top = shapely.total_bounds(shapes)
        to_lonlat = transformer(self.crs, CRS.from_epsg(4326))
        lon, lat = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
        if not (math.isfinite(lon) and math.isfinite(lat)):
            raise LabelError("polygons lie where their CRS has no place on the ground")
        return f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +ellps=WGS84 +units=m"

    def in_plane(self, plane: str | None) -> np.ndarray:
        """(n,) valid polygons in `plane`."""
        if plane is None or not len(self.shapes):
            return self.shapes
        return _polygons(_projected(self.shapes, self.crs, plane))

    def footprint_in(self, plane: str | None) -> Any:
        """`footprint` in `plane`, or None."""
        if self.footprint is None or plane is None:
            return None
        return _projected(np.array([self.footprint], object), self.crs, plane)[0]


def read_polygons(
    path: Path, layer: str | None, class_name: str, all_are: str | None = None
) -> PolygonLayer:
    """The polygons of `path` that are objects of `class_name`.

    The layer: `layer`, else ``buildings``, else the only one with polygons. Its rows: those of the
    class in a column ``class``, else those with a value in a column named like the class (OSM
    tags), else all. Parts of a multipolygon are one object each; broken polygons are repaired, and
    a warning counts them.

    Raises LabelError, with what the file holds.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    frame, footprint = _frame(path, layer)
    if frame.crs is None:
        raise LabelError(
            f"{path} has no CRS", "set it, e.g. ogr2ogr -a_srs EPSG:2154 out.gpkg FILE"
        )
    by_name = {str(c).casefold(): c for c in frame.columns}
    if all_are is not None:
        if all_are != class_name:
            raise LabelError(
                f"all polygons of {path} are {all_are}, and those of {class_name} are compared",
                f"give a map of {all_are} as a raster",
            )
    elif "class" in by_name:
        names = frame[by_name["class"]].astype("string").str.casefold()
        if len(frame) and not (names == class_name.casefold()).any():
            present = ", ".join(sorted({str(n) for n in names.dropna()})[:20])
            raise LabelError(
                f"{path} has no '{class_name}': its column 'class' holds {present}",
                f"if all polygons are of one class, give it: `all_are` {class_name}",
            )
        _warn_of_misspelt(path, names, class_name)
        frame = frame[names == class_name.casefold()]
    elif class_name in by_name:
        values = frame[by_name[class_name]].astype("string")
        frame = frame[values.notna() & (values != "no")]
    shapes = np.asarray(frame.geometry.array, object)
    if broken := np.count_nonzero(~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)):
        log.warning(
            "%s: %d of %d geometries are broken and were repaired", path, broken, len(frame)
        )
    shapes = _polygons(shapes)
    if len(frame) and not len(shapes):
        raise LabelError(f"{path} holds no polygons", "give footprints, not points or lines")
    return PolygonLayer(shapes, CRS.from_user_input(frame.crs), footprint)


def _warn_of_misspelt(path: Path, names: pd.Series, class_name: str) -> None:
    """Of `names`, lower case, those that are empty or nearly `class_name`: nobody means them."""
    counts = names.fillna("").str.strip().value_counts()
    near = get_close_matches(class_name.casefold(), counts.index, n=9, cutoff=_ALIKE)
    misspelt = [n for n in counts.index if n != class_name.casefold() and (not n or n in near)]
    if misspelt:
        names_left_out = ", ".join(f"{counts[n]} x class '{n}'" for n in misspelt)
        log.warning(
            "%s: %s left out, compared are those of class '%s'", path, names_left_out, class_name
        )


def read_area(path: Path, plane: str | None) -> Any:
    """The union of the polygons of `path` in `plane`."""
    frame, _ = _frame(path, None)
    if frame.crs is None:
        raise LabelError(f"{path} has no CRS", "set it, e.g. ogr2ogr -a_srs EPSG:2154")
    shapes = _polygons(np.asarray(frame.geometry.array, object))
    if not len(shapes):
        raise LabelError(f"{path} holds no polygons", "give the area as polygons")
    if plane is None:
        return shapely.union_all(shapes)
    return shapely.union_all(_projected(shapes, CRS.from_user_input(frame.crs), plane))


def _frame(path: Path, layer: str | None) -> tuple[gpd.GeoDataFrame, Any]:
    """A layer as it is, and the footprint that its metadata name."""
    try:
        if path.suffix.lower() in _PARQUET:
            frame = gpd.read_parquet(path)
            if "layer" in frame and BUILDINGS in set(frame["layer"]):
                frame = frame[frame["layer"] == BUILDINGS]
            return frame, None
        layers = {str(n): str(kind) for n, kind in list_layers(path) if kind is not None}
        if layer is not None and layer not in layers:
            raise LabelError(f"{path} has no layer '{layer}'", "layers: " + ", ".join(layers))
        if layer is None:
            areal = [n for n, kind in layers.items() if "Polygon" in kind or kind == "Unknown"]
            if BUILDINGS not in areal and len(areal) != 1:
                raise LabelError(
                    f"{path} has {len(areal)} layers of polygons: {', '.join(areal) or 'none'}",
                    "name one as the layer" if areal else "give a file of polygons",
                )
            layer = BUILDINGS if BUILDINGS in areal else areal[0]
        about = read_info(path, layer=layer).get("layer_metadata") or {}
        footprint = about.get("footprint")
        frame = read_dataframe(path, layer=layer, force_2d=True)
    except (DataSourceError, DataLayerError, ArrowException, ValueError, OSError) as e:
        raise LabelError(
            f"cannot read {path}: {' '.join(str(e).split())}",
            "give GeoPackage, GeoJSON, GeoParquet or Shapefile that is whole",
        ) from e
    return frame, shapely.from_wkt(footprint) if footprint else None


def _polygons(shapes: np.ndarray) -> np.ndarray:
    """(n,) the valid polygons that `shapes` are made of; lines and points are left out."""
    shapes = shapes[~shapely.is_missing(shapes)]
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapes)))
    return np.asarray(parts[(shapely.get_type_id(parts) == 3) & ~shapely.is_empty(parts)])


def _projected(shapes: np.ndarray, crs: CRS, plane: str) -> np.ndarray:
    to = transformer(crs, plane)
    return np.asarray(
        shapely.transform(shapes, lambda xy: np.column_stack(to.transform(xy[:, 0], xy[:, 1])))
    )
