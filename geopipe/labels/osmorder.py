"""OSM data in another order than a planet file's, sorted and renumbered so that osmium can read it.

osmium joins nodes to ways in one pass: nodes before ways, ids ascending and positive. JOSM gives
new objects negative ids and keeps deleted ones; Overpass writes ways before nodes, or coordinates
inside of ways and relations; joined files have objects twice. All of these are valid OSM data.
"""

import bz2
import gzip
import html
import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

import osmium

from geopipe.errors import LabelError

log = logging.getLogger(__name__)

Kind = Literal["node", "way", "relation"]
_RANK: dict[str, int] = {"node": 0, "way": 1, "relation": 2}
_CHUNK = 1 << 23
_OBJECT = re.compile(rb"""<(node|way|relation)\s[^>]*?\bid\s*=\s*["'](-?\d+)["']""")
_UNLIKE = re.compile(
    rb"""\saction\s*=|<delete|<center\b|\bvisible\s*=\s*["']false|<nd\b[^>]*\blat\s*="""
)
"""What planet files do not have: edits, deletions, coordinates inside of ways."""
_START = re.compile(rb"<osm[\s>]")
_END = re.compile(rb"(?<=</osm>)")
_ROOT = re.compile(rb"<osm(Change)?[\s>]")
_NAMESPACE = re.compile(rb"""(<osm\b[^>]*?)\sxmlns\s*=\s*("[^"]*"|'[^']*')""")
_REMARK = re.compile(rb"<remark>(.*?)</remark>", re.DOTALL)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_REMARK_CHARS = 200
_TAIL, _HEAD = 1 << 16, 1 << 16
"""Bytes at the end where Overpass puts its remark, and at the start that tell what a file is."""


@dataclass(frozen=True)
class SortedFile:
    """OSM data that osmium can read, and what its objects are called in the file given."""

    path: Path
    ids: dict[tuple[str, int], Hashable]
    """("way", id in `path`) -> id in the file given; empty where they are the same."""

    def name(self, kind: Kind, object_id: int) -> str:
        """As OSM writes it: ``way/123``."""
        return f"{kind}/{self.ids.get((kind, object_id), object_id)}"


def sorted_file(path: Path, folder: Path) -> SortedFile:
    """`path` itself where osmium can read it as it is, else a sorted copy in `folder`.

    A copy holds all nodes in memory (some 500 bytes each). Raises LabelError for XML that is
    damaged and for ways without any coordinates.
    """
    if path.name.lower().endswith(".pbf"):
        if _is_sorted(_objects(path)):
            return SortedFile(path, {})
        result = _Collected.of_pbf(path)
    else:
        _require_osm(path)
        _require_whole(path)
        if _is_sorted_xml(path):
            return SortedFile(path, {})
        result = _Collected.of_xml(path)
    result.require_places(path)
    target = folder / "sorted.osm.pbf"
    return SortedFile(target, result.write(target))


def osm_file(path: Path) -> osmium.io.File:
    """`path` for osmium, which goes by the name, upper and lower case, and not by what is in it."""
    name = path.name.lower()
    kind = "pbf" if name.endswith(".pbf") else f"osm{_compression(path)}"
    return osmium.io.File(str(path), kind)


def _compression(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(3)
    return ".gz" if start[:2] == b"\x1f\x8b" else ".bz2" if start == b"BZh" else ""


def _require_osm(path: Path) -> None:
    """LabelError for what is no OSM XML, such as an error page that was saved as one."""
    with _plain(path) as file:
        head = file.read(_HEAD)
    text = head.decode("utf-16" if head[:2] in _UTF_16 else "utf-8", "replace").strip(
        "\ufeff \r\n\t"
    )
    if _ROOT.search(text.encode()):
        return
    if not text:
        raise LabelError(f"cannot read {path} as OSM data: it is empty", "get it again")
    hint = "ask Overpass for [out:xml]" if text[0] in "{[" else "get it again"
    start = " ".join(text[:80].split())
    raise LabelError(f"cannot read {path} as OSM data: it begins with {start!r}", hint)


def _require_whole(path: Path) -> None:
    """LabelError for an answer of Overpass that says of itself that it is cut short."""
    tail = b""
    with _plain(path) as file:
        if not _compression(path):
            file.seek(max(path.stat().st_size - _TAIL, 0))
        while chunk := file.read(_CHUNK):
            tail = (tail + chunk)[-_TAIL:]
    if remark := _REMARK.search(tail):
        require_no_error(html.unescape(remark[1].decode("utf-8", "replace")), str(path))


def require_no_error(remark: str, source: str) -> None:
    """LabelError where a remark of Overpass says that its answer is cut short; others are logged.

    https://wiki.openstreetmap.org/wiki/Overpass_API/Overpass_QL
    """
    text = " ".join(remark.split())[:_REMARK_CHARS]
    if "error" in text.casefold():
        raise LabelError(
            f"{source} is cut short: Overpass says {text!r}",
            "ask for less at a time, or with a larger [timeout:...] and [maxsize:...]",
        )
    log.warning("%s: Overpass says %r", source, text)


def _objects(path: Path) -> Iterator[tuple[int, int]]:
    """Rank and id of the objects of `path`: of the first alone, where the header says sorted."""
    processor = osmium.FileProcessor(osm_file(path))
    trusted = processor.header.get("sorting") == "Type_then_ID"
    thing: Any
    for thing in processor:
        kind = "node" if thing.is_node() else "way" if thing.is_way() else "relation"
        yield _RANK[kind], thing.id
        if trusted:  # negative ids would come first
            return


def _is_sorted(objects: Iterator[tuple[int, int]]) -> bool:
    before = (0, 0)
    for rank, object_id in objects:
        if object_id <= 0 or (rank, object_id) <= before:
            return False
        before = rank, object_id
    return True


def _is_sorted_xml(path: Path) -> bool:
    """Whether XML is as in planet files; looks at its bytes, some 100 MB a second."""
    before, rest, documents = (0, 0), b"", 0
    with _plain(path) as file:
        while chunk := file.read(_CHUNK):
            text = rest + chunk
            cut = max(text.rfind(b"<"), 0)  # the last tag may go on in the next chunk
            text, rest = text[:cut], text[cut:]
            documents += len(_START.findall(text))
            if documents > 1 or _UNLIKE.search(text):
                return False
            for result in _OBJECT.finditer(text):
                here = _RANK[result[1].decode()], int(result[2])
                if here[1] <= 0 or here <= before:
                    return False
                before = here
    return before > (0, 0)


def _plain(path: Path) -> IO[bytes]:
    """`path` decompressed."""
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, "": open}[_compression(path)]
    file: IO[bytes] = opener(path, "rb")
    return file


@dataclass
class _Object:
    """The newest version of an object that was seen; `body`: coordinates, nodes or members."""

    version: int
    deleted: bool
    tags: dict[str, str]
    body: Any
    changed: str | None

    def joined(self, other: "_Object") -> "_Object":
        """The newer of two; where none says which, what either knows more of."""
        if self.version and other.version and self.version != other.version:
            new, old = (self, other) if self.version > other.version else (other, self)
            return _Object(new.version, new.deleted, new.tags, new.body or old.body, new.changed)
        return _Object(
            max(self.version, other.version),
            self.deleted or other.deleted,
            max(self.tags, other.tags, key=len),
            max(self.body or (), other.body or (), key=len),
            self.changed or other.changed,
        )


@dataclass
class _Collected:
    """All objects of a file by their ids; nodes without an id go by their place."""

    objects: dict[str, dict[Hashable, _Object]] = field(
        default_factory=lambda: {"node": {}, "way": {}, "relation": {}}
    )
    inline: dict[Hashable, tuple[float, float]] = field(default_factory=dict)
    """Node -> longitude and latitude, as ways and relations have them."""

    @classmethod
    def of_pbf(cls, path: Path) -> "_Collected":
        result = cls()
        thing: Any
        for thing in osmium.FileProcessor(osm_file(path)):
            kind, body = _of_osmium(thing)
            changed = thing.timestamp.isoformat() if thing.timestamp.year > 1970 else None
            one = _Object(thing.version, thing.deleted, dict(thing.tags), body, changed)
            result.add(kind, thing.id, one)
        return result

    @classmethod
    def of_xml(cls, path: Path) -> "_Collected":
        result = cls()
        try:
            with _plain(path) as file:
                documents = [d for x in _END.split(file.read()) if (d := x.strip())]
            for document in documents:
                for kind, element in _elements(_NAMESPACE.sub(rb"\1", document, count=1)):
                    result.add_element(kind, element)
        except (ET.ParseError, EOFError, OSError, ValueError, KeyError) as e:
            raise LabelError(
                f"cannot read {path} as OSM data: {e}",
                "the file is damaged or cut short; get it again",
            ) from e
        return result

    def add(self, kind: Kind, key: Hashable, one: _Object) -> None:
        known = self.objects[kind].get(key)
        self.objects[kind][key] = known.joined(one) if known else one

    def add_element(self, kind: Kind, element: ET.Element) -> None:
        tags = {t.attrib["k"]: t.attrib["v"] for t in element.iterfind("tag")}
        body: Any = None
        if kind == "node":
            body = _place(element)
        elif kind == "way":
            body = self._nodes(element)
        else:
            body = [
                (m.attrib["type"], self._member(m), m.get("role", ""))
                for m in element.iterfind("member")
            ]
        deleted = element.get("action") == "delete" or element.get("visible") == "false"
        version = int(element.get("version", 0))
        one = _Object(version, deleted, tags, body, element.get("timestamp"))
        self.add(kind, int(element.attrib["id"]), one)

    def _nodes(self, element: ET.Element) -> list[Hashable]:
        """The nodes of a way, or of a member with its geometry."""
        keys: list[Hashable] = []
        for nd in element.iterfind("nd"):
            place = _place(nd)
            # Without either (outside of what was asked for) a node that is known to be missing.
            key: Hashable = int(nd.attrib["ref"]) if "ref" in nd.attrib else place or ("gap",)
            if place:
                self.inline.setdefault(key, place)
            keys.append(key)
        return keys

    def _member(self, element: ET.Element) -> Hashable:
        ref, nodes = int(element.attrib["ref"]), self._nodes(element)
        if nodes and element.attrib["type"] == "way":
            self.add("way", ref, _Object(0, False, {}, nodes, None))
        return ref

    def require_places(self, path: Path) -> None:
        """Raise LabelError when there are ways, but no coordinates of any of their nodes."""
        ways, places = self.objects["way"], self._places()
        if ways and not any(node in places for way in ways.values() for node in way.body or ()):
            raise LabelError(
                f"{path} has {len(ways)} ways and no coordinates of their nodes",
                'ask Overpass for "out geom;" (not "out center;", "out tags;" or "out ids;")',
            )

    def _places(self) -> dict[Hashable, tuple[float, float]]:
        nodes = {k: n.body for k, n in self.objects["node"].items() if n.body and not n.deleted}
        gone = {k for k, n in self.objects["node"].items() if n.deleted}
        return {k: p for k, p in self.inline.items() if k not in gone} | nodes

    def write(self, target: Path) -> dict[tuple[str, int], Hashable]:
        """Write all to `target`; returns the ids of before by kind and new id."""
        places = self._places()
        # Members have their nodes by place only, ways by id as well: the same node, where both do.
        by_place = {place: key for key, place in places.items() if isinstance(key, int)}
        numbers: dict[tuple[str, Hashable], int] = {}

        def number(kind: str, key: Hashable) -> int:
            if kind == "node" and isinstance(key, tuple):
                key = by_place.get(key, key)
            return numbers.setdefault((kind, key), len(numbers) + 1)

        factory: Any = osmium.osm.mutable
        with osmium.SimpleWriter(str(target), overwrite=True) as writer:
            for key, place in places.items():
                if not isinstance(key, tuple) or key not in by_place:
                    known = self.objects["node"].get(key)
                    tags = known.tags if known else {}
                    writer.add_node(
                        factory.Node(id=number("node", key), location=place, tags=tags, version=1)
                    )
            for kind in ("way", "relation"):
                alive = {k: o for k, o in self.objects[kind].items() if not o.deleted}
                for key, one in alive.items():
                    about: dict[str, Any] = {
                        "id": number(kind, key),
                        "tags": one.tags,
                        "version": 1,
                    }
                    if one.changed:
                        about["timestamp"] = datetime.fromisoformat(one.changed)
                    if kind == "way":
                        nodes = [number("node", n) for n in one.body or ()]
                        writer.add_way(factory.Way(nodes=nodes, **about))
                    else:
                        members = [(t[0], number(t, ref), role) for t, ref, role in one.body or ()]
                        writer.add_relation(factory.Relation(members=members, **about))
        return {(kind, new): old for (kind, old), new in numbers.items()}


def _elements(document: bytes) -> Iterator[tuple[Kind, ET.Element]]:
    """The objects of an XML document, one at a time."""
    parser: Any = ET.XMLPullParser(("start", "end"))
    root: ET.Element | None = None
    for start in range(0, len(document), _CHUNK):
        parser.feed(document[start : start + _CHUNK])
        for event, element in parser.read_events():
            if root is None:
                root = element
            elif event == "end" and element.tag in _RANK:
                yield element.tag, element
                root.clear()
    parser.close()


def _of_osmium(thing: Any) -> tuple[Kind, Any]:
    if thing.is_node():
        valid = thing.location.valid()
        return "node", (thing.location.lon, thing.location.lat) if valid else None
    if thing.is_way():
        return "way", [n.ref for n in thing.nodes]
    names = {"n": "node", "w": "way", "r": "relation"}
    return "relation", [(names[m.type], m.ref, m.role) for m in thing.members]


def _place(element: ET.Element) -> tuple[float, float] | None:
    """Longitude and latitude, to OSM's seven decimals."""
    if "lon" not in element.attrib or "lat" not in element.attrib:
        return None
    return round(float(element.attrib["lon"]), 7), round(float(element.attrib["lat"]), 7)
