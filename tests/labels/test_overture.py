"""Overture's GeoParquet over HTTP: the row groups of the place are read, ages and credit kept."""

import io
import json
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geopipe.classes import ClassScheme, load_scheme
from geopipe.errors import LabelError, ServiceError
from geopipe.labels import fetch_labels, fetched_file, open_labels, overture
from geopipe.labels.extent import LONLAT, Extent, scene_bounds
from geopipe.labels.tables import open_tables
from geopipe.web import Client

RELEASE = "2026-10-21.0"
GROUP = 50


class Release(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        data = self.server.files.get(self.path)
        span = self.headers.get("Range", "").removeprefix("bytes=")
        self.server.log.append((self.path, span))
        if data is None:
            return self.answer(404, b"")
        if not span or self.server.no_ranges:
            return self.answer(200, data)
        first, last = span.split("-")
        start = int(first) if first else max(0, len(data) - int(last))
        part = data[start : int(last) + 1 if first else len(data)]
        about = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return self.answer(206, part, about)

    def answer(self, status, body, part=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        self.wfile.write(body)


def as_box(bounds):
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True))


def parquet(rows):
    """Rows as in a file of a release, in groups of `GROUP` in the order of longitude."""
    rows = sorted(rows, key=lambda r: r["geometry"].bounds)
    table = {k: [r.get(k) for r in rows] for k in rows[0] if k != "geometry"}
    boxes = [as_box(r["geometry"].bounds) for r in rows]
    rng = np.random.default_rng(0)
    kind = pa.struct([(k, pa.float32()) for k in ("xmin", "xmax", "ymin", "ymax")])
    table = pa.table(
        {
            **table,
            "geometry": [shapely.to_wkb(r["geometry"]) for r in rows],
            "bbox": pa.array(boxes, kind),
            "names": [rng.bytes(400).hex() for _ in rows],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=GROUP, compression="zstd")
    return buffer.getvalue()


def source(dataset="OpenStreetMap", when="2023-05-01T10:00:00Z", terms="ODbL-1.0"):
    return {
        "property": "", "dataset": dataset, "record_id": "w1@2", "update_time": when,
        "confidence": None, "license": terms,
    }  # fmt: skip


def building(shape, number, **more):
    return {
        "id": f"b{number}", "geometry": shape, "subtype": None, "class": None,
        "is_underground": False, "sources": [source()], **more,
    }  # fmt: skip


def segment(shape, number, **more):
    return {
        "id": f"s{number}", "geometry": shape, "subtype": "road", "class": "residential",
        "subclass": None, "road_flags": None, "width_rules": None, "sources": [source()], **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def place():
    """The scene's bounds in degrees: 200 x 200 m."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    return GeoBox((200, 200), Affine(1, 0, 789_000, 0, -1, 6_501_000), "EPSG:2154")


@pytest.fixture(scope="module")
def server(place):
    to = Extent(place).local
    shapes = gpd.GeoSeries(
        [
            shapely.box(-60, -20, -40, 0),
            shapely.box(20, 20, 40, 40),
            shapely.box(0, 60, 20, 80),
            shapely.LineString([(-90, -50), (90, -50)]),
            shapely.LineString([(-90, 50), (90, 50)]),
            shapely.LineString([(60, -90), (60, 90)]),
        ],
        crs=to,
    ).to_crs(LONLAT)
    microsoft = source("Microsoft ML Buildings", "2021-01-01", "ODbL-1.0")
    near = [
        building(shapes[0], 0, subtype="residential", **{"class": "house"}),
        building(shapes[1], 1, sources=[source(when="2020-02-02T00:00:00Z"), microsoft]),
        building(shapes[2], 2, is_underground=True),
    ]
    tunnel = [{"values": ["is_tunnel"], "between": [0.25, 0.5]}]
    roads = [
        segment(shapes[3], 0, width_rules=[{"value": 5.5, "between": None}]),
        segment(shapes[4], 1, road_flags=tunnel, **{"class": "primary", "subclass": "link"}),
        segment(shapes[5], 2, subtype="rail", **{"class": "standard_gauge"}),
    ]
    far = [
        building(shapely.box(x, 45, x + 1e-4, 45.0001), f"-{x}") for x in np.linspace(-60, 0, 500)
    ]
    made = ThreadingHTTPServer(("127.0.0.1", 0), Release)
    made.daemon_threads = True
    url = f"http://127.0.0.1:{made.server_port}"
    west, south, east, north = shapes.total_bounds
    listing = [
        ("building", (-61, 44, 5, 47), "/b0.parquet"),
        ("building", (100, 0, 120, 10), "/b1.parquet"),
        ("segment", (west, south, east, north), "/s0.parquet"),
        ("place", (-180, -90, 180, 90), "/p.parquet"),
    ]
    boxes = [dict(zip(("xmin", "ymin", "xmax", "ymax"), b, strict=True)) for _, b, _ in listing]
    index = io.BytesIO()
    assets = [
        {"aws": {"href": url + p}, "azure": {"href": "https://azure.invalid" + p}}
        for *_, p in listing
    ]
    pq.write_table(
        pa.table({"collection": [c for c, *_ in listing], "bbox": boxes, "assets": assets}), index
    )
    links = [{"rel": "child", "href": f"./{r}/catalog.json"} for r in ("2026-09-23.1", RELEASE)]
    made.files = {
        "/catalog.json": json.dumps({"latest": RELEASE, "links": links}).encode(),
        f"/{RELEASE}/collections.parquet": index.getvalue(),
        "/b0.parquet": parquet(far + near),
        "/s0.parquet": parquet(roads),
    }
    made.url = url
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.shutdown()


@pytest.fixture
def release(server, monkeypatch, tmp_path):
    server.log, server.no_ranges = [], False
    monkeypatch.setattr(overture, "CATALOG", server.url)
    monkeypatch.setattr(overture, "Client", lambda: Client(rate=1e6))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return server


@pytest.fixture
def scheme():
    return load_scheme("buildings-roads")


def read(place, scheme, name=None):
    client = Client(rate=1e6, sleep=lambda s: None)
    return overture.read_overture(scene_bounds(place), scheme, name, client)


def test_what_is_read_and_what_is_not(release, place, scheme):
    frames, credit = read(place, scheme)
    rows = frames["building"].set_index("source_id")
    assert list(rows.index) == ["b0", "b2", "b1"]
    assert dict(rows.building) == {"b0": "house", "b1": "yes", "b2": "yes"}
    assert rows.location["b2"] == "underground"
    assert credit == (
        "(c) OpenStreetMap contributors, ODbL 1.0; Overture Maps Foundation, release 2026-10-21.0; "
        "Microsoft ML Buildings (ODbL-1.0)"
    )
    paths = [path for path, _ in release.log]
    assert "/b1.parquet" not in paths
    assert "/p.parquet" not in paths
    data = release.files["/b0.parquet"]
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    groups = overture.meeting_groups(metadata, scene_bounds(place))
    assert groups == [metadata.num_row_groups - 1]
    assert metadata.num_row_groups == 11


def test_only_the_ranges_of_the_place_are_asked_for(release, place, scheme, monkeypatch):
    monkeypatch.setattr(overture, "_TAIL", 20_000)
    read(place, load_scheme("buildings"))
    spans = [span for path, span in release.log if path == "/b0.parquet"]
    assert spans[0] == "-20000"
    size = len(release.files["/b0.parquet"])
    fetched = 20_000 + sum(int(b) - int(a) + 1 for a, b in (s.split("-") for s in spans[1:]))
    assert fetched < size / 2
    assert not [p for p, _ in release.log if p == "/s0.parquet"]


def test_roads_are_cut_where_they_are_hidden(release, place, scheme):
    frames, _ = read(place, scheme)
    rows = frames["highway"]
    plain = rows[rows.source_id == "s0"]
    assert (plain.highway.item(), plain.width.item()) == ("residential", "5.5")
    parts = rows[rows.source_id == "s1"].to_crs(Extent(place).local)
    assert list(parts.highway) == ["primary_link"] * 3
    assert [t == "yes" for t in parts.tunnel] == [False, True, False]
    assert list(parts.length) == pytest.approx([45, 45, 90], rel=1e-3)
    assert "s2" not in set(rows.source_id)


def test_as_labels_with_their_ages_and_credit(release, place, scheme):
    path = fetch_labels("overture", place, scheme)
    labels = open_labels(path, scheme, place)
    assert labels.counts == (0, 2, 3)
    assert labels.credit.startswith("(c) OpenStreetMap contributors, ODbL 1.0; Overture Maps")
    ids = labels.read(place)
    assert (ids == 1).sum() == pytest.approx(2 * 400, abs=50)
    tables = {t.name: t for t in open_tables(path, scheme, Extent(place))}
    table = tables["building"]
    dates = dict(zip(table.frame.source_id, table.dates, strict=True))
    assert dates == {"b0": "2023-05-01", "b1": "2021-01-01", "b2": "2023-05-01"}
    kept = json.loads(table.frame.sources[list(table.frame.source_id).index("b1")])
    assert [s["dataset"] for s in kept] == ["OpenStreetMap", "Microsoft ML Buildings"]
    asked = len(release.log)
    assert (
        fetch_labels("overture", place, scheme) == path == fetched_file("overture", place, scheme)
    )
    assert len(release.log) == asked
    other = fetched_file(f"overture:{RELEASE}", place, scheme)
    assert other != path
    assert fetch_labels(f"overture:{RELEASE}", place, scheme) == other
    assert date.fromisoformat(dates["b0"])


def test_a_release_that_is_not_there(release, place, scheme):
    with pytest.raises(ServiceError, match=r"no release 2020-01-01\.0") as caught:
        read(place, scheme, "2020-01-01.0")
    assert RELEASE in caught.value.hint


def test_nothing_there_and_no_class_of_it(release, scheme, place):
    client = Client(rate=1e6)
    with pytest.raises(LabelError, match=r"Overture 2026-10-21.0 has no building or highway in"):
        overture.read_overture((10, 0, 10.1, 0.1), scheme, None, client)
    water = {
        "name": "water",
        "color": "#0000ff",
        "rules": [{"geometry": "polygon", "tags": {"natural": ["water"]}}],
    }
    others = ClassScheme.from_dict(
        {"name": "w", "classes": [{"name": "land", "color": "#00ff00"}, water]}
    )
    with pytest.raises(LabelError, match="no class of the scheme 'w' has a rule for building"):
        overture.read_overture((10, 0, 10.1, 0.1), others, None, client)


def test_answers_that_are_none(release, place, scheme, monkeypatch):
    release.no_ranges = True
    with pytest.raises(ServiceError, match=r"cannot be read in parts \(HTTP 200\)"):
        read(place, scheme)
    release.no_ranges = False
    for path, body, message in (
        ("/b0.parquet", b"no parquet" * 99, "cannot read .*b0.parquet"),
        (f"/{RELEASE}/collections.parquet", b"<html>", "does not list the files"),
        ("/catalog.json", b"<html><title>Moved</title></html>", "HTML that is no STAC catalog"),
    ):
        monkeypatch.setitem(release.files, path, body)
        with pytest.raises(ServiceError, match=message):
            read(place, scheme)
    with pytest.raises(ServiceError):
        fetch_labels("overture", place, scheme)
    cache = fetched_file("overture", place, scheme).parent
    assert not list(cache.iterdir())
