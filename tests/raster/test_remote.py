"""Scenes behind a network, read from a server of our own that sometimes fails.

The server runs in a process of its own (this file, as a script): rasterio holds Python's lock in
some of its requests, so a server in the same process could never answer them.
"""

import http.server
import json
import logging
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.env import get_gdal_config
from rasterio.windows import Window as RioWindow

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster import Scene, opening, remote
from geopipe.raster.scene import opened

FOREZ = Affine(1, 0, 789_000, 0, -1, 6_501_000)


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    """Serves ranges of the files in `root`, and fails where the address says so.

    ``/KIND-TIMES-FROM-TO/NAME``: each of the requests for another range that starts between the
    bytes FROM and TO fails TIMES times. KIND: a status; "reset", "close", "short" (the connection
    ends before, before or amid the answer); "lie" (an eighth of it, and the headers agree); "hang".
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock: ClassVar = threading.Lock()
    seen: ClassVar = Counter()
    log: ClassVar = []

    def __init__(self, *args, root, **kwargs):
        self.root = root
        super().__init__(*args, **kwargs)

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.path == "/log":
            return self.answer(200, json.dumps(self.log).encode())
        spec, _, name = self.path.partition("?")[0][1:].partition("/")
        data = (self.root / name).read_bytes() if (self.root / name).is_file() else None
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(span[1]), int(span[2] or 10**12)) if span else (0, 10**12)
        fault = self.fault(spec, first)
        with self.lock:
            self.log.append([self.command, name, first, fault])
        if fault == "hang":
            return time.sleep(60)
        if fault in ("reset", "close"):
            return self.hang_up(reset=fault == "reset")
        if fault.isdigit() or data is None:
            return self.answer(int(fault or 404), b"")
        part, size = data[first : last + 1], len(data)
        headers = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{size}"} if span else {}
        if fault == "lie":
            part = part[: len(part) // 8]
        return self.answer(206 if span else 200, part, headers, short=fault == "short")

    def fault(self, spec, first):
        kind, times, start, stop = [*spec.split("-"), *("0", "0", "9" * 9)[spec.count("-") :]]
        with self.lock:
            self.seen[self.command, self.path, first] += 1
            failed = self.seen[self.command, self.path, first] > int(times)
        return "" if failed or not int(start) <= first < int(stop) else kind

    def answer(self, status, body, headers=None, short=False):
        self.send_response(status)
        for key, value in {"Accept-Ranges": "bytes", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 8] if short else body)
        if short:
            self.hang_up()

    def hang_up(self, reset=False):
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args):
        pass


class Running:
    """The server in its own process."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def requests(self):
        """[method, file, first byte, fault] of each so far."""
        with urllib.request.urlopen(f"{self.url}/log") as answer:
            return json.loads(answer.read())

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def consented():
    """A VRT may refer to files on a network."""
    with remote.consent(True):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_raster_at):
    """Files whose parts are asked for one by one.

    ``deflate`` in blocks of its own, ``masked`` with its mask at the end of the file, ``fine`` with
    so many blocks that their places do not come with the header.
    """
    folder = tmp_path_factory.mktemp("served")
    rng = np.random.default_rng(0)
    data = rng.integers(1, 255, (3, 512, 512), np.uint8)
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "interleave": "pixel"}
    make_raster_at(folder / "deflate.tif", data, compress="deflate", **tiles)
    mask = np.kron(rng.random((16, 16)) < 0.7, np.ones((32, 32))).astype(bool)
    make_raster_at(folder / "masked.tif", data, mask=mask, compress="deflate", **tiles)
    jpeg = {"compress": "jpeg", "photometric": "ycbcr"}
    make_raster_at(folder / "jpeg.tif", data, mask=mask, **jpeg, **tiles)
    tiny = {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"}
    make_raster_at(folder / "fine.tif", rng.integers(1, 255, (4, 1024, 1024), np.uint8), **tiny)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    running = Running(folder)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """No pauses, and GDAL itself gives up at once."""
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01, 0.01, 0.01, 0.01))
    yield
    opening.release()


def assert_as_local(scene, folder, window):
    local = Scene.open(folder / Path(scene.path).name).read(window)
    raster = scene.read(window)
    np.testing.assert_array_equal(raster.data, local.data)
    np.testing.assert_array_equal(raster.valid, local.valid)
    assert raster.geobox == local.geobox


FILES = ["deflate.tif", "masked.tif", "jpeg.tif", "fine.tif"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["503", "500", "429", "reset", "close", "short", "lie"])
def test_each_request_fails_once_and_the_pixels_are_the_local_ones(server, folder, fault, name):
    before = len(server.requests())
    scene = Scene.open(f"{server.url}/{fault}-1/{name}")
    assert_as_local(scene, folder, Window(-10, 100, 80, 70))
    assert_as_local(scene, folder, Window(400, 300, 112, 112))
    assert any(r[3] for r in server.requests()[before:])


@pytest.mark.parametrize("fault", ["503", "reset", "408"])
def test_gdal_itself_tries_again(server, folder, fault, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "3")
    monkeypatch.setattr(remote, "PAUSES", ())
    assert_as_local(Scene.open(f"{server.url}/{fault}-2/deflate.tif"), folder, Window(0, 0, 99, 99))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["503", "short", "lie"])
def test_no_part_is_left_out_without_a_word(server, folder, fault, name, monkeypatch):
    """GDAL calls a read a success that lacks the mask, the nodata value or a block's place."""
    monkeypatch.setattr(remote, "PAUSES", ())
    size = (folder / name).stat().st_size
    refused = 0
    for start in np.linspace(1, size - 1, 12, dtype=int):
        try:
            scene = Scene.open(f"{server.url}/{fault}-9-{start}/{name}")
            assert_as_local(scene, folder, Window(0, 0, 40, 40))
            height, width = scene.shape
            assert_as_local(scene, folder, Window(height - 42, width - 42, 42, 42))
        except SceneError as e:
            assert f"{server.url}/{fault}-9-{start}/{name}" in str(e)  # noqa: PT017
            refused += 1
        opening.release()
    assert refused


@pytest.mark.parametrize("fault", ["short", "lie"])
def test_a_block_whose_place_in_the_file_was_not_fetched(server, folder, fault, monkeypatch):
    """GDAL gives the pixels at the file's start for it and calls that a success."""
    row, col = 2496, 1024
    with rasterio.open(
        folder / "places.tif",
        "w",
        driver="GTiff",
        count=1,
        width=4096,
        height=4096,
        dtype="uint8",
        tiled=True,
        blockxsize=16,
        blockysize=16,
        sparse_ok=True,
        crs="EPSG:2154",
        transform=FOREZ,
    ) as dst:
        dst.write(np.full((1, 64, 64), 9, np.uint8), window=RioWindow(col, row, 64, 64))
    data = (folder / "places.tif").read_bytes()
    tags = dict(struct.unpack_from("<HHII", data, 10 + 12 * i)[::3] for i in range(data[8]))
    place = tags[324] + 4 * (row // 16 * 256 + col // 16)  # tag 324: TileOffsets
    chunk = place // 65536 * 65536  # GDAL fetches 64 kB at a time
    assert place - chunk > 10_000  # more than an eighth
    address = f"{server.url}/{fault}-1-{chunk}-{chunk + 1}/places.tif"
    before = len(server.requests())
    assert_as_local(Scene.open(address), folder, Window(row, col, 64, 64))
    assert [r[3] for r in server.requests()[before:] if r[2] == chunk] == [fault, ""]
    monkeypatch.setattr(remote, "PAUSES", ())
    with pytest.raises(SceneError, match="rows 2496-2560, columns 1024-1088"):
        Scene.open(f"{address}?once").read(Window(row, col, 64, 64))


def test_a_server_that_is_gone_for_good(folder, caplog):
    server = Running(folder)
    scene = Scene.open(f"{server.url}/ok/deflate.tif")
    assert_as_local(scene, folder, Window(0, 0, 9, 9))
    server.stop()
    caplog.set_level(logging.INFO, "geopipe")
    start = time.monotonic()
    with pytest.raises(SceneError) as error:
        scene.read(Window(-4, 200, 204, 150))
    assert time.monotonic() - start < 5
    assert f"{server.url}/ok/deflate.tif" in error.value.message
    assert "rows 0-200, columns 200-350" in error.value.message
    assert re.search("tried 6 times in [01] s", error.value.hint)
    assert len(caplog.records) == 5
    with pytest.raises(SceneError, match=f"cannot open {server.url}/ok/deflate.tif"):
        Scene.open(scene.path)


def test_a_server_that_never_answers(server, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE_S", 0)
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    start = time.monotonic()
    with pytest.raises(SceneError, match="tried 1 times"):
        Scene.open(f"{server.url}/hang-9/deflate.tif")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "check the address"), (403, "credentials"), (401, "credentials")]
)
def test_a_final_answer_is_not_asked_for_again(server, status, hint):
    before = len(server.requests())
    with pytest.raises(SceneError, match=f"{status}.*{hint}"):
        Scene.open(f"{server.url}/{status}-999/deflate.tif?final")
    assert len(server.requests()) - before <= 2


def test_a_scene_stays_open_between_reads(server, folder):
    scene = Scene.open(f"{server.url}/ok/deflate.tif?kept")
    scene.read(Window(0, 0, 100, 100))
    before = len(server.requests())
    scene.read(Window(10, 10, 50, 50))  # a block that is in memory
    assert len(server.requests()) == before
    scene.read(Window(300, 300, 200, 200))
    assert {r[0] for r in server.requests()[before:]} == {"GET"}


def test_secrets_of_an_address_are_not_shown(server, caplog, capfd):
    caplog.set_level(logging.INFO, "geopipe")
    address = f"{server.url}/503-99/deflate.tif?X-Amz-Signature=abc123&part=7&sig=abc123"
    with pytest.raises(SceneError, match="part=7") as error:
        Scene.open(address)
    login = address.replace("//", "//user:abc123@").replace("503-99", "503-99-300")
    with pytest.raises(SceneError) as other:
        Scene.open(login).read()
    told = f"{error.value}{other.value}{caplog.text}{capfd.readouterr()}"
    assert "tried 6 times" in told
    assert "abc123" not in told


# Virtual rasters


def vrt(path, *sources):
    """A mosaic of 512 x 512 pixels each, side by side, one band."""
    size = 'yOff="0" xSize="512" ySize="512"'
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="0">{s}</SourceFilename>'
        f'<SourceBand>1</SourceBand><SrcRect xOff="0" {size}/><DstRect xOff="{512 * i}" {size}/>'
        "</SimpleSource>"
        for i, s in enumerate(sources)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{512 * len(sources)}" rasterYSize="512"><SRS>EPSG:2154</SRS>'
        "<GeoTransform>789000, 1, 0, 6501000, 0, -1</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1">{parts}</VRTRasterBand></VRTDataset>'
    )
    return path


@pytest.mark.parametrize("fault", ["503", "short", "reset"])
@pytest.mark.usefixtures("consented")
def test_a_vrt_whose_sources_are_remote(server, folder, tmp_path, fault):
    names = ("deflate.tif", "masked.tif")
    far = vrt(tmp_path / "far.vrt", *(f"/vsicurl/{server.url}/{fault}-1/{n}" for n in names))
    near = vrt(tmp_path / "near.vrt", *(folder / n for n in names))
    raster, local = (Scene.open(p).read(Window(5, 400, 200, 200)) for p in (far, near))
    np.testing.assert_array_equal(raster.data, local.data)
    assert local.data.any()


@pytest.mark.usefixtures("consented")
def test_only_what_needs_the_network_is_tried_again(make_raster, tmp_path, monkeypatch):
    def refuse(seconds):
        raise AssertionError("a local file was read again")

    monkeypatch.setattr(remote.time, "sleep", refuse)
    path = make_raster(np.full((1, 64, 64), 9, np.uint8), compress="deflate")
    scene = Scene.open(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SceneError, match=r"rows 0-64, columns 0-64 .* truncated"):
        scene.read()
    with pytest.raises(SceneError, match="truncated"):
        Scene.open(vrt(tmp_path / "a.vrt", "gone.tif")).read()
    with pytest.raises(AssertionError, match="again"):
        Scene.open(vrt(tmp_path / "b.vrt", "/vsicurl/http://127.0.0.1:9/gone.tif")).read()


def test_options_hold_while_a_remote_file_is_open_and_no_longer(server, make_raster):
    names = ("GDAL_DISABLE_READDIR_ON_OPEN", "CPL_VSIL_CURL_NON_CACHED")
    path = make_raster(np.full((1, 8, 8), 5, np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dst:
        dst.write_mask(np.zeros((8, 8), bool))
    assert path.with_name(f"{path.name}.msk").exists()
    with opened(f"{server.url}/ok/deflate.tif"):
        assert all(map(get_gdal_config, names))
        with opened(path) as src:  # its mask lies beside it
            assert not src.read_masks(1).any()
            assert get_gdal_config(names[0]) == "NO"
    assert not any(map(get_gdal_config, names))


if __name__ == "__main__":
    with QuietServer(("127.0.0.1", 0), partial(FaultyHandler, root=Path(sys.argv[1]))) as serving:
        sys.stdout.write(f"{serving.server_address[1]}\n")
        sys.stdout.flush()
        serving.serve_forever()
