"""No file that is opened as labels, scene, truth, area, points or query runs what it says."""

import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pyogrio
import pytest
import shapely
from odc.geo.geobox import GeoBox

from geopipe.classes import load_scheme
from geopipe.errors import GeopipeError
from geopipe.evaluation.assess.design import read_points
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.labels import Area, open_labels
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables
from geopipe.raster import Scene
from geopipe.raster.chips import Chip
from geopipe.raster.drivers import RASTERS, VECTORS, restrict_vectors

NAMES = ("f.geojson", "f.gpkg", "f.shp", "f.json", "f.txt", "f.tif", "f.vrt", "f.parquet", "f.osm")
SCHEME = load_scheme("buildings")


@pytest.fixture
def canary(tmp_path):
    """A folder with a file that nothing may change, and a file of labels."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "victim.gpkg").write_bytes(b"precious")
    feature = {
        "type": "Feature",
        "properties": {"building": "yes"},
        "geometry": {"type": "Point", "coordinates": [4, 45]},
    }
    (folder / "in.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    return folder


def streamed(folder):
    """What GDAL's driver GDALG runs when it opens it: a pipeline that replaces the victim."""
    command = (
        f"gdal vector pipeline ! read {folder / 'in.geojson'} ! materialize --output "
        f"{folder / 'victim.gpkg'} --overwrite ! write --output-format stream streamed"
    )
    return json.dumps({"type": "gdal_streamed_alg", "command_line": command})


def state(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def plane():
    return GeoBox.from_bbox((789_000, 6_500_900, 789_100, 6_501_000), "EPSG:2154", shape=(100, 100))


@pytest.fixture
def class_map(make_raster):
    return make_raster(np.zeros((1, 100, 100), np.uint8), "map.tif")


OPENERS = {
    "labels": lambda path, _: open_labels(path, SCHEME, plane()),
    "labels check": lambda path, _: open_tables(path, SCHEME, Extent(plane())),
    "area": lambda path, _: Area.open(path, plane()),
    "scene": lambda path, _: Scene.open(path),
    "truth": lambda path, class_map: evaluate_map(class_map, path, scheme=SCHEME),
    "map": lambda path, class_map: evaluate_map(path, class_map, scheme=SCHEME),
    "points": lambda path, _: read_points(path),
    "chip": lambda path, _: Chip(str(path)).read(),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", OPENERS)
def test_a_file_with_a_command_line_runs_nothing(tmp_path, canary, class_map, role, name):
    before = state(canary)
    path = tmp_path / name
    path.write_text(streamed(canary))
    with pytest.raises(GeopipeError) as error:
        OPENERS[role](path, class_map)
    assert state(canary) == before
    assert name in error.value.message
    assert "\n" not in str(error.value)


def test_without_the_list_of_drivers_the_file_does_harm(tmp_path, canary):
    """The pinned GDAL has the driver; were it not so, the test above would show nothing."""
    path = tmp_path / "f.geojson"
    path.write_text(streamed(canary))
    code = (
        "import pyogrio; 'GDALG' in pyogrio.list_drivers() or exit(3); "
        f"pyogrio.list_layers({str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    if done.returncode == 3:
        pytest.skip("this GDAL has no GDALG")
    victim = canary / "victim.gpkg"
    assert not victim.exists() or victim.read_bytes() != b"precious"


def _open_there(path):
    try:
        open_labels(path, SCHEME, plane())
    except GeopipeError as e:
        return e.message, sorted(pyogrio.list_drivers())
    return None, None


def test_a_worker_of_dask_runs_nothing(tmp_path, canary):
    from distributed import Client

    before = state(canary)
    path = tmp_path / "f.geojson"
    path.write_text(streamed(canary))
    with Client(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as client:
        message, drivers = client.submit(_open_there, path).result(timeout=60)
    assert "f.geojson" in message
    assert "GDALG" not in drivers
    assert state(canary) == before


def test_the_drivers_that_are_left_are_those_listed():
    restrict_vectors()
    left = set(pyogrio.list_drivers())
    assert left <= {*VECTORS, *RASTERS, "MEM", "Memory"}
    assert {"GPKG", "GeoJSON", "ESRI Shapefile", "FlatGeobuf"} <= left


@pytest.fixture
def server():
    """An HTTP server: its address, and the list of what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}", asked
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("kind", ["link", "url"])
def test_a_crs_that_is_a_link_is_not_asked_for(tmp_path, server, kind):
    address, asked = server
    crs = {"type": kind, "properties": {"href": f"{address}/crs", "url": f"{address}/crs"}}
    shape = shapely.Point(4.15, 45.6).buffer(0.1)
    feature = {
        "type": "Feature",
        "properties": {"building": "yes"},
        "geometry": shapely.geometry.mapping(shape),
    }
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    open_tables(path, SCHEME, Extent(plane()))
    assert asked == []


def test_kml_links_and_vrts_of_vectors_ask_nobody(tmp_path, server):
    address, asked = server
    kml = tmp_path / "f.kml"
    kml.write_text(
        '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><NetworkLink><Link><href>'
        f"{address}/k.kml</href></Link></NetworkLink></Document></kml>"
    )
    vrt = tmp_path / "f.vrt"
    vrt.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="f"><SrcDataSource>/vsicurl/{address}/f.geojson'
        "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    for path in (kml, vrt):
        with pytest.raises(GeopipeError):
            open_labels(path, SCHEME, plane())
    assert asked == []
    with pytest.raises(GeopipeError, match="--allow-remote"):
        open_labels(vrt, SCHEME, plane())


def test_a_vrt_of_vectors_with_a_query_is_refused(tmp_path):
    path = tmp_path / "f.vrt"
    path.write_text(
        '<OGRVRTDataSource><OGRVRTLayer name="f"><SrcDataSource>a.gpkg</SrcDataSource>'
        "<SrcSQL>select 1</SrcSQL></OGRVRTLayer></OGRVRTDataSource>"
    )
    with pytest.raises(GeopipeError, match="holds a query in SQL"):
        open_labels(path, SCHEME, plane())


def test_a_plain_vrt_of_vectors_is_read(tmp_path):
    import geopandas as gpd

    house = shapely.box(789_010, 6_500_950, 789_020, 6_500_960)
    frame = gpd.GeoDataFrame({"building": ["yes"]}, geometry=[house], crs=2154)
    frame.to_file(tmp_path / "a.gpkg", layer="a")
    path = tmp_path / "f.vrt"
    path.write_text(
        '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource relativeToVRT="1">a.gpkg'
        "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    assert (open_labels(path, SCHEME, plane()).read(plane()) == 1).sum() == 100


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", OPENERS)
def test_a_named_pipe_is_refused_at_once(tmp_path, class_map, role, name):
    import os

    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(GeopipeError, match="is a named pipe, not a file"):
        OPENERS[role](path, class_map)
