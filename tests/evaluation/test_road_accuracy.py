"""Road lines against road lines: figures worked out by hand."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geopipe.errors import LabelError
from geopipe.evaluation.apls import apls, path_similarity
from geopipe.evaluation.evaluate import evaluate
from geopipe.evaluation.road_accuracy import compare_roads, evaluate_roads
from geopipe.evaluation.road_graph import RoadGraph
from geopipe.raster.geopackage import write_layer


def graph(*lines):
    return RoadGraph.of(np.array([shapely.LineString(line) for line in lines], object))


def test_lines_meet_at_vertices_and_ends_and_not_where_they_cross():
    crossing = graph([(0, 0), (100, 0)], [(50, -50), (50, 50)])
    assert (crossing.components, crossing.dangling, crossing.length) == (2, 4, 200)
    shared = graph([(0, 0), (50, 0), (100, 0)], [(50, -50), (50, 0), (50, 50)])
    assert (len(shared.lines), shared.components, shared.dangling) == (4, 1, 4)
    touching = graph([(0, 0), (100, 0)], [(50, 0.3), (50, 50)])
    assert (len(touching.lines), touching.components) == (3, 1)
    assert graph([(0, 0), (50, 0)], [(50, 2), (50, 50)]).components == 2
    # Ways cut into pieces are one line; a ring has no end.
    assert len(graph([(0, 0), (40, 0)], [(40, 0), (70, 0)], [(70, 0), (90, 9)]).lines) == 1
    ring = graph([(0, 0), (40, 0), (40, 40), (0, 0)])
    assert (len(ring.lines), ring.dangling, ring.components) == (1, 0, 1)


def test_control_points_are_at_most_so_far_apart_and_junctions_come_once():
    cross = graph([(0, 0), (60, 0)], [(60, 0), (180, 0)], [(60, 0), (60, 30)])
    on, at = cross.control_points(50)
    found = sorted(map(tuple, cross.points(on, at).round(6).tolist()))
    assert found == [(0, 0), (30, 0), (60, 0), (60, 30), (100, 0), (140, 0), (180, 0)]


def test_apls_of_hand_worked_networks():
    road = [(0, 0), (30, 0)]  # control points: 0 and 30 only, one way of 30 m
    assert apls(graph(road), graph(road)) == 1
    # The other network goes a way of 45 m between the same ends: 1 - 15 / 30 there; back its
    # own way of 45 m is 30 m here: 1 - 15 / 45.
    detour = [(0, 0), (15, -np.sqrt(22.5**2 - 15**2)), (30, 0)]
    there, back = (path_similarity(graph(a), graph(b)) for a, b in ((road, detour), (detour, road)))
    assert there == pytest.approx(1 - 15 / 30)
    assert back == pytest.approx(1 - 15 / 45)
    assert apls(graph(road), graph(detour)) == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))


def test_apls_of_a_broken_road():
    # Points at 0, 30, 60 (a side road of 12 m stands at 30, its own point at its end).
    truth = graph([(0, 0), (30, 0), (60, 0)], [(30, 0), (30, 12)])
    # Without the right half the ways to it are missing: 3 of 6. All others are as long.
    half = graph([(0, 0), (30, 0)], [(30, 0), (30, 12)])
    assert path_similarity(truth, half) == pytest.approx(3 / 6)
    assert path_similarity(half, truth) == pytest.approx(1)
    # Without the joint in the middle: only 0 - 30, 0 - (30, 12) and 30 - (30, 12) are left too.
    broken = graph([(0, 0), (30, 0)], [(30, 0), (30, 12)], [(36, 0), (60, 0)])
    assert path_similarity(truth, broken) == pytest.approx(3 / 6)
    assert apls(truth, graph()) == 0
    assert np.isnan(apls(graph(), truth))


def test_a_point_farther_than_four_metres_is_not_on_the_other_road():
    road, near, far = ([(0, y), (30, y)] for y in (0, 3.9, 4.1))
    assert apls(graph(road), graph(near)) == pytest.approx(1)
    assert apls(graph(road), graph(far)) == 0


def lines(*coordinates):
    return np.array([shapely.LineString(c) for c in coordinates], object)


def test_relaxed_precision_and_recall():
    truth = lines([(0, 0), (100, 0)])
    mapped = lines([(0, 1), (80, 1)], [(0, 50), (20, 50)])
    found = compare_roads(mapped, truth)
    assert found.precision == pytest.approx(0.8)
    # The true line from 80 to 82.83 lies within 3 m of the mapped line's end.
    assert found.recall == pytest.approx(0.83, abs=0.005)
    assert found.f1 == pytest.approx(2 * 0.8 * found.recall / (0.8 + found.recall))
    assert found.offset_m == pytest.approx(1)
    assert (found.mapped_km, found.truth_km) == (0.1, 0.1)
    assert (found.mapped_components, found.mapped_dead_ends) == (2, 4)
    nothing = compare_roads(lines(), truth)
    assert (nothing.recall, nothing.apls) == (0, 0)
    assert np.isnan(nothing.precision)
    assert nothing.to_dict()["precision"] is None
    assert "| nan | 0.000 |" in nothing.to_markdown()


@pytest.fixture
def write(tmp_path):
    def make(name, shapes, crs="EPSG:2154", **columns):
        place = [shapely.affinity.translate(s, 789_000, 6_501_000) for s in shapes]
        frame = gpd.GeoDataFrame(columns, geometry=place, crs=crs if crs != "lonlat" else 2154)
        frame = frame.to_crs(4326) if crs == "lonlat" else frame
        frame.to_file(tmp_path / name, driver="GPKG", layer=name.split(".")[0])
        return tmp_path / name

    return make


def test_files_in_two_crs_limited_to_an_area_and_to_roads(write):
    roads = write("roads.gpkg", lines([(0, 0), (100, 0)]))
    tags = {"highway": ["residential", "footway", "residential"]}
    shapes = lines([(0, 2), (100, 2)], [(0, 30), (100, 30)], [(300, 0), (400, 0)])
    truth = write("truth.gpkg", shapes, "lonlat", **tags)
    everything = evaluate_roads(roads, truth)
    assert (everything.precision, everything.recall) == pytest.approx((1, 1 / 3), abs=0.01)
    assert everything.truth_km == pytest.approx(0.3, rel=1e-3)
    area = write("area.gpkg", [shapely.box(0, -50, 200, 50)])
    assert evaluate_roads(roads, truth, area=area).recall == pytest.approx(0.5, abs=0.01)
    from geopipe.classes import load_scheme

    scheme = load_scheme("buildings-roads")
    found = evaluate_roads(roads, truth, area=area, scheme=scheme)
    assert found.recall == pytest.approx(1, abs=0.01)
    assert found.offset_m == pytest.approx(2, abs=0.01)


def test_files_that_cannot_be_compared(write, tmp_path):
    roads = write("roads.gpkg", lines([(0, 0), (100, 0)]))
    houses = write("houses.gpkg", [shapely.box(0, 0, 9, 9)])
    with pytest.raises(LabelError, match=r"has no lines.*'houses' \(Polygon\)"):
        evaluate_roads(roads, houses)
    with pytest.raises(LabelError, match="there is no file"):
        evaluate_roads(roads, tmp_path / "none.gpkg")
    with pytest.raises(LabelError, match=r"no layer 'x'.*'houses'"):
        evaluate_roads(roads, houses, layer="x")
    far = write("far.gpkg", [shapely.box(9000, 0, 9001, 9)])
    with pytest.raises(LabelError, match="lies where"):
        evaluate_roads(roads, roads, area=far)


def test_what_is_no_map_is_named(tmp_path):
    truth = gpd.GeoDataFrame(
        geometry=[shapely.LineString([(5e5, 5e6), (5e5 + 90, 5e6)])], crs=32631
    )
    truth.to_file(tmp_path / "t.gpkg")
    write_layer(truth.iloc[:0], tmp_path / "m.gpkg", "roads", geometry_type="LineString")
    with pytest.raises(LabelError, match=r"m.gpkg holds no line"):
        evaluate(tmp_path / "m.gpkg", tmp_path / "t.gpkg")
    points = gpd.GeoDataFrame(geometry=truth.centroid, crs=32631)
    points.to_file(tmp_path / "p.gpkg")
    with pytest.raises(LabelError, match=r"p.gpkg holds Point, neither lines alone nor polygons"):
        evaluate(tmp_path / "p.gpkg", tmp_path / "t.gpkg")
