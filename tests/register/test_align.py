"""Vectors moved: what touched touches, what was there is there, nothing goes too far."""

from itertools import pairwise

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from geopipe.errors import OutputError
from geopipe.labels import open_labels
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables
from geopipe.register import DisplacementField
from geopipe.register.align import MIN_SHIFT_M, write_aligned
from geopipe.register.tie_point import TiePoint

LEFT, TOP = 789_000.0, 6_501_000.0


@pytest.fixture
def plane(empty_plane):
    return empty_plane((800, 800))


def grown(plane, moves, most=8.0, spacing=50):
    """A field of tie points every 25 m for both classes; `moves` (n, n, 2) metres down and
    right."""
    tie_points = [
        TiePoint(float(spacing * i), float(spacing * j), k, *moves[i, j], 0.3, 2.5, 9.0)
        for k in (1, 2)
        for i in range(len(moves))
        for j in range(len(moves))
    ]
    return DisplacementField(plane, tuple(tie_points), most)


def even(down, right, n=17):
    return np.broadcast_to((float(down), float(right)), (n, n, 2))


def terrace(crs="EPSG:2154", count=8, **columns):
    """Houses wall to wall, a road in two ways that share a tie point, and a tree."""
    houses = [
        shapely.box(LEFT + 100 + 10 * i, TOP - 120, LEFT + 110 + 10 * i, TOP - 100)
        for i in range(count)
    ]
    roads = [
        shapely.LineString([(LEFT + 50, TOP - 140), (LEFT + 150, TOP - 142)]),
        shapely.LineString([(LEFT + 150, TOP - 142), (LEFT + 250, TOP - 140)]),
    ]
    tree = shapely.Point(LEFT + 130, TOP - 160)
    table = {
        "building": ["house"] * count + [None] * 3,
        "highway": [None] * count + ["primary", "residential", None],
        "width": [None] * count + ["5.5", None, None],
        "natural": [None] * (count + 2) + ["tree"],
        "osm_id": [f"way/{100 + i}" for i in range(count + 3)],
        "price": np.arange(count + 3) * 1.5,
        **columns,
    }
    return gpd.GeoDataFrame(table, geometry=[*houses, *roads, tree], crs="EPSG:2154").to_crs(crs)


def tables_of(path, plane):
    return open_tables(path, plane.labels.scheme, Extent(plane.scene.geobox))


def aligned(frame, shifts, folder, name="osm.gpkg"):
    source = folder / name
    frame.to_file(source, layer="osm")
    done = write_aligned(tables_of(source, shifts.grid), shifts, folder / "out.gpkg")
    return done, pyogrio.read_dataframe(folder / "out.gpkg", layer="osm")


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000))
def test_topology_is_kept(plane, tmp_path_factory, seed):
    """Under any field as smooth as those that are accepted."""
    moves = np.random.default_rng(seed).uniform(-1.5, 1.5, (17, 17, 2)) + np.array([3, -2])
    frame = terrace()
    done, out = aligned(frame, grown(plane, moves), tmp_path_factory.mktemp("t"))
    before, after = frame.geometry.to_numpy(), out.geometry.to_numpy()
    assert done.moved == 10
    assert shapely.is_valid(after).all()
    shared = [len(shapely.intersection(a, b).coords) for a, b in pairwise(before[:8])]
    assert shared == [2] * 7
    for a, b in pairwise(after[:8]):
        wall = shapely.intersection(a, b)
        assert wall.geom_type == "LineString"
        assert wall.length == pytest.approx(20, abs=2)
    assert after[8].coords[-1] == after[9].coords[0]
    assert after[10] == before[10]
    far = np.hypot(*(shapely.get_coordinates(after) - shapely.get_coordinates(before)).T)
    assert far.max() <= 8 + 0.01


@pytest.mark.parametrize("crs", ["EPSG:2154", "EPSG:4326", "EPSG:3857", "EPSG:32631"])
def test_the_shift_that_is_said_is_the_one_made(plane, tmp_path, crs):
    frame = terrace(crs)
    done, out = aligned(frame, grown(plane, even(-3, 2)), tmp_path)
    assert out.crs == frame.crs
    assert (done.features, done.moved) == (11, 10)
    assert done.metres == pytest.approx(np.full(10, np.hypot(3, 2)), rel=0.03)
    back = out.to_crs("EPSG:2154").geometry.to_numpy()
    before = terrace().geometry.to_numpy()
    went = shapely.get_coordinates(back[:10]) - shapely.get_coordinates(before[:10])
    assert np.allclose(went, (2, 3), atol=0.1)
    # Lambert-93 is turned against true north by a fraction of a degree.
    assert np.allclose(out[["shift_east", "shift_north"]][:10], (2, 3), atol=0.15)
    assert not out[["shift_east", "shift_north"]].to_numpy()[10].any()


def test_all_that_was_said_is_still_said(plane, tmp_path):
    frame = terrace()
    _, out = aligned(frame, grown(plane, even(1, 1)), tmp_path)
    columns = [c for c in frame.columns if c != "geometry"]
    assert [c for c in out.columns if c not in columns] == [
        "source_id",
        "shift_east",
        "shift_north",
        "geometry",
    ]
    for c in columns:
        assert out[c].astype(object).where(out[c].notna(), None).tolist() == (
            frame[c].astype(object).where(frame[c].notna(), None).tolist()
        )
    assert out["source_id"].tolist() == frame["osm_id"].tolist()
    about = pyogrio.read_info(tmp_path / "out.gpkg", layer="osm")["layer_metadata"]
    assert "OpenStreetMap" in about["credit"]


def test_a_feature_keeps_its_id_when_aligned_again(plane, tmp_path):
    """Also one that had no id but its place in the file."""
    frame = terrace().drop(columns="osm_id").iloc[3:]
    shifts = grown(plane, even(1, 1))
    aligned(frame, shifts, tmp_path)
    first = pyogrio.read_dataframe(tmp_path / "out.gpkg")
    write_aligned(tables_of(tmp_path / "out.gpkg", plane), shifts, tmp_path / "two.gpkg")
    again = pyogrio.read_dataframe(tmp_path / "two.gpkg")
    assert again["source_id"].tolist() == first["source_id"].tolist()
    assert len(set(again["source_id"])) == 8


def test_roads_are_as_wide_as_before(plane, tmp_path):
    frame = terrace()
    aligned(frame, grown(plane, even(2, 2)), tmp_path)
    scheme, box = plane.labels.scheme, plane.scene.geobox
    before, after = (open_labels(tmp_path / name, scheme, box) for name in ("osm.gpkg", "out.gpkg"))
    assert after.ids.tolist() == before.ids.tolist()
    assert after.credit == before.credit
    assert np.allclose(shapely.area(after.shapes), shapely.area(before.shapes), rtol=1e-3)


def test_what_would_cross_itself_moves_as_a_whole(plane, tmp_path):
    """Shifts of 30 m that turn round within 25 m: a long wall would fold over."""
    moves = even(0, 0).copy()
    moves[:, :5], moves[:, 5:] = (0, 28), (0, -28)
    rails = shapely.LineString([(LEFT + x, TOP - 105 - x % 3) for x in np.arange(60, 180, 2)])
    frame = terrace().iloc[[0]]
    frame = frame.set_geometry([rails.buffer(1, cap_style="flat")])
    shifts = grown(plane, moves, most=30.0)
    done, out = aligned(frame, shifts, tmp_path)
    (before,), (after,) = frame.geometry, out.geometry
    assert done.moved == 1
    assert after.is_valid
    went = shapely.get_coordinates(after) - shapely.get_coordinates(before)
    assert np.ptp(went, axis=0) == pytest.approx((0, 0), abs=1e-6)
    assert np.hypot(*went[0]) <= 30


def test_shifts_too_short_to_matter_leave_every_vertex(plane, tmp_path):
    frame = terrace()
    done, out = aligned(frame, grown(plane, even(MIN_SHIFT_M / 2, 0)), tmp_path)
    assert done.moved == 0
    assert done.metres.shape == (0,)
    assert out.geometry.tolist() == frame.geometry.tolist()
    assert not out[["shift_east", "shift_north"]].to_numpy().any()


def test_odd_geometries_survive(plane, tmp_path):
    """None, empty, three-dimensional, crossing itself, far away, and in layers of their own."""
    frame = terrace()
    bow = shapely.Polygon(
        [(LEFT + 5, TOP - 5), (LEFT + 20, TOP - 20), (LEFT + 20, TOP - 5), (LEFT + 5, TOP - 20)]
    )
    shapes = frame.geometry.tolist()
    shapes[0], shapes[1], shapes[2] = None, shapely.Polygon(), shapely.force_3d(shapes[2], 7.0)
    shapes[3] = bow
    shapes[4] = shapely.MultiPolygon(
        [shapes[4], shapely.box(LEFT + 300, TOP - 300, LEFT + 310, TOP - 290)]
    )
    shapes[5] = shapely.box(-4e7, -4e7, -3.9e7, -3.9e7)  # nowhere in Lambert-93
    odd = frame.set_geometry(gpd.GeoSeries(shapes, crs=frame.crs))
    odd.to_parquet(tmp_path / "osm.parquet")
    shifts = grown(plane, even(2, 2))
    done = write_aligned(tables_of(tmp_path / "osm.parquet", plane), shifts, tmp_path / "out.gpkg")
    out = pyogrio.read_dataframe(tmp_path / "out.gpkg")
    assert done.features == len(out) == 11
    assert out["source_id"].tolist() == frame["osm_id"].tolist()
    assert np.isfinite(out[["shift_east", "shift_north"]].to_numpy()).all()
    assert [g is None or g.is_empty for g in out.geometry[:3]] == [True, True, False]
    assert out.geometry[5].equals(shapes[5])
    assert out["shift_east"][2] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("column", ["fid", "geom", "shift_east", "source_id"])
def test_columns_of_our_names(plane, tmp_path, column):
    """A table that has such a column already."""
    frame = terrace(**{column: [7] * 11})
    frame.to_file(tmp_path / "osm.geojson", driver="GeoJSON")
    shifts = grown(plane, even(2, 2))
    write_aligned(tables_of(tmp_path / "osm.geojson", plane), shifts, tmp_path / "out.gpkg")
    out = pyogrio.read_dataframe(tmp_path / "out.gpkg")
    assert len(out) == 11
    assert out["osm_id"].tolist() == frame["osm_id"].tolist()


# -- OSM's own files


def osm_xml(*, roads=True, stamped=True):
    """Two houses that share a wall, and a road."""
    to = Transformer.from_crs(2154, 4326, always_xy=True)
    places = {
        1: (100, 100),
        2: (110, 100),
        3: (120, 100),
        4: (120, 120),
        5: (110, 120),
        6: (100, 120),
        7: (50, 140),
        8: (250, 140),
    }
    when = ' timestamp="2019-05-0{i}T10:00:00Z" version="2"' if stamped else ""
    text = ['<osm version="0.6">']
    for i, (x, y) in places.items():
        lon, lat = to.transform(LEFT + x, TOP - y)
        text.append(f'<node id="{i}" lon="{lon:.8f}" lat="{lat:.8f}"/>')
    ways = {11: ([1, 2, 5, 6, 1], "building"), 12: ([2, 3, 4, 5, 2], "building")}
    if roads:
        ways[13] = ([7, 8], "highway")
    for i, (nodes, key) in ways.items():
        value = "primary" if key == "highway" else "house"
        text.append(
            f'<way id="{i}"{when.format(i=i - 10)}>'
            + "".join(f'<nd ref="{n}"/>' for n in nodes)
            + f'<tag k="{key}" v="{value}"/><tag k="name" v="x"/></way>'
        )
    return "\n".join([*text, "</osm>"])


@pytest.mark.parametrize("roads", [True, False])
def test_an_osm_file_becomes_a_geopackage(plane, tmp_path, roads):
    (tmp_path / "a.osm").write_text(osm_xml(roads=roads))
    tables = tables_of(tmp_path / "a.osm", plane)
    done = write_aligned(tables, grown(plane, even(0, 3)), tmp_path / "out.gpkg")
    assert (done.features, done.moved) == (2 + roads, 2 + roads)
    areas = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="areas")
    assert areas["source_id"].tolist() == ["way/11", "way/12"]
    assert areas["building"].tolist() == ["house", "house"]
    a, b = areas.geometry
    assert shapely.intersection(a, b).length == pytest.approx(20 / 111_000, rel=0.2)
    if roads:
        lines = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="lines")
        assert lines["source_id"].tolist() == ["way/13"]
    again = open_labels(tmp_path / "out.gpkg", plane.labels.scheme, plane.scene.geobox)
    assert sorted(again.ids.tolist()) == [1, 1, 2][: 2 + roads]
    assert "OpenStreetMap" in again.credit


# -- where it goes


def test_it_is_written_whole_or_not_at_all(plane, tmp_path, monkeypatch):
    terrace().to_file(tmp_path / "osm.gpkg")
    tables, shifts = tables_of(tmp_path / "osm.gpkg", plane), grown(plane, even(1, 1))
    out = tmp_path / "made" / "out.gpkg"
    with pytest.raises(OutputError, match="there is no folder"):
        write_aligned(tables, shifts, out)
    out.parent.mkdir()
    write = pyogrio.write_dataframe

    def stopped(*words, **more):
        write(*words, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(pyogrio, "write_dataframe", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_aligned(tables, shifts, out)
    assert not list(out.parent.iterdir())
    monkeypatch.setattr(pyogrio, "write_dataframe", write)
    write_aligned(tables, shifts, out)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_aligned(tables, shifts, out)
    assert out.read_bytes() == before
    write_aligned(tables, shifts, out, overwrite=True)
    with pytest.raises(OutputError, match=r"ends in \.gpkg"):
        write_aligned(tables, shifts, out.with_name("out.shp"))
    assert [p.name for p in out.parent.iterdir()] == ["out.gpkg"]
