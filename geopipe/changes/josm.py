"""Write what changed as OSM data for JOSM: new objects, and existing ones with a note each.

https://wiki.openstreetmap.org/wiki/JOSM_file_format
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely
from pyproj import CRS

from geopipe import __version__
from geopipe.changes.compare import Changes
from geopipe.changes.matching import AGREE, ONLY_MAP, ONLY_OSM, UNSURE
from geopipe.errors import OutputError
from geopipe.files import check_new_file
from geopipe.labels.extent import LONLAT, reproject
from geopipe.labels.osmfile import is_osm_file
from geopipe.labels.osmorder import osm_file

NEW_TAGS = {"buildings": {"building": "yes"}, "roads": {"highway": "road"}}
"""Of new objects; ``highway=road`` is a road of unknown kind."""
_KINDS = ("node", "way", "relation")
_VERSION = 1
"""Of an object whose version the reference does not tell; JOSM wants one."""


def check_josm_target(path: Path, *, overwrite: bool, sources: Iterable[Path]) -> None:
    """OutputError where `path` is no name for a new OSM file."""
    if path.suffix.lower() != ".osm":
        raise OutputError(f"{path} would be OSM data", "give it a name that ends in .osm")
    check_new_file(path, overwrite=overwrite, sources=sources)


def josm_document(changes: Changes, reference: Path | None = None) -> bytes:
    """OSM XML of the changes, which JOSM shows and refuses to upload (``upload="never"``).

    What is only in the image has negative ids and lies where it fits the reference: moved back by
    the shift that was found, as a mapper sets the offset of the imagery. Objects that exist and do
    not agree keep their ids: complete with nodes, tags and versions where `reference` is an OSM
    file, else with their outline, the ids that the file names and version 1. Every object is
    tagged as made by a machine: ``source``, ``geopipe:status``, ``geopipe:probability``. The ids
    of a reference that is not OSM's, such as another map, mean nothing there: its objects are left
    out. Nothing has an ``action``, so nothing counts as edited.
    """
    is_osm = changes.only_reference == ONLY_OSM
    document = _Document(_lowest_id(changes, reference) if is_osm else 0)
    remarks: dict[tuple[str, int], dict[str, str]] = {}
    for layer, table in changes.tables.items():
        lonlat = _in_reference_frame(table, changes)
        for row, shape in zip(table.itertuples(index=False), lonlat, strict=True):
            if row.status in (AGREE, UNSURE):
                continue
            tags = _machine_tags(row)
            if row.status == ONLY_MAP:
                document.add_shape(shape, {**NEW_TAGS[layer], **tags})
                continue
            if not is_osm:
                continue
            for name in str(row.reference_id).split(";"):
                if key := _osm_key(name):
                    remarks[key] = _graver(remarks.get(key), tags)
                    document.outlines.setdefault(key, (shape, NEW_TAGS[layer]))
    if reference is not None and is_osm_file(reference):
        _copy_existing(document, reference, remarks)
    else:
        for key, tags in remarks.items():
            shape, own = document.outlines[key]
            document.add_shape(shape, {**own, **tags}, key)
    return document.to_bytes()


def _machine_tags(row: Any) -> dict[str, str]:
    tags = {
        "source": f"geopipe {__version__}, made by a machine from an image; check before use",
        "geopipe:status": str(row.status),
    }
    if row.probability == row.probability:
        tags["geopipe:probability"] = f"{row.probability:.2f}"
    if row.distance_m == row.distance_m:
        tags["geopipe:distance_m"] = f"{row.distance_m:.1f}"
    return tags


def _graver(known: dict[str, str] | None, tags: dict[str, str]) -> dict[str, str]:
    """The remark to keep where several stretches of one way have one each: the farthest off."""
    if known is None:
        return tags
    a, b = (float(t.get("geopipe:distance_m", "inf")) for t in (known, tags))
    return tags if b > a else known


def _in_reference_frame(table: Any, changes: Changes) -> np.ndarray:
    """Degrees (n,), without the shift that was added to the reference."""
    crs = CRS.from_user_input(table.crs)
    shapes = reproject(np.asarray(table.geometry.array, object), crs, changes.plane.crs)
    shifts = table[["shift_east", "shift_north"]].to_numpy(float)
    shifts = _filled(shapes, shifts)
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    back = shapely.set_coordinates(shapes.copy(), xy - shifts[owner])
    return reproject(back, changes.plane.crs, LONLAT)


def _filled(shapes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """`shifts` (n, 2) with those of objects that have none from the nearest that has one."""
    known = np.isfinite(shifts).all(axis=1)
    if not known.any():
        return np.zeros_like(shifts)
    result = shifts.copy()
    unknown = np.flatnonzero(~known)
    if len(unknown):
        centres = shapely.centroid(shapes)
        _, nearest = shapely.STRtree(centres[known]).query_nearest(
            centres[unknown], all_matches=False
        )
        result[unknown] = shifts[known][nearest]
    return result


def _osm_key(name: str) -> tuple[str, int] | None:
    kind, _, number = name.rpartition("/")
    try:
        key = (kind or "way", int(number))
    except ValueError:
        return None
    return key if key[0] in _KINDS and key[1] else None


def _lowest_id(changes: Changes, reference: Path | None) -> int:
    """The lowest id of an existing object; 0 unless some are new in JOSM."""
    names = (str(n) for table in changes.tables.values() for n in table["reference_id"])
    keys = (_osm_key(name) for several in names for name in several.split(";"))
    lowest = min((key[1] for key in keys if key), default=0)
    if reference is not None and is_osm_file(reference):
        lowest = min((thing.id for thing in _objects(reference, osmium.osm.ALL)), default=lowest)
    return min(lowest, 0)


@dataclass(eq=False)
class _Document:
    """OSM XML in the making."""

    lowest: int
    """The lowest id so far."""
    elements: dict[str, list[ET.Element]] = field(
        default_factory=lambda: {kind: [] for kind in _KINDS}
    )
    outlines: dict[tuple[str, int], tuple[Any, dict[str, str]]] = field(default_factory=dict)

    def new_id(self) -> int:
        """A number that no object has; negative, as JOSM numbers what is not uploaded."""
        self.lowest -= 1
        return self.lowest

    def add_shape(
        self, shape: Any, tags: dict[str, str], key: tuple[str, int] | None = None
    ) -> None:
        """A polygon or line in degrees, as a way, or as a multipolygon where it has holes."""
        if shape.geom_type == "Polygon" and (shape.interiors or (key and key[0] == "relation")):
            rings = [(shape.exterior, "outer"), *((r, "inner") for r in shape.interiors)]
            members = [(self._way(ring.coords, {}), role) for ring, role in rings]
            relation = self._element("relation", key)
            for ref, role in members:
                ET.SubElement(relation, "member", type="way", ref=str(ref), role=role)
            _tag(relation, {"type": "multipolygon", **tags})
            return
        line = shape.exterior if shape.geom_type == "Polygon" else shape
        self._way(line.coords, tags, key if key and key[0] == "way" else None)

    def _way(self, xy: Any, tags: dict[str, str], key: tuple[str, int] | None = None) -> int:
        points = [(x, y) for x, y, *_ in xy]
        closed = points[0] == points[-1]
        refs = []
        for lon, lat in points[: -1 if closed else None]:
            node = self._element("node", None)
            node.set("lat", f"{lat:.7f}")
            node.set("lon", f"{lon:.7f}")
            refs.append(node.get("id", ""))
        way = self._element("way", key)
        for ref in [*refs, refs[0]] if closed else refs:
            ET.SubElement(way, "nd", ref=ref)
        _tag(way, tags)
        return int(way.get("id", "0"))

    def _element(self, kind: str, key: tuple[str, int] | None) -> ET.Element:
        number = key[1] if key else self.new_id()
        element = ET.Element(kind, id=str(number), visible="true")
        if number > 0:
            element.set("version", str(_VERSION))
        self.elements[kind].append(element)
        return element

    def to_bytes(self) -> bytes:
        """The document; nodes before ways before relations."""
        root = ET.Element("osm", version="0.6", generator=f"geopipe {__version__}", upload="never")
        for kind in _KINDS:
            root.extend(self.elements[kind])
        ET.indent(root)
        text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        return text + b"\n"


def _tag(element: ET.Element, tags: dict[str, str]) -> None:
    for k, v in tags.items():
        ET.SubElement(element, "tag", k=k, v=v[:255])


def _copy_existing(
    document: _Document, reference: Path, remarks: dict[tuple[str, int], dict[str, str]]
) -> None:
    """The objects of `remarks` as the OSM file has them, with what they refer to.

    One that refers to what the file does not hold (Overpass can give coordinates without nodes)
    is drawn by its outline.
    """
    ways = {k[1] for k in remarks if k[0] == "way"}
    relations = {k[1] for k in remarks if k[0] == "relation"}
    members: dict[int, set[int]] = {}
    for relation in _objects(reference, osmium.osm.RELATION):
        if relation.id in relations:
            members[relation.id] = {m.ref for m in relation.members if m.type == "w"}
    wanted = ways.union(*members.values())
    nodes = {
        way.id: {n.ref for n in way.nodes}
        for way in _objects(reference, osmium.osm.WAY)
        if way.id in wanted
    }
    present = set().union(*nodes.values()) if nodes else set()
    present &= {node.id for node in _objects(reference, osmium.osm.NODE) if node.id in present}
    whole = {way for way, refs in nodes.items() if refs <= present}
    copied_relations = {r for r, refs in members.items() if refs and refs <= whole}
    copied_ways = (ways & whole).union(*(members[r] for r in copied_relations))
    refs = set().union(*(nodes[w] for w in copied_ways)) if copied_ways else set()
    chosen = {"node": refs, "way": copied_ways, "relation": copied_relations}
    for thing in _objects(reference, osmium.osm.ALL):
        kind = "node" if thing.is_node() else "way" if thing.is_way() else "relation"
        if thing.id in chosen[kind]:
            chosen[kind].remove(thing.id)  # joined files have objects twice
            document.elements[kind].append(_copied(thing, kind, remarks.get((kind, thing.id), {})))
    for key, tags in remarks.items():
        if key[1] not in (copied_relations if key[0] == "relation" else ways & whole):
            shape, own = document.outlines[key]
            document.add_shape(shape, {**own, **tags}, key)


def _objects(path: Path, entity: Any) -> Iterator[Any]:
    """The objects of one kind as the file has them, without those that were deleted."""
    things: Iterator[Any] = iter(osmium.FileProcessor(osm_file(path), entity))
    return (thing for thing in things if thing.visible)


def _copied(thing: Any, kind: str, remark: dict[str, str]) -> ET.Element:
    element = ET.Element(kind, id=str(thing.id), visible="true")
    if thing.id > 0:
        element.set("version", str(thing.version or _VERSION))
    if kind == "node":
        element.set("lat", f"{thing.location.lat:.7f}")
        element.set("lon", f"{thing.location.lon:.7f}")
    elif kind == "way":
        for node in thing.nodes:
            ET.SubElement(element, "nd", ref=str(node.ref))
    else:
        for m in thing.members:
            name = {"n": "node", "w": "way", "r": "relation"}[m.type]
            ET.SubElement(element, "member", type=name, ref=str(m.ref), role=m.role)
    # The object's own source stays: the keys of the remark say whose remark it is.
    own = {t.k: t.v for t in thing.tags}
    _tag(element, {**own, **{k: v for k, v in remark.items() if k not in own}})
    return element
