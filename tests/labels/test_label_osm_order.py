"""OSM data in another order than a planet file's: JOSM's, Overpass's, joined and unsorted files."""

import bz2
import gzip
import re
from dataclasses import dataclass, field, replace

import numpy as np
import osmium
import pytest
from pyproj import Transformer

from geopipe.errors import LabelError
from geopipe.labels import open_labels
from geopipe.labels.extent import Extent
from geopipe.labels.osmorder import sorted_file
from geopipe.labels.tables import open_tables

TO_LONLAT = Transformer.from_crs(2154, 4326, always_xy=True)
HEAD = "<?xml version='1.0' encoding='UTF-8'?>\n<osm version='0.6' generator='Overpass API'>\n"


def lonlat(east, south):
    lon, lat = TO_LONLAT.transform(789_000 + east, 6_501_000 - south)
    return round(lon, 7), round(lat, 7)


def corners(left, top, side):
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


@dataclass
class Data:
    """A town: two houses, a block with a court (two outer ways), a road, a footway."""

    nodes: dict = field(default_factory=dict)
    ways: dict = field(default_factory=dict)
    relations: dict = field(default_factory=dict)

    @classmethod
    def town(cls):
        house, other = corners(10, 10, 20), corners(60, 10, 16)
        block, court = corners(10, 60, 40), corners(20, 70, 20)
        at = dict(enumerate([*house, *other, *block, *court], 1))
        at |= {20: (0, 130), 21: (100, 130), 22: (199, 130), 23: (0, 145), 24: (150, 145)}
        ways = {
            100: ([1, 2, 3, 4, 1], {"building": "yes"}),
            101: ([5, 6, 7, 8, 5], {"building": "house"}),
            102: ([9, 10, 11], {}),
            103: ([11, 12, 9], {}),
            104: ([13, 14, 15, 16, 13], {}),
            105: ([20, 21, 22], {"highway": "residential"}),
            106: ([23, 24], {"highway": "footway"}),
        }
        members = [(102, "outer"), (103, "outer"), (104, "inner")]
        relations = {200: (members, {"type": "multipolygon", "building": "yes"})}
        return cls({i: lonlat(*xy) for i, xy in at.items()}, ways, relations)

    def node_lines(self, about="version='1'", but=()):
        return [
            f"<node id='{i}' {about} lon='{lon:.7f}' lat='{lat:.7f}'/>"
            for i, (lon, lat) in self.nodes.items()
            if i not in but
        ]

    def way_lines(self, about="version='1'", nd=lambda ref: f"<nd ref='{ref}'/>"):
        return [
            f"<way id='{i}' {about}>{''.join(map(nd, refs))}{tagged(tags)}</way>"
            for i, (refs, tags) in self.ways.items()
        ]

    def relation_lines(self, about="version='1'", inner=lambda ref: ""):
        return [
            f"<relation id='{i}' {about}>"
            + "".join(
                f"<member type='way' ref='{ref}' role='{role}'>{inner(ref)}</member>"
                for ref, role in members
            )
            + f"{tagged(tags)}</relation>"
            for i, (members, tags) in self.relations.items()
        ]

    def renumbered(self, new):
        """With other ids; `new` is a function of the old one."""
        return Data(
            {new(i): xy for i, xy in self.nodes.items()},
            {new(i): ([new(r) for r in refs], tags) for i, (refs, tags) in self.ways.items()},
            {
                new(i): ([(new(r), role) for r, role in members], tags)
                for i, (members, tags) in self.relations.items()
            },
        )

    def inline(self, ref):
        lon, lat = self.nodes[ref]
        return f"<nd ref='{ref}' lat='{lat:.7f}' lon='{lon:.7f}'/>"

    def inline_member(self, way):
        at = (self.nodes[ref] for ref in self.ways[way][0])
        return "".join(f"<nd lat='{lat:.7f}' lon='{lon:.7f}'/>" for lon, lat in at)


def tagged(tags):
    return "".join(f"<tag k='{k}' v='{v}'/>" for k, v in tags.items())


def document(*groups):
    return HEAD + "\n".join(line for lines in groups for line in lines) + "\n</osm>\n"


def in_order(d, **more):
    return document(d.node_lines(**more), d.way_lines(**more), d.relation_lines(**more))


def josm_new(d):
    new = d.renumbered(lambda i: -i)
    return in_order(new, about="action='modify' visible='true'")


def josm_mixed(d):
    """Half of it downloaded; JOSM sorts negative ids first, counted from -1 down."""
    mixed = d.renumbered(lambda i: -i if i % 2 else i)

    def order(items):
        return dict(sorted(items.items(), key=lambda x: (x[0] > 0, abs(x[0]))))

    mixed = Data(order(mixed.nodes), order(mixed.ways), order(mixed.relations))
    return in_order(mixed, about="visible='true' version='2'")


def josm_deleted(d):
    """A house that was deleted in JOSM, with its nodes."""
    extra = dict(enumerate((lonlat(*xy) for xy in corners(120, 20, 20)), 300))
    gone = Data(extra, {107: ([*extra, 300], {"building": "yes"})})
    about = "version='3' visible='true' action='delete'"
    return document(
        d.node_lines(),
        gone.node_lines(about),
        d.way_lines(),
        gone.way_lines(about),
        d.relation_lines(),
    )


def ways_first(d):
    return document(d.relation_lines(), d.way_lines(), d.node_lines(""))


def relations_first(d):
    return document(d.relation_lines(), d.node_lines(), d.way_lines())


def unsorted(d):
    turned = Data(*(dict(reversed(x.items())) for x in (d.nodes, d.ways, d.relations)))
    return in_order(turned)


def body_then_skeleton(d):
    """ "out body; >; out skel qt;" where a way is asked for and a member as well."""
    bare = replace(d, ways={i: (refs, {}) for i, (refs, _) in d.ways.items()})
    return document(d.relation_lines(), d.way_lines(), bare.way_lines(""), d.node_lines(""))


def out_geom(d):
    """Ways without tags are there only inside of their relations."""
    asked = replace(d, ways={i: w for i, w in d.ways.items() if w[1]})
    return document(asked.way_lines("", nd=d.inline), d.relation_lines("", inner=d.inline_member))


def out_geom_with_all_ways(d):
    return document(d.way_lines("", nd=d.inline), d.relation_lines("", inner=d.inline_member))


def out_center_and_nodes(d):
    def center(ref):
        return f"<nd ref='{ref}'/>"

    return document(
        [w.replace("<nd", "<center lat='45' lon='4'/><nd", 1) for w in d.way_lines("", nd=center)],
        d.relation_lines(),
        d.node_lines(""),
    )


def halves(d):
    """The houses, and all the rest."""
    houses = {i: w for i, w in d.ways.items() if i < 102}
    refs = {r for way, _ in houses.values() for r in way}
    return (
        Data({i: xy for i, xy in d.nodes.items() if i in refs}, houses),
        Data(
            {i: xy for i, xy in d.nodes.items() if i not in refs},
            {i: w for i, w in d.ways.items() if i >= 102},
            d.relations,
        ),
    )


def two_answers(d):
    first, second = halves(d)
    return document(
        first.node_lines(),
        first.way_lines(),
        second.node_lines(),
        second.way_lines(),
        second.relation_lines(),
    )


def two_answers_that_overlap(d):
    first, _ = halves(d)
    return document(
        first.node_lines(), first.way_lines(), d.node_lines(), d.way_lines(), d.relation_lines()
    )


def two_documents(d):
    first, second = halves(d)
    return in_order(first) + in_order(second)


def two_versions(d):
    """An older version of a house, larger, comes as well, before and behind."""
    old = [w.replace("<nd ref='2'/>", "<nd ref='22'/>") for w in d.way_lines("version='1'")[:1]]
    new = d.way_lines("version='2'")
    return document(d.node_lines(), old, new, old, d.relation_lines())


MADE = [
    josm_new,
    josm_mixed,
    josm_deleted,
    ways_first,
    relations_first,
    unsorted,
    body_then_skeleton,
    out_geom,
    out_geom_with_all_ways,
    out_center_and_nodes,
    two_answers,
    two_answers_that_overlap,
    two_documents,
    two_versions,
]


@pytest.fixture
def town():
    return Data.town()


@pytest.fixture
def expected(tmp_path, town, scheme, plane):
    (tmp_path / "plain.osm").write_text(in_order(town))
    labels = open_labels(tmp_path / "plain.osm", scheme, plane)
    ids = labels.read(plane)
    # House and other, the block less its court; the road as the scene has it.
    assert (ids == 1).sum() == 4 * (20**2 + 16**2 + 40**2 - 20**2)
    assert (ids == 2).sum() == pytest.approx(398 * 14, abs=14)
    assert labels.skipped == (("highway of a kind that no rule names (footway)", 1),)
    return ids


@pytest.mark.parametrize("make", MADE, ids=lambda f: f.__name__)
def test_the_same_labels_as_of_a_sorted_file(tmp_path, town, scheme, plane, expected, make):
    (tmp_path / "made.osm").write_text(make(town))
    labels = open_labels(tmp_path / "made.osm", scheme, plane)
    np.testing.assert_array_equal(labels.read(plane), expected)
    assert labels.skipped == (("highway of a kind that no rule names (footway)", 1),)


@pytest.mark.parametrize("make", [josm_mixed, ways_first, unsorted], ids=lambda f: f.__name__)
def test_compressed_and_as_pbf(tmp_path, town, scheme, plane, expected, make):
    text = make(town).encode()
    (tmp_path / "a.osm.bz2").write_bytes(bz2.compress(text))
    (tmp_path / "a.osm.gz").write_bytes(gzip.compress(text))
    with osmium.SimpleWriter(str(tmp_path / "a.osm.pbf")) as writer:
        for thing in osmium.FileProcessor(osmium.io.FileBuffer(text, "osm")):
            writer.add(thing)
    for name in ("a.osm.bz2", "a.osm.gz", "a.osm.pbf"):
        labels = open_labels(tmp_path / name, scheme, plane)
        np.testing.assert_array_equal(labels.read(plane), expected, err_msg=name)


def test_objects_keep_their_names(tmp_path, town, scheme, plane):
    (tmp_path / "made.osm").write_text(josm_new(town))
    areas, lines = open_tables(tmp_path / "made.osm", scheme, Extent(plane))
    assert sorted(areas.frame["source_id"]) == ["relation/-200", "way/-100", "way/-101"]
    assert list(lines.frame["source_id"]) == ["way/-105"]


def test_dates_of_objects_are_kept(tmp_path, town, scheme, plane):
    text = ways_first(town).replace("version='1'", "version='1' timestamp='2021-03-04T05:06:07Z'")
    (tmp_path / "made.osm").write_text(text)
    areas, _ = open_tables(tmp_path / "made.osm", scheme, Extent(plane))
    assert areas.dates == ["2021-03-04"] * 3


def test_a_sorted_file_is_not_copied(tmp_path, town):
    for name, text in (("a.osm", in_order(town)), ("b.osm", ways_first(town))):
        (tmp_path / name).write_text(text)
    assert sorted_file(tmp_path / "a.osm", tmp_path).path == tmp_path / "a.osm"
    assert sorted_file(tmp_path / "b.osm", tmp_path).path != tmp_path / "b.osm"


@pytest.mark.parametrize("chunk", [37, 64, 200])
def test_order_is_seen_across_chunks(tmp_path, town, monkeypatch, chunk):
    monkeypatch.setattr("geopipe.labels.osmorder._CHUNK", chunk)
    for name, make in (("a.osm", in_order), ("b.osm", two_answers), ("c.osm", two_documents)):
        (tmp_path / name).write_text(make(town))
        plain = sorted_file(tmp_path / name, tmp_path).path == tmp_path / name
        assert plain == (make is in_order)


def test_ways_without_coordinates(tmp_path, town, scheme, plane):
    lines = [w.replace("<nd", "<center lat='45.6' lon='4.14'/><nd", 1) for w in town.way_lines("")]
    (tmp_path / "center.osm").write_text(document(lines, town.relation_lines("")))
    with pytest.raises(LabelError, match=r"7 ways and no coordinates.*out geom"):
        open_labels(tmp_path / "center.osm", scheme, plane)


def test_nodes_that_are_missing_are_named_as_such(tmp_path, town, scheme, plane):
    gaps = [i for i in town.nodes if i % 4 == 1 or i >= 20]
    (tmp_path / "gaps.osm").write_text(
        document(town.relation_lines(), town.way_lines(), town.node_lines(but=gaps))
    )
    with pytest.raises(LabelError) as e:
        open_labels(tmp_path / "gaps.osm", scheme, plane)
    assert "3 x broken polygon" in e.value.message
    assert "nothing is left of the features" in e.value.message
    assert e.value.hint == "get the file again with all nodes and ways"


@pytest.mark.parametrize("make", [ways_first, in_order, two_documents], ids=lambda f: f.__name__)
def test_xml_that_ends_early(tmp_path, town, scheme, plane, make):
    (tmp_path / "cut.osm").write_text(make(town)[:-60])
    with pytest.raises(LabelError, match=r"cannot read .*cut\.osm as OSM data.*cut short"):
        open_labels(tmp_path / "cut.osm", scheme, plane)


@pytest.mark.parametrize("value", [f'version="{"x" * 900}"', 'timestamp="../x"'])
def test_xml_with_a_value_that_is_none(tmp_path, town, scheme, plane, value):
    text = in_order(town).replace("<node ", f"<node {value} ", 1)
    (tmp_path / "odd.osm").write_text(text)
    with pytest.raises(LabelError, match=r"cannot read .*odd\.osm as OSM data") as e:
        open_labels(tmp_path / "odd.osm", scheme, plane)
    assert len(e.value.message) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("value", ["nan", "", "../x", ">6", "/dev/zero", "9" * 400])
def test_a_coordinate_that_is_no_number(tmp_path, scheme, plane, value):
    path = tmp_path / "a.osm"
    path.write_text(
        '<osm version="0.6"><node id="1" version="1" '
        f'lat="{value.replace(">", "&gt;")}" lon="4"/></osm>'
    )
    with pytest.raises(LabelError, match=r"cannot read .*a\.osm as OSM data: \S"):
        open_labels(path, scheme, plane)


def test_an_encoding_that_nobody_knows(tmp_path, scheme, plane):
    path = tmp_path / "a.osm"
    way = '<way id="-1"><nd ref="-2"/><tag k="building" v="yes"/></way>'
    node = '<node id="-2" lat="45.6" lon="4.1"/>'
    path.write_text(f'<?xml version="1.0" encoding="UPF-8"?><osm version="0.6">{way}{node}</osm>')
    with pytest.raises(LabelError, match=r"cannot read .*a\.osm as OSM data: .*encoding"):
        open_labels(path, scheme, plane)


@pytest.mark.parametrize("make", [in_order, josm_new])
def test_names_do_not_tell_how_a_file_is_packed(tmp_path, town, scheme, plane, expected, make):
    (tmp_path / "CAPITAL.OSM").write_text(make(town))
    (tmp_path / "packed.osm").write_bytes(gzip.compress(make(town).encode()))
    (tmp_path / "plain.osm.gz").write_text(make(town))
    (tmp_path / "other.osm.gz").write_bytes(bz2.compress(make(town).encode()))
    for path in tmp_path.iterdir():
        ids = open_labels(path, scheme, plane).read(plane)
        np.testing.assert_array_equal(ids, expected, err_msg=path.name)


@pytest.mark.parametrize("make", [in_order, josm_new])
def test_a_namespace_changes_nothing(tmp_path, town, scheme, plane, expected, make):
    text = make(town).replace("<osm ", "<osm xmlns='http://openstreetmap.org/osm/0.6' ")
    (tmp_path / "a.osm").write_text(text)
    np.testing.assert_array_equal(
        open_labels(tmp_path / "a.osm", scheme, plane).read(plane), expected
    )


REMARK = "<remark> runtime error: Query timed out in &quot;query&quot; at line 3. </remark>\n</osm>"


@pytest.mark.parametrize("make", [in_order, ways_first])
@pytest.mark.parametrize("name", ["a.osm", "a.osm.gz"])
def test_an_answer_that_overpass_cut_short(tmp_path, town, scheme, plane, make, name):
    data = make(town).replace("</osm>", REMARK).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for read in (
        lambda: open_labels(tmp_path / name, scheme, plane),
        lambda: open_tables(tmp_path / name, scheme, Extent(plane)),
    ):
        with pytest.raises(LabelError, match=r'cut short: .* timed out in "query" at') as e:
            read()
        assert "timeout" in e.value.hint


def test_other_remarks_are_told(tmp_path, town, scheme, plane, expected, caplog):
    text = in_order(town).replace("</osm>", "<remark>areas are from yesterday</remark></osm>")
    (tmp_path / "a.osm").write_text(text)
    np.testing.assert_array_equal(
        open_labels(tmp_path / "a.osm", scheme, plane).read(plane), expected
    )
    assert "Overpass says 'areas are from yesterday'" in caplog.text


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("<html><body>429 Too Many Requests</body></html>", "429 Too Many", "get it again"),
        ('{"version": 0.6, "elements": []}', "it begins with", r"\[out:xml\]"),
        ("", "it is empty", "get it again"),
    ],
)
def test_what_is_no_osm_data(tmp_path, scheme, plane, text, message, hint):
    (tmp_path / "a.osm").write_text(text)
    with pytest.raises(LabelError, match=f"cannot read .*a.osm as OSM data: .*{message}") as e:
        open_labels(tmp_path / "a.osm", scheme, plane)
    assert re.search(hint, e.value.hint)
