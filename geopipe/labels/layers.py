"""The tables of a vector file as they describe themselves, and their rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.errors import ShapelyError

from geopipe.errors import LabelError
from geopipe.labels.extent import Bounds
from geopipe.labels.openvector import list_layers, read_dataframe, read_info
from geopipe.labels.parquet import SUFFIXES, ParquetTable

_HEAD = 4096
"""Bytes at the start of a file that tell who wrote it."""


@dataclass(frozen=True)
class Layer:
    """One table of a file as it describes itself."""

    path: Path
    name: str | None
    """None for a GeoParquet file, which has no layers."""
    columns: tuple[str, ...]
    crs: CRS | None
    bounds: Bounds | None
    about: str
    """Everything the file says about itself, for the credit."""
    table: ParquetTable | None = None
    """Of a GeoParquet file."""
    credit: str = ""
    """What its metadata ``CREDIT`` says."""

    def __str__(self) -> str:
        """The file and, where it has several, the layer, for a message."""
        return f"{self.path}, layer '{self.name}'," if self.name else str(self.path)

    def rows(
        self,
        columns: Sequence[str],
        bounds: Bounds | None,
        *,
        fid: bool = False,
        most: int | None = None,
    ) -> gpd.GeoDataFrame:
        """The rows near the scene; `fid`: their index is the id the file gives them."""
        try:
            if self.table is not None:
                return self.table.read(columns)
            return read_dataframe(
                self.path,
                layer=self.name,
                columns=list(columns),
                bbox=bounds,
                force_2d=True,
                fid_as_index=fid,
                max_features=most,
            )
        except (RuntimeError, ValueError, ShapelyError) as e:  # pyogrio's errors are RuntimeErrors
            raise _unreadable(self.path, e) from e


def layers_of(path: Path, requested: str | None) -> Iterator[Layer]:
    """The layers of `path` that have geometries, or the one `requested`; LabelError."""
    if path.suffix.lower() in SUFFIXES:
        table = ParquetTable.open(path)
        yield Layer(path, None, table.columns, table.crs, None, table.about, table)
        return
    try:
        names = [n for n, geometry in list_layers(path) if geometry is not None]
        if requested is not None and requested not in names:
            raise LabelError(f"{path} has no layer '{requested}'", "layers: " + ", ".join(names))
        if not names:
            raise LabelError(
                f"{path} has no geometries that GDAL finds",
                "name the columns, e.g. ogr2ogr -oo GEOM_POSSIBLE_NAMES=geometry -a_srs EPSG:4326 "
                f"out.gpkg {path} (of points: X_POSSIBLE_NAMES, Y_POSSIBLE_NAMES)",
            )
        for name in [requested] if requested is not None else names:
            info = read_info(path, layer=name, force_total_bounds=True)
            about = f"{info.get('dataset_metadata')} {info.get('layer_metadata')}"
            crs = CRS.from_user_input(info["crs"]) if info["crs"] else None
            columns = tuple(str(f) for f in info["fields"])
            bounds = info["total_bounds"]
            has_bounds = bounds is not None and all(map(math.isfinite, bounds))
            credit = _credit(info.get("layer_metadata"))
            has = bounds if has_bounds else None
            yield Layer(path, name, columns, crs, has, about, credit=credit)
    except (DataSourceError, DataLayerError, CRSError) as e:
        raise _unreadable(path, e) from e


def _credit(metadata: Mapping[str, str] | None) -> str:
    """The credit that geopipe wrote into a layer; upper and lower case of the key are one."""
    for key, value in (metadata or {}).items():
        if key.casefold() == "credit":
            return str(value)
    return ""


def _unreadable(path: Path, error: Exception) -> LabelError:
    hint = "give GeoTIFF, GeoPackage, GeoJSON, GeoParquet, Shapefile or an OSM file that is whole"
    if _is_overpass_json(path):
        hint = "it is JSON of Overpass: ask for [out:xml] and save the answer as .osm"
    return LabelError(f"cannot read {path}: {' '.join(str(error).split())}", hint)


def _is_overpass_json(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"osm3s"' in file.read(_HEAD)
