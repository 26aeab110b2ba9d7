"""The files that a raster or a vector file depends on: sources, companions, journals."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from geopipe.errors import SceneError
from geopipe.raster.opening import opened
from geopipe.raster.remote import is_remote

_BESIDE_NAME = (".aux.xml", ".msk", ".ovr", ".msk.ovr", "-wal", "-journal", ".csvt")
"""Behind the whole name: GDAL's masks and notes, changes that SQLite has not merged yet."""
_BESIDE_STEM = (
    ".tfw",
    ".tifw",
    ".jgw",
    ".jpgw",
    ".pgw",
    ".pngw",
    ".bpw",
    ".wld",
    ".prj",
    ".qpj",
    ".tab",
    ".rpb",
    ".imd",
    ".csvt",
    ".xsd",
    ".gfs",
    ".aux",
    ".rrd",
    ".hdr",
)
"""In place of the suffix: world files, CRS, RPCs, schemas, statistics."""
_FAMILIES = (".shp", ".dbf", ".tab", ".mif", ".mid")
"""Formats of several files with one stem."""
_SOURCES = frozenset({"SrcDataSource", "SourceFilename", "SourceDataset"})
"""What a VRT of vectors or rasters calls its sources."""


def files_of(path: Path) -> list[Path]:
    """Every local file whose change changes what is read from `path`, itself first.

    Sources of VRTs are followed, of vectors and rasters alike, with what belongs to each. Files
    that are not there are left out, but for `path`.
    """
    result: dict[Path, None] = {path: None}
    waiting = [path]
    while waiting:
        one = waiting.pop()
        for other in (*_beside(one), *_sources(one), *_of_raster(one)):
            if other not in result:
                result[other] = None
                waiting.append(other)
    return list(result)


def _beside(path: Path) -> list[Path]:
    beside = [path.with_name(path.name + end) for end in _BESIDE_NAME]
    if path.suffix:
        beside += [path.with_suffix(e) for end in _BESIDE_STEM for e in (end, end.upper())]
    if path.suffix.lower() in _FAMILIES:
        beside += [p for p in path.parent.glob("*") if p.stem == path.stem]
    return [p for p in beside if p.is_file()]


def _sources(path: Path) -> Iterator[Path]:
    """Of a VRT, as its text names them."""
    if path.suffix.lower() not in (".vrt", ".ovf") or not path.is_file():
        return
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, OSError):  # whoever opens it says so
        return
    for element in root.iter():
        text = (element.text or "").strip()
        if element.tag in _SOURCES and text and not is_remote(text):
            relative = element.get("relativeToVRT", element.get("relativetoVRT", "0"))
            source = path.parent / text if relative.strip() in ("1", "true", "yes") else Path(text)
            if source.exists():
                yield source


def _of_raster(path: Path) -> Iterator[Path]:
    """What GDAL counts to a raster."""
    if path.suffix.lower() in (".gpkg", ".geojson", ".json", ".parquet", *_FAMILIES):
        return
    try:
        with opened(path) as src:
            yield from (Path(name) for name in src.files if Path(name).is_file())
    except SceneError:
        return
