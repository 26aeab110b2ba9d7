"""OSM's own formats: areas with holes, broken rings counted, lines at the edge of an extract."""

import bz2
from dataclasses import dataclass

import numpy as np
import osmium
import pytest
from pyproj import Transformer

from geopipe.errors import LabelError
from geopipe.labels import open_labels

TO_LONLAT = Transformer.from_crs(2154, 4326, always_xy=True)
CREDIT = "(c) OpenStreetMap contributors, ODbL 1.0"


@dataclass
class Drawn:
    """An OSM file being drawn, in metres east and south of the scene's corner."""

    nodes: dict
    ways: dict
    relations: dict


def square(left, top, side):
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


@pytest.fixture
def drawn():
    corners = [*square(20, 20, 40), *square(30, 30, 20), *square(100, 20, 20), *square(140, 20, 30)]
    nodes = dict(enumerate(corners, start=1))
    nodes |= {20: (5, 100), 21: (100, 100), 22: (190, 100), 30: (180, 130), 31: (60, 120)}
    ways = {
        100: ([1, 2, 3, 4, 1], {}),
        101: ([5, 6, 7, 8, 5], {}),
        102: ([9, 10, 11, 12, 9], {"building": "house"}),
        103: ([13, 14, 15], {}),  # the broken ring: 16 is not reached
        104: ([20, 21], {"highway": "residential"}),
        105: ([21, 22], {"highway": "residential", "tunnel": "yes"}),
        106: ([31, 20, 999, 30], {"highway": "primary"}),  # leaves the extract at 999
        107: ([31, 998], {"highway": "primary"}),  # leaves it at once
        108: ([9, 10, 9], {"building": "yes"}),  # a ring of two points
        109: ([9, 10, 997, 9], {"building": "yes"}),  # a ring with a missing corner
        110: ([20, 31], {"building": "yes"}),  # a building that is a line
    }
    relations = {
        200: ([(100, "outer"), (101, "inner")], {"type": "multipolygon", "building": "yes"}),
        201: ([(103, "outer")], {"type": "multipolygon", "building": "yes"}),
        202: ([(100, "outer"), (996, "inner")], {"type": "multipolygon", "building": "yes"}),
        203: ([(103, "outer")], {"type": "multipolygon", "landuse": "forest"}),
        204: ([(100, "outline")], {"type": "building", "building": "yes"}),
    }
    nodes_tags = {31: {"building": "yes"}}
    return nodes, ways, relations, nodes_tags


def lonlat(east, south):
    return TO_LONLAT.transform(789_000 + east, 6_501_000 - south)


def write_xml(drawn, path):
    nodes, ways, relations, tagged = drawn

    def tags(pairs):
        return "".join(f'<tag k="{k}" v="{v}"/>' for k, v in pairs.items())

    text = ['<?xml version="1.0"?><osm version="0.6" generator="test">']
    for i, at in nodes.items():
        lon, lat = lonlat(*at)
        text.append(
            f'<node id="{i}" version="1" lon="{lon:.7f}" lat="{lat:.7f}">'
            f"{tags(tagged.get(i, {}))}</node>"
        )
    for i, (refs, pairs) in ways.items():
        nds = "".join(f'<nd ref="{r}"/>' for r in refs)
        text.append(f'<way id="{i}" version="1">{nds}{tags(pairs)}</way>')
    for i, (members, pairs) in relations.items():
        inner = "".join(f'<member type="way" ref="{r}" role="{x}"/>' for r, x in members)
        text.append(f'<relation id="{i}" version="1">{inner}{tags(pairs)}</relation>')
    content = ("\n".join(text) + "</osm>").encode()
    path.write_bytes(bz2.compress(content) if path.suffix == ".bz2" else content)
    return path


def write_pbf(drawn, path):
    nodes, ways, relations, tagged = drawn
    with osmium.SimpleWriter(str(path)) as out:
        for i, at in nodes.items():
            location = lonlat(*at)
            out.add_node(
                osmium.osm.mutable.Node(id=i, version=1, location=location, tags=tagged.get(i, {}))
            )
        for i, (refs, pairs) in ways.items():
            out.add_way(osmium.osm.mutable.Way(id=i, version=1, nodes=refs, tags=pairs))
        for i, (members, pairs) in relations.items():
            out.add_relation(
                osmium.osm.mutable.Relation(
                    id=i, version=1, members=[("w", r, x) for r, x in members], tags=pairs
                )
            )
    return path


@pytest.mark.parametrize("name", ["a.osm", "a.osm.bz2", "a.osm.pbf"])
def test_every_osm_format(tmp_path, drawn, scheme, plane, name):
    write = write_pbf if name.endswith("pbf") else write_xml
    labels = open_labels(write(drawn, tmp_path / name), scheme, plane)
    ids = labels.read(plane)
    assert ids[50, 50] == 1
    assert ids[80, 80] == 0  # the hole of relation 200
    assert ids[60, 220] == 1
    assert ids[200, 100] == 2
    assert ids[200, 300] == 0  # tunnel
    assert labels.counts == (0, 2, 2)
    assert dict(labels.skipped) == {
        # relations 201 and 202, ways 108 and 109
        "broken polygon (ring not closed, or nodes or ways missing in the file)": 4,
        "line with fewer than two nodes in the file": 1,
        "line where a polygon is wanted": 1,
        "point where a polygon is wanted": 1,
    }
    assert labels.credit == CREDIT


def test_a_ring_that_touches_itself_is_not_lost_silently(tmp_path, scheme, plane):
    nodes = dict(enumerate([(20, 20), (60, 60), (60, 20), (20, 60)], start=1))
    nodes |= dict(enumerate(square(100, 20, 20), start=5))
    ways = {
        1: ([1, 2, 3, 4, 1], {"building": "yes"}),
        2: ([5, 6, 7, 8, 5], {"building": "yes"}),
    }
    labels = open_labels(write_xml((nodes, ways, {}, {}), tmp_path / "a.osm"), scheme, plane)
    assert labels.counts[1] + sum(n for _, n in labels.skipped) == 2
    assert labels.read(plane)[60, 220] == 1


def test_a_roundabout_is_a_line_and_an_area_is_not(tmp_path, scheme, plane):
    nodes = dict(enumerate([*square(20, 20, 40), *square(100, 20, 40)], start=1))
    ways = {
        1: ([1, 2, 3, 4, 1], {"highway": "tertiary", "junction": "roundabout"}),
        2: ([5, 6, 7, 8, 5], {"highway": "residential", "area": "yes"}),
    }
    labels = open_labels(write_xml((nodes, ways, {}, {}), tmp_path / "a.osm"), scheme, plane)
    ids = labels.read(plane)
    assert ids[80, 40] == 2
    assert ids[80, 80] == 0
    assert (ids[:, 180:] == 0).all()


def test_osm_elsewhere(tmp_path, drawn, scheme, plane):
    nodes, *rest = drawn
    far = ({i: (e + 90_000, s) for i, (e, s) in nodes.items()}, *rest)
    with pytest.raises(LabelError, match=r"OSM does not overlap the scene.*lon 5\.29.*lon 4\.14"):
        open_labels(write_xml(far, tmp_path / "a.osm"), scheme, plane)


def test_a_cut_file(tmp_path, drawn, scheme, plane):
    whole = write_xml(drawn, tmp_path / "a.osm.bz2").read_bytes()
    (tmp_path / "b.osm.bz2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LabelError, match=r"cannot read .*b\.osm\.bz2"):
        open_labels(tmp_path / "b.osm.bz2", scheme, plane)


def test_osm_has_no_layers(tmp_path, drawn, scheme, plane):
    with pytest.raises(LabelError, match="no layers"):
        open_labels(write_xml(drawn, tmp_path / "a.osm"), scheme, plane, layer="lines")


def test_formats_agree_bit_by_bit(tmp_path, drawn, scheme, plane):
    a = open_labels(write_xml(drawn, tmp_path / "a.osm"), scheme, plane).read(plane)
    b = open_labels(write_pbf(drawn, tmp_path / "b.osm.pbf"), scheme, plane).read(plane)
    np.testing.assert_array_equal(a, b)
