"""Buildings and roads of Overture Maps: the GeoParquet files of a release, read in place.

Of a file of gigabytes the row groups whose ``bbox`` statistics meet the scene are read, by HTTP
ranges. Schema and catalog: https://docs.overturemaps.org
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import geopandas as gpd
import pyarrow.parquet as pq
import shapely
from pyarrow import ArrowException, Table
from shapely import ops

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError, ServiceError
from geopipe.labels.extent import LONLAT, Bounds
from geopipe.labels.tags import naming_keys
from geopipe.labels.vectorfile import OSM_CREDIT
from geopipe.progress import progress
from geopipe.web import Client

CATALOG = "https://stac.overturemaps.org"
"""Overture's STAC catalog, which names the releases and their files."""
OVERTURE_CREDIT = "Overture Maps Foundation"
LAYERS = {"building": "building", "highway": "segment"}
"""Key of OSM -> type of Overture; the keys are the columns of what is read."""
_COLUMNS = {
    "building": ("id", "geometry", "bbox", "sources", "subtype", "class", "is_underground"),
    "segment": (
        "id", "geometry", "bbox", "sources", "subtype", "class", "subclass", "road_flags",
        "width_rules",
    ),
}  # fmt: skip
_HIDDEN = {"is_tunnel": "tunnel", "is_covered": "covered", "is_indoor": "covered"}
"""Flags of roads that are not seen from above -> tag of OSM."""
_GONE = {"is_under_construction", "is_abandoned"}
_TAIL = 1 << 16
"""Bytes at the end of a file that are asked for first; most footers are no larger."""


def read_overture(
    geobox_bounds: Bounds, scheme: ClassScheme, release: str | None, client: Client | None = None
) -> tuple[dict[str, gpd.GeoDataFrame], str]:
    """The features within bounds in degrees that `scheme` may want, and the credit they ask for.

    Columns have the names of OSM's tags (``building``, ``highway``, ``tunnel``, ``width``...);
    ``source_id`` is Overture's id, ``timestamp`` the newest ``update_time`` of a feature's
    ``sources``, which are kept as JSON.

    Args:
        geobox_bounds: West, south, east, north.
        scheme: Classes with rules for ``building`` or ``highway``.
        release: Such as ``2026-10-21.0``; None: the latest.
        client: Asks the service.

    Raises:
        LabelError: No class of `scheme` can come from Overture, or nothing lies there.
        ServiceError: The catalog or a file cannot be read.
    """
    wanted = [key for key in LAYERS if key in naming_keys(scheme)]
    if not wanted:
        raise LabelError(
            f"no class of the scheme '{scheme.name}' has a rule for {' or '.join(LAYERS)}",
            "choose another source of labels",
        )
    client = client or Client()
    catalog = _json(client, f"{CATALOG}/catalog.json")
    release = release or str(catalog.get("latest") or "")
    files = _files(client, release, catalog)
    frames: dict[str, gpd.GeoDataFrame] = {}
    datasets: dict[str, None] = {}
    for key in wanted:
        rows: list[dict[str, Any]] = []
        addresses = [
            href for kind, box, href in files if kind == LAYERS[key] and _meet(box, geobox_bounds)
        ]
        with progress(f"Overture {LAYERS[key]}s", len(addresses)) as advance:
            for address in addresses:
                for row in _features(client, address, LAYERS[key], geobox_bounds):
                    rows += _building(row) if key == "building" else _roads(row)
                    datasets |= dict.fromkeys(_datasets(row))
                advance()
        if rows:
            shapes = [row.pop("geometry") for row in rows]
            frames[key] = gpd.GeoDataFrame(rows, geometry=shapes, crs=LONLAT)
    if not frames:
        west, south, east, north = geobox_bounds
        raise LabelError(
            f"Overture {release} has no {' or '.join(wanted)} in lon {west} to {east}, lat {south} "
            f"to {north}",
            "give another label file, or check where the scene lies",
        )
    return frames, _credit(release, datasets)


def _credit(release: str, datasets: Sequence[str] | dict[str, None]) -> str:
    """OSM's own credit, Overture's, and the names and licences of other data sets."""
    others = [d for d in datasets if not d.startswith("OpenStreetMap")]
    osm = [OSM_CREDIT] if len(others) < len(datasets) or not datasets else []
    return "; ".join([*osm, f"{OVERTURE_CREDIT}, release {release}", *others])


def _json(client: Client, address: str) -> dict[str, Any]:
    answer = client.get(address)
    try:
        tables = json.loads(answer.content)
    except ValueError:
        tables = None
    if not isinstance(tables, dict):
        raise ServiceError(f"{answer.address} answers {answer.kind} that is no STAC catalog")
    return tables


def _files(client: Client, release: str, catalog: dict[str, Any]) -> list[tuple[str, Bounds, str]]:
    """Type, bounds in degrees and address of each file of a release."""
    children = (
        urlsplit(str(link.get("href", ""))).path.split("/")
        for link in catalog.get("links", [])
        if link.get("rel") == "child"
    )
    known = [parts[-2] for parts in children if len(parts) > 1 and parts[-1] == "catalog.json"]
    if not release or (known and release not in known):
        raise ServiceError(
            f"Overture has no release {release}", f"it has {', '.join(sorted(known)[::-1][:6])}"
        )
    answer = client.get(f"{CATALOG}/{release}/collections.parquet")
    try:
        table = pq.read_table(io.BytesIO(answer.content), columns=["collection", "bbox", "assets"])
        files = []
        for row in table.to_pylist():
            if row["bbox"] and (row["assets"] or {}).get("aws"):
                west, south, east, north = (
                    float(row["bbox"][k]) for k in ("xmin", "ymin", "xmax", "ymax")
                )
                href = str(row["assets"]["aws"]["href"])
                files.append((str(row["collection"]), (west, south, east, north), href))
        return files
    except (ArrowException, KeyError, TypeError, ValueError) as e:
        raise ServiceError(f"{answer.address} does not list the files of a release: {e}") from e


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] <= b[2] and a[2] >= b[0] and a[1] <= b[3] and a[3] >= b[1]


def _features(client: Client, address: str, kind: str, bounds: Bounds) -> Iterator[dict[str, Any]]:
    """The rows of a file whose ``bbox`` meets `bounds`."""
    try:
        with pq.ParquetFile(RangeFile(client, address), pre_buffer=True) as file:
            names = [c for c in _COLUMNS[kind] if c in file.schema_arrow.names]
            missing = {"id", "geometry", "bbox"} - set(names)
            if missing:
                raise ServiceError(f"{address} has no column {', '.join(sorted(missing))}")
            for group in meeting_groups(file.metadata, bounds):
                table: Table = file.read_row_group(group, columns=names)
                for row in table.to_pylist():
                    box = row["bbox"]
                    if box and _meet([box[k] for k in ("xmin", "ymin", "xmax", "ymax")], bounds):
                        yield row
    except (ArrowException, OSError, KeyError, shapely.errors.ShapelyError) as e:
        if isinstance(e, ServiceError):
            raise
        raise ServiceError(
            f"cannot read {address}: {' '.join(str(e).split())}", "is it GeoParquet of Overture's?"
        ) from e


def meeting_groups(metadata: pq.FileMetaData, bounds: Bounds) -> list[int]:
    """Numbers of the row groups that may hold features within `bounds`, by their statistics."""
    groups = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        limits: dict[str, tuple[float, float]] = {}
        for k in range(group.num_columns):
            column = group.column(k)
            stats = column.statistics
            if column.path_in_schema.startswith("bbox.") and stats and stats.has_min_max:
                limits[column.path_in_schema[5:]] = (stats.min, stats.max)
        if len(limits) < 4 or _meet(
            (limits["xmin"][0], limits["ymin"][0], limits["xmax"][1], limits["ymax"][1]), bounds
        ):
            groups.append(number)
    return groups


@dataclass
class RangeFile(io.RawIOBase):
    """A file behind HTTP, read by ranges; knows its end, where Parquet has its footer."""

    client: Client
    address: str

    def __post_init__(self) -> None:
        self._position = 0
        answer, size = self._range(f"bytes=-{_TAIL}")
        self._size, self._tail = size, answer

    def _range(self, span: str) -> tuple[bytes, int]:
        answer = self.client.get(self.address, headers={"Range": span})
        total = answer.range_of.rpartition("/")[2]
        if answer.status != 206 or not total.isdigit():
            raise ServiceError(
                f"{answer.address} cannot be read in parts (HTTP {answer.status})",
                "give a server that knows ranges",
            )
        return answer.content, int(total)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on at another place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all that are left."""
        start = self._position
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        if stop <= start:
            return b""
        tail = self._size - len(self._tail)
        if start >= tail:
            data = self._tail[start - tail : stop - tail]
        else:
            data, _ = self._range(f"bytes={start}-{stop - 1}")
        if len(data) != stop - start:
            raise ServiceError(f"{self.address} answers {len(data)} of {stop - start} bytes")
        self._position = stop
        return data

    def readinto(self, buffer: Any) -> int:
        """As of RawIOBase."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _building(row: dict[str, Any]) -> list[dict[str, Any]]:
    hidden = {"location": "underground"} if row.get("is_underground") else {}
    name = row.get("class") or row.get("subtype") or "yes"
    return [{**_about(row), "building": name, "location": None, **hidden, "geometry": _shape(row)}]


def _roads(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A road, cut where it begins or ends to be hidden; nothing of rails and ferries."""
    if row.get("subtype") not in (None, "road"):
        return []
    name, flags = str(row.get("class") or "unknown"), row.get("road_flags") or []
    spans: list[tuple[float, float, str | None]] = []
    link = row.get("subclass") == "link"
    for flag in flags:
        values = set(flag.get("values") or ())
        start, stop = flag.get("between") or (0.0, 1.0)
        if values & _GONE and (start, stop) == (0.0, 1.0):
            return []
        link = link or "is_link" in values
        spans += [(start, stop, tag) for value, tag in _HIDDEN.items() if value in values]
    widths = [r.get("value") for r in row.get("width_rules") or [] if r.get("value")]
    road = {
        **_about(row),
        "highway": f"{name}_link" if link else name,
        "width": str(max(widths)) if widths else None,
        "tunnel": None,
        "covered": None,
    }
    line = _shape(row)
    edges = sorted({0.0, 1.0, *(x for start, stop, _ in spans for x in (start, stop))})
    rows = []
    for start, stop in pairwise(edges):
        middle = (start + stop) / 2
        tags = {tag: "yes" for a, b, tag in spans if tag and a <= middle <= b}
        part = line if len(edges) == 2 else ops.substring(line, start, stop, normalized=True)
        rows.append({**road, **tags, "geometry": part})
    return rows


def _shape(row: dict[str, Any]) -> Any:
    return shapely.force_2d(shapely.from_wkb(row["geometry"]))


def _about(row: dict[str, Any]) -> dict[str, Any]:
    """Id, age and sources of a feature."""
    sources = [s for s in row.get("sources") or [] if s]
    dates = [d for s in sources if (d := _instant(s.get("update_time")))]
    kept = [
        {k: v for k, v in s.items() if v is not None and k in _KEPT_OF_SOURCES} for s in sources
    ]
    return {
        "source_id": row["id"],
        "timestamp": max(dates) if dates else None,
        "sources": json.dumps(kept, default=str),
    }


_KEPT_OF_SOURCES = ("dataset", "record_id", "license", "update_time", "confidence")


def _instant(value: Any) -> str | None:
    """A time as ISO 8601 in UTC."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if not isinstance(value, datetime):
            return None
    except ValueError:
        return None
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat()


def _datasets(row: dict[str, Any]) -> Iterator[str]:
    for source in row.get("sources") or []:
        name = (source or {}).get("dataset")
        if name:
            terms = source.get("license")
            yield f"{name} ({terms})" if terms else str(name)
