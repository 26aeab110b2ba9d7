"""Centre-lines: where they lie, what is pruned, merged and bridged, and that blocks do not show."""

import networkx as nx
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from geopipe.raster.cog import CONFIDENCE
from geopipe.vectors.road_layer import road_table
from geopipe.vectors.roads import RoadOptions, find_roads


def shapes_of(network):
    """The lines in metres from the map's upper left corner."""
    return [shapely.LineString(d["shape"]) for *_, d in network.graph.edges(data=True)]


def degrees_of(network):
    return sorted(degree for _, degree in network.graph.degree())


CROSS = [[(-12, 60), (132, 60)], [(48, -12), (72, 132)]]
"""In metres; both run on beyond a map of 120 x 120 m."""


def test_a_crossing_is_one_junction_of_four_lines(draw, scheme):
    network = find_roads(draw(CROSS, (120, 120)), scheme=scheme)
    assert degrees_of(network) == [1, 1, 1, 1, 4]
    (junction,) = (n for n, d in network.graph.degree() if d == 4)
    np.testing.assert_allclose(network.graph.nodes[junction]["xy"], (60, 60), atol=0.5)
    truth = shapely.MultiLineString(CROSS)
    assert max(truth.distance(shapely.Point(c)) for s in shapes_of(network) for c in s.coords) < 0.5
    table = road_table(network)
    np.testing.assert_allclose(table.width_m, 8.0, atol=0.5)
    np.testing.assert_allclose(sorted(table.length_m), [60, 60, 60.8, 60.8], atol=1.0)


def test_lines_run_to_the_edge_of_the_map_and_to_the_end_of_a_road(draw, scheme):
    lines = [[(0, 30), (200, 30)], [(100, 30), (100, 70)]]
    network = find_roads(draw(lines, (200, 100)), scheme=scheme)
    assert degrees_of(network) == [1, 1, 1, 3]
    left, top, right, bottom = shapely.MultiLineString(shapes_of(network)).bounds
    assert left == pytest.approx(0, abs=0.6)
    assert right == pytest.approx(200, abs=0.6)
    assert top == pytest.approx(30, abs=0.5)  # the side road does not bend the main one
    assert bottom == pytest.approx(70, abs=0.6)


def test_a_bump_is_no_road_and_a_side_road_is(draw, scheme):
    bump, side = [(50, 30), (50, 37)], [(120, 30), (120, 48)]
    network = find_roads(draw([[(0, 30), (200, 30)], bump, side], (200, 60)), scheme=scheme)
    assert degrees_of(network) == [1, 1, 1, 3]
    reach = shapely.MultiLineString(shapes_of(network)).bounds[3]
    assert reach == pytest.approx(48, abs=0.6)


def test_a_ring_without_junction_and_parallel_lines(draw, scheme):
    ring = shapely.Point(60, 60).buffer(40).exterior.coords[:]
    network = find_roads(draw([ring], (120, 120), width=6), scheme=scheme)
    (line,) = shapes_of(network)
    assert line.is_closed
    assert line.length == pytest.approx(2 * np.pi * 40, rel=0.02)
    path = draw([ring, [(-9, 60), (60, 60), (129, 60)]], (120, 120), width=6, name="across.tif")
    across = find_roads(path, scheme=scheme)
    assert degrees_of(across) == [1, 1, 4, 4]


def test_smoothing_moves_nothing_farther_than_it_says(draw, scheme):
    x = np.linspace(0, 200, 400)
    wave = np.column_stack([x, 40 + 12 * np.sin(x / 8)])
    path = draw([wave], (200, 80), width=7)
    for tolerance in (None, 0.2):
        network = find_roads(path, scheme=scheme, options=RoadOptions(tolerance=tolerance))
        ((_, _, data),) = network.graph.edges(data=True)
        raw, smooth = shapely.LineString(data["line"].xy), shapely.LineString(data["shape"])
        limit = 0.75 * 0.5 + 0.5 if tolerance is None else tolerance
        assert smooth.hausdorff_distance(raw) <= limit * 1.01
        assert len(smooth.coords) < len(raw.coords) / 3
        truth = shapely.LineString(wave)
        assert max(truth.distance(shapely.Point(c)) for c in smooth.coords[1:-1]) < 1


def gap_map(draw, make_raster, length, score, kind):
    """A road with a gap, and its scores, or the confidence, which are `score` for road there."""
    gap = shapely.box(100 - length / 2, 0, 100 + length / 2, 60)
    path = draw([[(0, 30), (200, 30)]], (200, 60), gap=gap)
    if kind is None:
        return path, None
    road = np.full((120, 400), 0.9)
    road[:, 200 - int(length) : 200 + int(length)] = score
    bands = np.round(250 * np.stack([1 - road, 0 * road, road])).astype(np.uint8)
    profile = {"transform": Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000), "nodata": 255}
    if kind == "scores":
        scores = make_raster(bands, "scores.tif", **profile)
        names = ("background", "building", "road")
    else:
        scores = make_raster(bands.max(axis=0)[None], "confidence.tif", **profile)
        names = (CONFIDENCE,)
    import rasterio

    with rasterio.open(scores, "r+") as out:
        for number, name in enumerate(names, start=1):
            out.set_band_description(number, name)
    return path, scores


@pytest.mark.parametrize(
    ("length", "score", "kind", "lines"),
    [
        (8, None, None, 1),
        (14, None, None, 2),
        (14, 0.4, "scores", 1),
        (14, 0.1, "scores", 2),
        (8, 0.1, "scores", 2),
        (14, 0.4, "confidence", 1),
        (14, 0.1, "confidence", 2),
        (26, 0.4, "scores", 2),
    ],
)
def test_gaps_are_bridged_where_the_scores_allow(
    draw, make_raster, scheme, length, score, kind, lines
):
    path, scores = gap_map(draw, make_raster, length, score, kind)
    network = find_roads(path, scores, scheme=scheme)
    table = road_table(network)
    assert len(table) == lines
    if lines == 1:
        assert table.length_m[0] == pytest.approx(200, abs=1)
        assert table.bridged_m[0] == pytest.approx(length, abs=1.5)
    if kind:
        np.testing.assert_allclose(table.mean_score, 0.9, atol=0.01)
        np.testing.assert_allclose(table.score_q10, 0.9, atol=0.01)
    else:
        assert table.mean_score.isna().all()


def test_an_end_is_joined_to_the_road_it_points_at_and_to_none_beside_it(draw, scheme):
    lines = [[(0, 20), (200, 20)], [(100, 32), (100, 80)], [(0, 90), (80, 90)]]
    network = find_roads(draw(lines, (200, 100), width=6), scheme=scheme)
    assert network.bridged == 1
    assert degrees_of(network) == [1, 1, 1, 1, 1, 3]
    assert nx.number_connected_components(network.graph) == 2


def test_blocks_do_not_show(draw, scheme):
    rng = np.random.default_rng(5)
    lines = [*CROSS, *(rng.uniform(0, 120, (2, 2)) for _ in range(6))]
    path = draw(lines, (120, 120), width=7)
    options = RoadOptions(max_width=20)
    whole = find_roads(path, scheme=scheme, options=options, block=4096)
    for block in (70, 130):
        parts = find_roads(path, scheme=scheme, options=options, block=block)
        assert [*parts.graph.edges] == [*whole.graph.edges]
        assert all(a.equals(b) for a, b in zip(shapes_of(parts), shapes_of(whole), strict=True))
        assert road_table(parts).equals(road_table(whole))


@pytest.mark.parametrize(
    ("length", "width", "parts_road"), [(30, 1, False), (50, 1, True), (38, 6, True)]
)
def test_blocks_do_not_show_in_a_strip_between_carriageways(
    draw, scheme, length, width, parts_road
):
    """It is as long (m) as several blocks and `width` pixels of 0.1 m wide: 3, 5 and 23 m2."""
    fine = Affine(0.1, 0, 789_000, 0, -0.1, 6_501_000)
    path = draw([[(-9, 50), (409, 50)]], (400, 100), width=40, transform=fine)  # a fifth of it
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as out:
        ids = out.read(1)
        ids[100 : 100 + width, 150 : 150 + 10 * length] = 0  # the road is 80 x 8 m
        out.write(ids, 1)
    options = RoadOptions(max_width=10)
    whole, parts = (find_roads(path, scheme=scheme, options=options, block=b) for b in (4096, 100))
    assert degrees_of(whole) == ([1, 1, 3, 3] if parts_road else [1, 1])
    assert road_table(parts).equals(road_table(whole))


def test_two_ends_that_meet_a_road_at_one_place_from_both_sides_make_a_crossing(draw, scheme):
    """Trees hide both mouths of a street that crosses another at a right angle."""
    lines = [[(-9, 60), (129, 60)], [(60, -9), (60, 50)], [(60, 70), (60, 129)]]
    network = find_roads(draw(lines, (120, 120), width=6), scheme=scheme)
    assert network.bridged == 2
    assert degrees_of(network) == [1, 1, 1, 1, 4]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        # Near Oslo a metre is two in Web Mercator, and a degree of longitude half one of latitude.
        ("EPSG:3857", Affine(1, 0, 1_196_000, 0, -1, 8_380_000)),
        ("EPSG:4326", Affine(9.03e-6, 0, 10.74, 0, -4.49e-6, 59.92)),
        # Rows that run to the north-east.
        (
            "EPSG:2154",
            Affine.translation(789_000, 6_501_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
        ),
    ],
)
def test_metres_on_the_ground_in_any_crs(draw, scheme, crs, transform):
    path = draw(CROSS, (120, 120), crs=crs, transform=transform)
    network = find_roads(path, scheme=scheme)
    table = road_table(network)
    np.testing.assert_allclose(table.width_m, 8.0, atol=0.5)
    np.testing.assert_allclose(sorted(table.length_m), [60, 60, 60.8, 60.8], rtol=0.02)
    # In the map's CRS the ends lie where the pixels do.
    ends = shapely.MultiPoint([c for g in table.geometry for c in (g.coords[0], g.coords[-1])])
    pixel = transform.a**2 + transform.d**2
    for col, row in ((0, 120), (239, 120), (101, 0), (139, 239)):
        there = shapely.Point(transform @ (col + 0.5, row + 0.5))
        assert ends.distance(there) < 3 * pixel**0.5
