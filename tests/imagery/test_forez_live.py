"""What `make forez-live` asks for, against answers shaped as the services document them."""

import json
import re
import shlex
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import geopandas as gpd
import osmnx
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from web_world import mercator_set, wfs, wmts, wmts_layer

from geopipe.classes import load_scheme
from geopipe.cli.main import main
from geopipe.errors import LabelError, OutputError, ServiceError
from geopipe.labels import fetch_labels, open_labels
from geopipe.labels.overpass import _wait_for_slot, slot_wait
from geopipe.labels.wfs import download_wfs
from geopipe.workflow.schema import load_workflow

ROOT = Path(__file__).parents[2]
BOUNDS = "4.0660 45.6050 4.0680 45.6065"
PLACE = GeoBox((200, 200), Affine(1, 0, 783_000, 0, -1, 6_502_000), "EPSG:2154")
WFS = "/wfs/ows"


def commands():
    """The downloads, as make would run them."""
    dry = ["make", "-n", "-o", "setup", "forez-live", f"FOREZ_BOUNDS={BOUNDS}"]
    lines = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"\|\| \S*geopipe (.*)", lines)
    return [shlex.split(line) for line in found]


def feature(number, lon, lat, size=1e-4):
    shape = shapely.box(lon, lat, lon + size, lat + size)
    about = {"cleabs": f"BATIMENT{number}", "nature": "Indifférenciée", "hauteur": 5.5}
    geometry = json.loads(shapely.to_geojson(shape))
    return {
        "type": "Feature",
        "id": f"batiment.{number}",
        "properties": about,
        "geometry": geometry,
    }


def test_the_downloads_of_make(world, tmp_path):
    layers = [
        wmts_layer("ORTHOIMAGERY.ORTHOPHOTOS", ("PM_0_19",), forms=("image/jpeg",)),
        wmts_layer("ORTHOIMAGERY.ORTHO-SAT.PLEIADES.2025", ("PM_0_19",)),
    ]
    world.documents["/wmts"] = "application/xml", wmts(layers, [mercator_set("PM_0_19", range(20))])
    world.documents[WFS] = "application/xml", wfs()
    inside = [feature(i, 4.0661 + i * 1e-4, 45.6055) for i in range(12)]
    world.features = [*inside, feature(99, 4.2, 45.6)]
    world.page = 5
    scene, vectors = commands()
    for words in (scene, vectors):
        line = [w.replace("https://data.geopf.fr", world.url) for w in words]
        line = [w.replace("outputs/forez-live", str(tmp_path)) for w in line]
        done = CliRunner().invoke(main, line)
        assert done.exit_code == 0, done.stderr
    with rasterio.open(tmp_path / "scene.tif") as src:
        assert (src.count, src.crs.to_epsg()) == (3, 3857)
        assert src.tags()["layer"] == "ORTHOIMAGERY.ORTHOPHOTOS"
        assert src.tags()["credit"]
    tiles = [dict(parse_qsl(urlsplit(r).query)) for r in world.requests if "GetTile" in r]
    wanted = {"SERVICE": "WMTS", "VERSION": "1.0.0", "STYLE": "normal", "FORMAT": "image/jpeg"}
    for tile in tiles:
        assert wanted.items() <= tile.items()
        assert (tile["TILEMATRIXSET"], tile["TILEMATRIX"]) == ("PM_0_19", "18")
    pages = [dict(parse_qsl(urlsplit(r).query)) for r in world.requests if "GetFeature" in r]
    assert [p.get("STARTINDEX") for p in pages] == [None, "0", "5", "10"]
    assert pages[0]["RESULTTYPE"] == "hits"
    assert pages[1]["TYPENAMES"] == "BDTOPO_V3:batiment"
    assert pages[1]["OUTPUTFORMAT"] == "application/json"
    assert pages[1]["BBOX"].startswith("45.60")
    frame = gpd.read_file(tmp_path / "bdtopo.gpkg")
    assert sorted(frame.cleabs) == sorted(f["properties"]["cleabs"] for f in inside)
    assert set(frame["class"]) == {"building"}
    with rasterio.open(tmp_path / "scene.tif") as src:
        box = GeoBox(src.shape, src.transform, src.crs)
    labels = open_labels(tmp_path / "bdtopo.gpkg", load_scheme("buildings"), box)
    assert labels.counts == (0, 12)
    assert labels.credit == "IGN, BD TOPO, Licence Ouverte 2.0"


FREE = "Connected as: 1\nRate limit: 2\n2 slots available now.\nCurrently running queries:\n"
BUSY = """Connected as: 1
Rate limit: 2
Slot available after: 2026-05-01T10:00:40Z, in 40 seconds.
Slot available after: 2026-05-01T10:00:07Z, in 7 seconds.
Currently running queries (pid, space limit, time limit, start time):
"""


def overpass(size=1e-4):
    """A house in the place, as Overpass writes it."""
    west, _, _, north = PLACE.extent.to_crs(4326).boundingbox
    lon, lat = west + 5e-4, north - 5e-4
    corners = [(lon, lat), (lon + size, lat), (lon + size, lat + size), (lon, lat + size)]
    nodes = [{"type": "node", "id": i, "lon": x, "lat": y} for i, (x, y) in enumerate(corners, 1)]
    way = {"type": "way", "id": 9, "nodes": [1, 2, 3, 4, 1], "tags": {"building": "house"}}
    return {"version": 0.6, "generator": "Overpass API", "elements": [*nodes, way]}


def test_openstreetmap_is_asked_once_after_the_status(world, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(osmnx.settings, "overpass_url", world.url + "/api")
    world.documents["/api/status"] = "text/plain", FREE.encode()
    found = json.dumps(overpass()).encode()
    world.documents["/api/interpreter"] = "application/json", found
    scheme = load_scheme("buildings")
    labels = open_labels(fetch_labels("fetch", PLACE, scheme), scheme, PLACE)
    assert labels.counts == (0, 1)
    assert "OpenStreetMap" in labels.credit
    assert world.requests == ["/api/status", "/api/interpreter"]
    assert world.agent.startswith("geopipe/")
    ((_, body),) = world.posts
    query = dict(parse_qsl(body))["data"]
    assert "building" in query
    assert "out;" in query
    assert "highway" not in query
    fetch_labels("fetch", PLACE, scheme)
    assert len(world.requests) == 2


@pytest.mark.parametrize(
    ("status", "seconds"),
    [(FREE, 0), (BUSY, 7), (BUSY + "1 slot available now.", 0), ("Rate limit: 0", 0), ("", 0)],
)
def test_a_busy_overpass_is_waited_for(world, client, status, seconds):
    world.documents["/api/status"] = "text/plain", status.encode()
    _wait_for_slot(client, world.url + "/api/")
    assert client.pauses == [seconds] * (seconds > 0)
    assert slot_wait(status) == seconds


@pytest.mark.parametrize("busy", [2, 9])
def test_a_busy_overpass_is_told_and_given_up(world, tmp_path, monkeypatch, caplog, busy):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(osmnx.settings, "overpass_url", world.url + "/api")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    found = json.dumps(overpass()).encode()
    world.documents["/api/interpreter"] = "application/json", found
    world.busy = busy
    if busy < 5:
        fetch_labels("fetch", PLACE, load_scheme("buildings"))
    else:
        with pytest.raises(LabelError, match=r"Overpass is busy \(HTTP 429, tried 5 times\)"):
            fetch_labels("fetch", PLACE, load_scheme("buildings"))
    told = "Overpass is busy (HTTP 429): asking again in a minute"
    assert caplog.messages.count(told) == min(busy, 4)
    assert len(world.posts) == min(busy + 1, 5)
    assert osmnx.settings.requests_kwargs == {}


def test_the_workflow_keeps_training_and_test_apart():
    workflow = load_workflow(ROOT / "workflows" / "forez-live.toml")
    roles = (workflow.train, workflow.enhance, workflow.test)
    assert [str(r.labels).endswith(("fetch", "bdtopo.gpkg")) for r in roles] == [True] * 3
    shapes = [gpd.read_file(r.area).to_crs(2154).union_all() for r in roles]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert shapes[a].distance(shapes[b]) > 80
    assert all(s.area > 5e5 for s in shapes)


# -- the WFS


@pytest.fixture
def buildings(world):
    world.documents[WFS] = "application/xml", wfs()
    lon, lat = gpd.GeoSeries([PLACE.extent.geom.centroid], crs=2154).to_crs(4326)[0].coords[0]
    world.features = [feature(i, lon + i * 1e-5, lat) for i in range(3)]
    return world


def test_credit_and_layer_are_those_of_the_service(buildings, client, tmp_path):
    out = tmp_path / "b.gpkg"
    url = buildings.url + WFS
    done = download_wfs(url, "BDTOPO_V3:batiment", PLACE, out, client=client)
    assert (done.features, done.credit) == (3, "IGN; Licence Ouverte 2.0")
    assert pyogrio.read_info(out)["layer_metadata"]["CREDIT"] == done.credit
    assert list(pyogrio.list_layers(out)[:, 0]) == ["batiment"]
    with pytest.raises(OutputError, match="exists already"):
        download_wfs(url, None, PLACE, out, client=client)
    with pytest.raises(ServiceError, match="has 2 layers"):
        download_wfs(url, None, PLACE, tmp_path / "c.gpkg", client=client)


def test_nothing_there(buildings, client, tmp_path):
    buildings.features = []
    with pytest.raises(LabelError, match="no feature in the scene"):
        download_wfs(buildings.url + WFS, "*batiment", PLACE, tmp_path / "b.gpkg", client=client)
    assert not list(tmp_path.iterdir())
