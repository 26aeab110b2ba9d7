"""OpenStreetMap files: .osm, .osm.bz2, .osm.gz and .osm.pbf, read with pyosmium.

GDAL gives up on an extract with one broken multipolygon; here a broken feature is skipped, counted.
"""

from collections.abc import Iterator
from pathlib import Path
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
from geopipe.labels.tags import all_keys, matching, naming_keys

SUFFIXES = (".osm", ".osm.bz2", ".osm.gz", ".osm.pbf", ".pbf")

_BROKEN = "broken polygon (ring not closed, or nodes or ways missing in the file)"
_NO_LINE = "line with fewer than two nodes in the file"
_AREA_RELATIONS = ("multipolygon", "boundary")


def is_osm_file(path: Path) -> bool:
    """Whether the name says that pyosmium should read it."""
    return path.name.lower().endswith(SUFFIXES)


def read_osm_file(path: Path, scheme: ClassScheme, place: Extent) -> Features:
    """The features of `path` that `scheme` wants and that are near the scene.

    Raises LabelError when the file is missing, damaged or not OSM. Memory: the coordinates of all
    nodes (about 16 bytes each) and the wanted features near the scene.
    """
    gathering = FeatureCollector(scheme, LONLAT, place.bounds_in(LONLAT))
    gather_osm_file(path, gathering)
    return gathering.finish()


def gather_osm_file(path: Path, gathering: FeatureCollector) -> None:
    """Give `gathering` what it wants of `path`; errors as above."""
    scheme = gathering.scheme
    keys = naming_keys(scheme)
    if not keys:
        raise LabelError(f"no class of the scheme '{scheme.name}' has rules for OSM tags")
    try:
        _gather(path, gathering, keys)
    except (RuntimeError, OSError) as e:
        raise LabelError(
            f"cannot read {path} as OSM data: {e}", "the file is damaged or cut short; get it again"
        ) from e


def _gather(path: Path, gathering: FeatureCollector, keys: tuple[str, ...]) -> None:
    # The filters run in C++: Python sees only what has one of the keys.
    processor = osmium.FileProcessor(str(path)).with_areas(KeyFilter(*keys))
    wanted = all_keys(gathering.scheme)
    areas = _Areas()
    thing: Any  # a union in the stubs, which is_area() and its like do not narrow
    for thing in processor.with_filter(KeyFilter(*keys)):
        tags = {k: v for k in wanted if (v := thing.tags.get(k)) is not None}
        matches = list(matching(gathering.scheme, tags))
        if not matches:
            continue
        polygons = [m for m in matches if m[1].geometry == "polygon"]
        lines = [m for m in matches if m[1].geometry == "line"]
        if thing.is_area():
            if polygons and (shape := areas.built(thing)) is not None:
                kind = "way" if thing.from_way() else "relation"
                about = _about(f"{kind}/{thing.orig_id()}", thing)
                gathering.add_matches(shape, polygons, tags, about)
        elif thing.is_way():
            closed = thing.is_closed() and len(thing.nodes) > 1
            if polygons and closed:
                areas.expect(2 * thing.id)
            if lines or not closed:
                _add_way(gathering, thing, matches if not closed else lines, tags)
        elif thing.is_node():
            gathering.add_matches(shapely.Point(0, 0), matches, tags)  # counted as a point
        elif polygons and thing.tags.get("type") in _AREA_RELATIONS:
            areas.expect(2 * thing.id + 1)
    if areas.missing():
        gathering.skipped[_BROKEN] += areas.missing()


class _Areas:
    """Keeps account of the polygons that must come and of those that came."""

    def __init__(self) -> None:
        self._due: set[int] = set()
        self._early: set[int] = set()
        self._failed = 0
        self._wkb = osmium.geom.WKBFactory()

    def expect(self, area_id: int) -> None:
        """The closed way or the relation was seen."""
        if area_id in self._early:
            self._early.remove(area_id)
        else:
            self._due.add(area_id)

    def built(self, area: Any) -> BaseGeometry | None:
        """The polygon of an assembled area; None (and counted) when its rings are broken."""
        area_id = 2 * area.orig_id() + (not area.from_way())
        if area_id in self._due:
            self._due.remove(area_id)
        else:
            # A relation's area is ready with its last way, before the relation itself comes by.
            self._early.add(area_id)
        try:
            return shapely.from_wkb(self._wkb.create_multipolygon(area))
        except (RuntimeError, shapely.errors.ShapelyError):
            self._failed += 1
            return None

    def missing(self) -> int:
        """How many never came or came broken."""
        return len(self._due) + self._failed


def _add_way(
    gathering: FeatureCollector, way: Any, matches: list[tuple[int, TagRule]], tags: dict[str, str]
) -> None:
    """Take a way as a line; of one that leaves the extract, what the extract has."""
    runs = list(_runs(way))
    if not runs:
        gathering.skipped[_NO_LINE] += 1
        return
    shape = shapely.LineString(runs[0]) if len(runs) == 1 else shapely.MultiLineString(runs)
    gathering.add_matches(shape, matches, tags, _about(f"way/{way.id}", way))


def _about(name: str, thing: Any) -> dict[str, str]:
    """Id and time of the last change; extracts without metadata say 1970."""
    changed = thing.timestamp
    return {"osm_id": name} | ({"timestamp": changed.isoformat()} if changed.year > 1970 else {})


def _runs(way: Any) -> Iterator[np.ndarray]:
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
