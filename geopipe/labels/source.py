"""LabelSource: anything that gives class ids for a pixel grid, and the function that opens one."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from odc.geo.geobox import GeoBox
from pyogrio.errors import DataSourceError

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError, SceneError
from geopipe.labels.extent import Extent
from geopipe.labels.openvector import list_layers
from geopipe.labels.osmfile import is_osm_file, read_osm_file
from geopipe.labels.raster import RasterLabels
from geopipe.labels.vector import VectorLabels
from geopipe.labels.vectorfile import OSM_CREDIT, read_vector_file, unknown_classes
from geopipe.raster.opening import opened
from geopipe.raster.virtual import check_input

log = logging.getLogger(__name__)

LEAVE_OUT = "leave out `all_are`, which is for vectors that do not say it"
_VECTOR_ONLY = (".geojson", ".json", ".parquet", ".geoparquet", ".shp", ".fgb")


class LabelSource(Protocol):
    """Gives class ids for any pixel plane over the scene; picklable."""

    @property
    def scheme(self) -> ClassScheme:
        """The classes that the ids stand for."""
        ...

    @property
    def credit(self) -> str:
        """Whom to name in everything made from the labels; "" when nobody."""
        ...

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8 of `geobox`; IGNORE where unknown."""
        ...


def open_labels(
    path: str | Path,
    scheme: ClassScheme,
    geobox: GeoBox,
    layer: str | None = None,
    all_are: str | None = None,
) -> LabelSource:
    """The labels in `path` for the scene whose pixels are `geobox`.

    A raster becomes RasterLabels; GeoPackage, GeoJSON, GeoParquet, Shapefile and OSM files become
    VectorLabels (`layer`: one layer of a GeoPackage; by default all; `all_are`: the class of every
    feature). Raises LabelError when the file is missing, unreadable, without CRS, of no use for
    `scheme`, or elsewhere on Earth, ConfigError when `all_are` is no class.
    """
    if all_are is not None:
        scheme.id_of(all_are)
    path, extent = Path(path), Extent(geobox)
    if not path.exists() and not str(path).startswith("/vsi"):
        raise LabelError(f"there is no file {path}", "check the path")
    check_input(path, LabelError)
    if is_osm_file(path):
        if layer is not None:
            raise LabelError(f"{path} is OSM data, which has no layers", "leave the layer out")
        if all_are is not None:
            raise LabelError(f"{path} is OSM data, whose tags say the class", LEAVE_OUT)
        extract = read_osm_file(path, scheme, extent)
        return VectorLabels.of([extract], scheme, geobox, OSM_CREDIT, str(path))
    if is_raster(path):
        if all_are is not None:
            raise LabelError(f"{path} is a raster, whose pixels say the class", LEAVE_OUT)
        labels = RasterLabels.open(path, scheme)
        _require_overlap(labels, extent)
        return labels
    features, credit = read_vector_file(path, scheme, extent, layer, all_are)
    return VectorLabels.of(features, scheme, geobox, credit, str(path))


def warn_of_unknown_classes(labels: LabelSource, name: str) -> None:
    """Warn of features whose class the scheme does not have: they count as background."""
    if unknown := unknown_classes(getattr(labels, "skipped", ())):
        known = ", ".join(labels.scheme.names)
        log.warning("%s: %s left out, the classes are %s", name, unknown, known)


def is_raster(path: Path) -> bool:
    """Whether GDAL opens `path` as a raster; a GeoPackage with a vector layer is vectors."""
    if path.suffix.lower() in _VECTOR_ONLY:
        return False
    try:
        with opened(path) as src:
            has_bands = bool(src.count)
    except SceneError:
        return False
    if path.suffix.lower() == ".gpkg":
        try:
            return not any(geometry is not None for _, geometry in list_layers(path))
        except DataSourceError:
            pass
    return has_bands


def _require_overlap(labels: RasterLabels, extent: Extent) -> None:
    label_extent = Extent(labels.geobox)
    same = label_extent.crs == extent.crs  # then bounds say it across the 180th meridian as well
    bounds = label_extent.outline.bounds if same else label_extent.bounds_in(extent.crs, margin=0)
    if bounds is not None and not extent.meets(bounds):
        raise LabelError(
            f"the labels do not overlap the scene: {labels.path} lies at {label_extent.lonlat()}; "
            f"the scene at {extent.lonlat()}",
            "check the place and the CRS of both",
        )
