"""The attributes of each chip of an index, as rows of GeoParquet."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import ConfigDict, Field, StringConstraints
from pyproj import CRS

from geopipe.errors import ChipIndexError
from geopipe.grid import Window
from geopipe.grid.crs import transformer
from geopipe.retrieve.header import Finite6
from geopipe.validation import STORED, Count, Side, Text, open_regular, validated

_DAMAGED = "build the index again"
_MOST_ROW = 1 << 16
"""Bytes of a row before compression: a path, and a CRS as text."""


@dataclass(frozen=True, slots=True)
class ChipRow:
    """Where a chip is from."""

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    source: Text
    """Absolute path of its file or scene."""
    stamp: Text
    """Size and time of change of that file when it was read."""
    class_name: Text
    """"" where none is known."""
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """Of its pixels: equal chips are equal here."""
    row: Count
    """Its window in the source."""
    col: Count
    height: Side
    width: Side
    crs: Annotated[str, Field(max_length=1 << 16)] = ""
    """"" where the source has no place on Earth."""
    affine: Finite6 | None = None
    """(a, b, c, d, e, f) of its pixels."""

    @property
    def window(self) -> Window:
        """Its pixels in the source."""
        return Window(self.row, self.col, self.height, self.width)

    @property
    def geobox(self) -> GeoBox | None:
        """Its pixel plane; None without a place."""
        if not self.crs or self.affine is None:
            return None
        return GeoBox((self.height, self.width), Affine(*self.affine), self.crs)

    @property
    def key(self) -> str:
        """Equal where the same pixels of the same file were read."""
        return f"{self.source}|{self.stamp}|{self.row},{self.col},{self.height},{self.width}"

    @property
    def corners(self) -> np.ndarray:
        """(4, 2) float64: x and y of its corners in its CRS; NaN without a place."""
        if self.affine is None:
            return np.full((4, 2), np.nan)
        pixel_corners = [(0, 0), (self.width, 0), (self.width, self.height), (0, self.height)]
        return np.array([Affine(*self.affine) * p for p in pixel_corners])


def crs_name(crs: CRS) -> str:
    """``EPSG:N`` where it is one, else as WKT."""
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())


_COLUMNS = tuple(f.name for f in fields(ChipRow))
_TYPES = {
    **dict.fromkeys(("source", "stamp", "class_name", "digest", "crs"), pa.string()),
    **dict.fromkeys(("row", "col", "height", "width"), pa.int64()),
    "affine": pa.list_(pa.float64()),
}


def write_rows(path: Path, first: int, rows: Sequence[ChipRow]) -> None:
    """Write `path`, GeoParquet: the rows, their `id` from `first` on, footprints in lon/lat."""
    table = {"id": np.arange(first, first + len(rows), dtype=np.int64)}
    for name in _COLUMNS:
        table[name] = [getattr(r, name) for r in rows]  # type: ignore[assignment]
    table["affine"] = [list(r.affine) if r.affine else None for r in rows]  # type: ignore[assignment]
    frame = gpd.GeoDataFrame(table, geometry=_footprints(rows), crs="OGC:CRS84")
    frame.to_parquet(path, index=False, compression="zstd")


def _footprints(rows: Sequence[ChipRow]) -> np.ndarray:
    """(n,) polygons in lon/lat, None without a place."""
    out = np.full(len(rows), None, object)
    for crs in sorted({r.crs for r in rows} - {""}):
        row_indices = [i for i, r in enumerate(rows) if r.crs == crs]
        corners = np.stack([rows[i].corners for i in row_indices])
        to_lonlat = transformer(crs, "OGC:CRS84")
        lon, lat = to_lonlat.transform(corners[..., 0], corners[..., 1])
        is_finite = np.isfinite(lon).all(1) & np.isfinite(lat).all(1)
        shapes = shapely.polygons(np.stack([lon, lat], -1)[is_finite])
        out[np.array(row_indices)[is_finite]] = shapes
    return out


def read_rows(path: Path, count: int, indices: Sequence[int] | None = None) -> list[ChipRow]:
    """The rows of a part that has `count`, or those at these positions in it."""
    table = read_columns(path, count, _COLUMNS)
    if indices is not None:
        table = table.take(pa.array(indices, pa.int64()))
    try:
        records = table.to_pylist()
    except UnicodeDecodeError as e:
        raise ChipIndexError(f"{path} is damaged: its text is no UTF-8", _DAMAGED) from e
    for r in records:
        r["affine"] = tuple(r["affine"]) if r["affine"] is not None else None
    return validated(records, list[ChipRow], str(path), ChipIndexError, _DAMAGED)


def read_columns(path: Path, count: int, columns: Sequence[str]) -> pa.Table:
    """Columns of a part; ChipIndexError where it cannot be read, lacks one or has other rows."""
    try:
        with open_regular(path, ChipIndexError) as (file, _), pq.ParquetFile(file) as part:
            groups = [part.metadata.row_group(i) for i in range(part.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
            if part.metadata.num_rows != count or unpacked > count * _MOST_ROW + (1 << 20):
                raise ChipIndexError(
                    f"{path} has {part.metadata.num_rows} rows of {unpacked} bytes, not {count}",
                    _DAMAGED,
                )
            read = part.read(list(columns))
        table = pa.table({name: read[name].cast(_TYPES[name]) for name in columns})
        for name in columns:
            if table[name].null_count and name != "affine":
                raise ChipIndexError(f"{path} is damaged: {name}: empty cells", _DAMAGED)
        if (
            "digest" in columns
            and not pc.all(
                pc.match_substring_regex(table["digest"], "^[0-9a-f]{32}$"), min_count=0
            ).as_py()
        ):
            raise ChipIndexError(f"{path} is damaged: digest: not 32 hexadecimal digits", _DAMAGED)
        return table
    except (OSError, pa.ArrowException, KeyError, ValueError, UnicodeDecodeError) as e:
        if isinstance(e, ChipIndexError):
            raise
        error_text = " ".join(str(e).split())[:200]
        raise ChipIndexError(f"cannot read {path}: {error_text}", _DAMAGED) from e
