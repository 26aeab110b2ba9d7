"""OpenStreetMap files: .osm, .osm.bz2, .osm.gz and .osm.pbf, read with pyosmium.

GDAL gives up on an extract with one broken multipolygon; here a broken feature is skipped, counted.
"""

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import osmium
import shapely
from osmium.filter import KeyFilter
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme, TagRule
from geopipe.errors import LabelError
from geopipe.labels.extent import LONLAT, Extent
from geopipe.labels.features import FeatureCollector, Features
from geopipe.labels.osmorder import Kind, SortedFile, osm_file, sorted_file
from geopipe.labels.tags import all_keys, matching, naming_keys
from geopipe.regularfile import require_regular

SUFFIXES = (".osm", ".osm.bz2", ".osm.gz", ".osm.pbf", ".pbf")

_BROKEN = "broken polygon (ring not closed, or nodes or ways missing in the file)"
_NO_LINE = "line with fewer than two nodes in the file"
_REASON_CHARS = 200
"""Of what pyosmium says, which may hold a cell of the file."""
_AREA_RELATIONS = ("multipolygon", "boundary")


def is_osm_file(path: Path) -> bool:
    """Whether the name says that pyosmium should read it."""
    return path.name.lower().endswith(SUFFIXES)


_READ_ERRORS = (LookupError, RuntimeError, ValueError, OverflowError, OSError, EOFError, zlib.error)


def read_osm_file(path: Path, scheme: ClassScheme, extent: Extent) -> Features:
    """The features of `path` that `scheme` wants and that are near the scene.

    Raises LabelError when the file is missing, damaged or not OSM. Memory: the coordinates of all
    nodes (about 16 bytes each) and the wanted features near the scene.
    """
    collector = FeatureCollector(scheme, LONLAT, extent.bounds_in(LONLAT))
    collect_osm_features(path, collector)
    return collector.finish()


def collect_osm_features(path: Path, collector: FeatureCollector) -> None:
    """Give `collector` what it wants of `path`; errors as above."""
    scheme = collector.scheme
    require_regular(path, LabelError)
    keys = naming_keys(scheme)
    if not keys:
        raise LabelError(f"no class of the scheme '{scheme.name}' has rules for OSM tags")
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    try:
        with tempfile.TemporaryDirectory(prefix="geopipe-osm-") as folder:
            _collect(sorted_file(path, Path(folder)), collector, keys)
    except (osmium.InvalidLocationError, *_READ_ERRORS) as e:
        reason = shorten(str(e), _REASON_CHARS)
        raise LabelError(
            f"cannot read {path} as OSM data: {reason}",
            "the file is damaged or cut short; get it again",
        ) from e


def _collect(source: SortedFile, collector: FeatureCollector, keys: tuple[str, ...]) -> None:
    # The filters run in C++: Python sees only what has one of the keys.
    processor = osmium.FileProcessor(osm_file(source.path)).with_areas(KeyFilter(*keys))
    keys_filter = all_keys(collector.scheme)
    areas = _Areas()
    element: Any  # a union in the stubs, which is_area() and its like do not narrow
    for element in processor.with_filter(KeyFilter(*keys)):
        tags = {k: v for k in keys_filter if (v := element.tags.get(k)) is not None}
        matches = list(matching(collector.scheme, tags))
        if not matches:
            if element.is_way() or (element.is_relation() and _makes_area(element)):
                collector.count_unwanted(tags)
            continue
        polygons = [m for m in matches if m[1].geometry == "polygon"]
        lines = [m for m in matches if m[1].geometry == "line"]
        if element.is_area():
            if polygons and (shape := areas.built(element)) is not None:
                kind: Kind = "way" if element.from_way() else "relation"
                about = _metadata(source.name(kind, element.orig_id()), element)
                collector.add_matches(shape, polygons, tags, about)
        elif element.is_way():
            closed = element.is_closed() and len(element.nodes) > 1
            if polygons and closed:
                areas.expect(2 * element.id)
            if lines or not closed:
                about = _metadata(source.name("way", element.id), element)
                _add_way(collector, element, matches if not closed else lines, tags, about)
        elif element.is_node():
            collector.add_matches(shapely.Point(0, 0), matches, tags)  # counted as a point
        elif polygons and _makes_area(element):
            areas.expect(2 * element.id + 1)
    if areas.missing():
        collector.skipped[_BROKEN] += areas.missing()


class _Areas:
    """Keeps account of the polygons that must come and of those that came."""

    def __init__(self) -> None:
        self._expected: set[int] = set()
        self._completed_early: set[int] = set()
        self._failed = 0
        self._wkb = osmium.geom.WKBFactory()

    def expect(self, area_id: int) -> None:
        """The closed way or the relation was seen."""
        if area_id in self._completed_early:
            self._completed_early.remove(area_id)
        else:
            self._expected.add(area_id)

    def built(self, area: Any) -> BaseGeometry | None:
        """The polygon of an assembled area; None (and counted) when its rings are broken."""
        area_id = 2 * area.orig_id() + (not area.from_way())
        if area_id in self._expected:
            self._expected.remove(area_id)
        else:
            # A relation's area is ready with its last way, before the relation itself comes by.
            self._completed_early.add(area_id)
        try:
            return shapely.from_wkb(self._wkb.create_multipolygon(area))
        except (RuntimeError, shapely.errors.ShapelyError):
            self._failed += 1
            return None

    def missing(self) -> int:
        """How many never came or came broken."""
        return len(self._expected) + self._failed


def _add_way(
    collector: FeatureCollector,
    way: Any,
    matches: list[tuple[int, TagRule]],
    tags: dict[str, str],
    about: dict[str, str],
) -> None:
    """Take a way as a line; of one that leaves the extract, what the extract has."""
    segments = list(_way_segments(way))
    if not segments:
        collector.skipped[_NO_LINE] += 1
        return
    shape = (
        shapely.LineString(segments[0]) if len(segments) == 1 else shapely.MultiLineString(segments)
    )
    collector.add_matches(shape, matches, tags, about)


def _makes_area(relation: Any) -> bool:
    return relation.tags.get("type") in _AREA_RELATIONS


def _metadata(name: str, element: Any) -> dict[str, str]:
    """Id and time of the last change; extracts without metadata say 1970."""
    changed = element.timestamp
    return {"osm_id": name} | ({"timestamp": changed.isoformat()} if changed.year > 1970 else {})


def _way_segments(way: Any) -> Iterator[np.ndarray]:
    """Coordinates (n, 2) of each stretch of two or more nodes that have a location."""
    run: list[tuple[float, float]] = []
    for node in way.nodes:
        if node.location.valid():
            run.append((node.lon, node.lat))
        else:
            if len(run) > 1:
                yield np.array(run)
            run = []
    if len(run) > 1:
        yield np.array(run)
