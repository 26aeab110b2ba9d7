"""GeoParquet tables of many writers: any index and geometry column, gaps in the metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow.parquet
import shapely
from pyarrow import ArrowException
from pyproj import CRS
from pyproj.exceptions import CRSError

from geopipe.errors import LabelError
from geopipe.regularfile import require_regular
from geopipe.validation import parse_json

SUFFIXES = (".parquet", ".geoparquet", ".pq")
_INDEX = "__index_level_"
"""What pandas calls a column for an index without a name."""


@dataclass(frozen=True)
class ParquetTable:
    """What a GeoParquet file says of itself."""

    path: Path
    columns: tuple[str, ...]
    """All but geometries and unnamed indexes; a named index is a column as any other."""
    geometry: str
    encoding: str
    crs: CRS | None
    about: str

    @classmethod
    def open(cls, path: Path) -> "ParquetTable":
        """Describe `path`; LabelError when it is no GeoParquet.

        The geometry is the primary column; of metadata that name none, or one that is not there,
        ``geometry``, else the first column that they describe.
        """
        require_regular(path, LabelError)
        try:
            schema = pyarrow.parquet.read_schema(path)
        except (ArrowException, OSError) as e:
            raise _unreadable(path, e) from e
        names = [str(n) for n in schema.names]
        about = _about(path, schema.metadata or {}, names)
        described = {k: v for k, v in about["columns"].items() if k in names}
        if not described:
            raise LabelError(
                f"{path} describes no geometry column that it has (columns {', '.join(names)})",
                "write it again, e.g. with geopandas' to_parquet()",
            )
        primary = about.get("primary_column")
        if primary not in described:
            primary = "geometry" if "geometry" in described else next(iter(described))
        one = described[primary] if isinstance(described[primary], dict) else {}
        columns = (n for n in names if n not in described and not n.startswith(_INDEX))
        return cls(
            path,
            tuple(columns),
            str(primary),
            str(one.get("encoding", "WKB")).upper(),
            _crs(path, one),
            str(about),
        )

    def read(self, columns: Sequence[str]) -> gpd.GeoDataFrame:
        """The `columns` and the geometries as column ``geometry``; the index counts the rows."""
        wanted = [c for c in dict.fromkeys(columns) if c in self.columns]
        try:
            table = pyarrow.parquet.read_table(self.path, columns=[*wanted, self.geometry])
            cells = table.select(wanted).to_pandas(ignore_metadata=True)
            if self.encoding == "WKB":
                shapes = shapely.from_wkb(table.column(self.geometry).to_numpy())
            else:  # Arrow's own points, lines and polygons
                frame = gpd.read_parquet(self.path, columns=[self.geometry])
                shapes = np.asarray(frame[self.geometry].array, object)
        except (ArrowException, OSError, ValueError, KeyError, shapely.errors.ShapelyError) as e:
            raise _unreadable(self.path, e) from e
        cells = cells.rename(columns={"geometry": "geometry_"})  # a plain column of that name
        return gpd.GeoDataFrame(cells, geometry=shapely.force_2d(shapes), crs=self.crs)


def _about(path: Path, metadata: dict[bytes, bytes], names: Sequence[str]) -> dict[str, Any]:
    """The metadata of GeoParquet, with ``columns`` that are a table."""
    if b"geo" not in metadata:
        raise LabelError(
            f"{path} is Parquet without geometries (columns {', '.join(names)})",
            "give GeoParquet 1.0 or newer",
        )
    source, hint = f"the metadata 'geo' of {path}", "give a GeoParquet file that is whole"
    about = parse_json(metadata[b"geo"], dict[str, Any], source, LabelError, hint)
    if not isinstance(about.get("columns"), dict):
        primary = about.get("primary_column", "geometry")
        about["columns"] = {primary: {}} if primary in names else {}
    return about


def _crs(path: Path, column: dict[str, Any]) -> CRS | None:
    """The standard: no entry means WGS84, null means that nobody knows."""
    crs = column.get("crs", "OGC:CRS84")
    try:
        return CRS.from_user_input(crs) if crs else None
    except CRSError as e:
        raise LabelError(
            f"{path} has a CRS that PROJ does not know: {' '.join(str(e).split())}",
            "set it, e.g. with geopandas' set_crs(..., allow_override=True)",
        ) from e


def _unreadable(path: Path, error: Exception) -> LabelError:
    return LabelError(
        f"cannot read {path}: {' '.join(str(error).split())}",
        "give a GeoParquet file that is whole",
    )
