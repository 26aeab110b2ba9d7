"""The attributes of each chip of an index, as rows of GeoParquet."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe.errors import ChipIndexError
from geopipe.grid import Window
from geopipe.grid.crs import transformer

_DAMAGED = "build the index again"


@dataclass(frozen=True, slots=True)
class ChipRow:
    """Where a chip is from."""

    source: str
    """Absolute path of its file or scene."""
    stamp: str
    """Size and time of change of that file when it was read."""
    class_name: str
    """"" where none is known."""
    digest: str
    """Of its pixels: equal chips are equal here."""
    row: int
    """Its window in the source."""
    col: int
    height: int
    width: int
    crs: str = ""
    """"" where the source has no place on Earth."""
    affine: tuple[float, ...] | None = None
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


def read_rows(path: Path, indices: Sequence[int] | None = None) -> list[ChipRow]:
    """The rows of a part, or those at these positions in it."""
    table = read_columns(path, _COLUMNS)
    if indices is not None:
        table = table.take(pa.array(indices, pa.int64()))
    records = table.to_pylist()
    for r in records:
        r["affine"] = tuple(r["affine"]) if r["affine"] is not None else None
    return [ChipRow(**r) for r in records]


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a part; ChipIndexError where the file cannot be read or lacks one."""
    try:
        return pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException, KeyError) as e:
        error_text = " ".join(str(e).split())[:200]
        raise ChipIndexError(f"cannot read {path}: {error_text}", _DAMAGED) from e
