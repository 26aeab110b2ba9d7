"""The layer and the graph: columns, style, equal bytes, osmnx; and inputs that cannot be."""

import json
import logging
import sqlite3

import networkx as nx
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from geopipe.errors import ConfigError, OutputError, SceneError
from geopipe.raster.cog import write_class_cog
from geopipe.vectors.road_layer import road_table, write_roads
from geopipe.vectors.roads import RoadOptions, find_roads

TOWN = [[(-9, 40), (209, 40)], [(60, 40), (60, 109)], [(140, -9), (140, 40)]]


@pytest.fixture
def network(draw, scheme):
    return find_roads(draw(TOWN, (200, 100)), scheme=scheme)


def test_layer_has_columns_style_and_footprint(network, tmp_path):
    out = tmp_path / "roads.gpkg"
    counts = write_roads(network, out)
    assert counts == {
        "lines": 5,
        "km": pytest.approx(0.3, abs=0.003),
        "nodes": 6,
        "components": 1,
        "dead_ends": 4,
        "bridged_gaps": 0,
    }
    table = pyogrio.read_dataframe(out, layer="roads")
    assert list(table.columns) == [
        *("road_id", "class", "width_m", "length_m", "bridged_m", "mean_score", "score_q10"),
        *("source", "model_sha256", "geometry"),
    ]
    assert table.crs.to_epsg() == 2154
    assert list(table.road_id) == [1, 2, 3, 4, 5]
    assert set(table.source) == {"map.tif"}
    np.testing.assert_allclose(table.length_m, table.length, rtol=2e-3)
    # Lines that meet have the very same coordinates there.
    ends = {c for g in table.geometry for c in (g.coords[0], g.coords[-1])}
    assert len(ends) == 6
    footprint = pyogrio.read_info(out, layer="roads")["layer_metadata"]["footprint"]
    assert shapely.from_wkt(footprint).bounds == (789_000, 6_500_900, 789_200, 6_501_000)
    with sqlite3.connect(out) as db:
        ((style,),) = db.execute("SELECT styleQML FROM layer_styles WHERE useAsDefault")
    assert 'value="road"' in style


def test_equal_bytes(draw, scheme, tmp_path):
    path = draw(TOWN, (200, 100))
    files = []
    for name in ("a", "b"):
        out = tmp_path / name / "roads.gpkg"
        out.parent.mkdir()
        write_roads(find_roads(path, scheme=scheme), out, out.with_suffix(".graphml"))
        files.append((out.read_bytes(), out.with_suffix(".graphml").read_bytes()))
    assert files[0] == files[1]


def test_graph_opens_in_osmnx(network, tmp_path):
    import osmnx

    write_roads(network, tmp_path / "roads.gpkg", tmp_path / "roads.graphml")
    graph = osmnx.load_graphml(tmp_path / "roads.graphml")
    assert (len(graph), len(graph.edges)) == (6, 10)
    assert sorted(d for _, d in graph.nodes(data="street_count")) == [1, 1, 1, 1, 3, 3]
    nodes, edges = osmnx.graph_to_gdfs(graph)
    assert nodes.crs.to_epsg() == 4326
    assert set(edges.index.get_level_values("u")) == set(graph)
    table = road_table(network).set_index("road_id")
    for _, edge in edges.iterrows():
        assert edge["length"] == pytest.approx(table.length_m[edge["osmid"]], abs=0.01)
        assert float(edge["width"]) == pytest.approx(8, abs=0.5)
    a, b = (
        osmnx.nearest_nodes(osmnx.project_graph(graph, to_crs=2154), x, 6_500_960)
        for x in (789_000, 789_200)
    )
    assert nx.shortest_path_length(graph, a, b, weight="length") == pytest.approx(200, abs=1)


def test_names_and_model_come_from_the_map(draw, scheme, tmp_path):
    plain = draw(TOWN, (200, 100), name="plain.tif")
    out = tmp_path / "classes.tif"
    write_class_cog(plain, out, scheme, {"model_sha256": "ab" * 32})
    assert set(road_table(find_roads(out)).model_sha256) == {"ab" * 32}


def test_no_road_is_an_empty_layer_and_a_warning(draw, scheme, tmp_path, caplog):
    path = draw([[(10, 10), (18, 10)]], (100, 100))  # 8 m: shorter than a road
    network = find_roads(path, scheme=scheme)
    assert "no road of 20 m" in caplog.text
    assert write_roads(network, tmp_path / "roads.gpkg")["lines"] == 0
    assert len(pyogrio.read_dataframe(tmp_path / "roads.gpkg", layer="roads")) == 0
    with rasterio.open(path, "r+") as out:
        out.write(np.zeros((1, *out.shape), "uint8"))
    caplog.clear()
    assert not find_roads(path, scheme=scheme).graph
    assert "has no pixel of class 'road'" in caplog.text


def test_a_map_that_is_road_all_over_has_no_line(make_raster, scheme, caplog):
    path = make_raster(np.full((1, 150, 150), 2, "uint8"), nodata=255)
    with caplog.at_level(logging.WARNING):
        assert not find_roads(path, scheme=scheme).graph
    assert "100 % of the pixels of 'road' in" in caplog.text


def test_a_car_park_has_no_line_and_the_road_beside_it_has(draw, make_raster, scheme, caplog):
    path = draw([[(-9, 20), (409, 20)]], (400, 200))
    with rasterio.open(path, "r+") as out:
        ids = out.read(1)
        ids[160:320, 300:500] = 2  # 100 x 80 m, apart from the road
        out.write(ids, 1)
    (line,) = road_table(find_roads(path, scheme=scheme)).geometry
    assert line.length == pytest.approx(400, abs=1)
    assert "have no centre-line" in caplog.text


@pytest.mark.parametrize("bad", ["class", "crs", "bands", "shear", "scores", "names", "gap"])
def test_inputs_that_cannot_be(draw, make_raster, scheme, bad):
    from affine import Affine

    path, scores, options = draw(TOWN, (200, 100)), None, RoadOptions()
    error = SceneError
    if bad == "class":
        options, error = RoadOptions(class_name="rail"), ConfigError
        words = "has no class 'rail'.*background, building, road"
    elif bad == "crs":
        path, words = draw(TOWN, (200, 100), crs=None), "has no CRS"
    elif bad == "bands":
        path, words = make_raster(np.zeros((3, 9, 9), "uint8"), "rgb.tif"), "3 bands of uint8"
    elif bad == "shear":
        sheared = Affine(0.5, 0.2, 789_000, 0, -0.5, 6_501_000)
        path, words = draw(TOWN, (200, 100), transform=sheared), "sheared"
    elif bad == "scores":
        scores = make_raster(np.zeros((3, 9, 9), "uint8"), "scores.tif")
        words = "9 x 9 px from .* has 200 x 400 px"
    elif bad == "names":
        scores = draw(TOWN, (200, 100), name="other.tif")
        words = "no band 'road' or 'confidence'"
    else:
        error, words = ConfigError, "max_gap is -1"
    with pytest.raises(error, match=words):
        find_roads(
            path, scores, RoadOptions(max_gap=-1) if bad == "gap" else options, scheme=scheme
        )


def test_nothing_half_written(network, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr("geopipe.vectors.road_layer.add_layer_style", fail)
    with pytest.raises(OutputError, match="disk full"):
        write_roads(network, tmp_path / "roads.gpkg", tmp_path / "roads.graphml")
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".gpkg", ".part", ".graphml")]


def test_command_line(draw, tmp_path):
    from click.testing import CliRunner

    from geopipe.cli import main

    path, out = draw(TOWN, (200, 100)), tmp_path / "roads.gpkg"
    words = ["roads", path, "-o", out, "--classes", "buildings-roads", "--json"]
    words += ["--graphml", tmp_path / "roads.graphml"]
    run = CliRunner().invoke(main, [str(w) for w in words])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["lines"] == 5
    again = CliRunner().invoke(main, [str(w) for w in words])
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    judged = CliRunner().invoke(main, ["evaluate", str(out), str(out), "--json"])
    assert json.loads(judged.stdout)["apls"] == pytest.approx(1)
