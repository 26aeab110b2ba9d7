"""Services that fail now and then, or answer what is no image."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from web_world import encode

from geopipe.cli.main import main
from geopipe.errors import OutputError, ServiceError
from geopipe.imagery.download import download
from geopipe.imagery.plan import DownloadLimits
from geopipe.imagery.xyz import plan_xyz
from geopipe.raster import Scene
from geopipe.web import Client, redacted

BOUNDS = (4.0660, 45.6050, 4.0680, 45.6065)
LIMITS = DownloadLimits()
COMMAND = "from geopipe.cli.main import main; main()"
PAGE = b"<html><head><title>Busy, come back</title></head><body>x</body></html>"
EXCEPTION = b"""<?xml version="1.0"?><ServiceExceptionReport xmlns="http://www.opengis.net/ogc">
  <ServiceException code="InvalidCRS">CRS is not one of the layer</ServiceException>
  </ServiceExceptionReport>"""


@pytest.fixture
def plan(world, client):
    return plan_xyz(client, world.url + "/xyz/{z}/{x}/{y}.png", BOUNDS, 0.5, LIMITS)


@pytest.fixture
def reference(plan, tmp_path):
    """The bytes of an undisturbed download."""
    data = download(plan, tmp_path / "reference.tif").path.read_bytes()
    assert len(plan.tile_requests) >= 4
    return data


@pytest.mark.parametrize(
    "faults",
    [
        [(429, {"Retry-After": "7"}, b"slow down")],
        ["500", "502", "503", "504"],
        ["cut", "short", "cut"],
        [(200, {"Content-Type": "text/html"}, PAGE)],
        [None, "500", None, "cut"],
    ],
)
def test_faults_that_pass_leave_no_trace(world, client, plan, reference, tmp_path, faults):
    world.faults = list(faults)
    assert download(plan, tmp_path / "s.tif").path.read_bytes() == reference
    assert not world.faults
    failed = [f for f in faults if f]
    assert sum(p >= 1 for p in client.pauses) == len(failed)
    assert (7.0 in client.pauses) == (faults[0] == (429, {"Retry-After": "7"}, b"slow down"))


def test_the_date_of_retry_after_counts_too(world, client, plan, tmp_path):
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    world.faults = [(503, {"Retry-After": when}, b"")]
    download(plan, tmp_path / "s.tif")
    assert 60 < max(client.pauses) <= 90


NO_KEY = b"<html><title>No key</title></html>"
REFUSED = json.dumps({"error": {"code": 400, "message": "Unable", "details": ["x"]}}).encode()
XML = {"Content-Type": "text/xml"}
FINAL = {
    "forbidden": ((403, {}, NO_KEY), r"refuses \(HTTP 403\): No key", 1),
    "wrong": ((400, {}, b"bad"), r"does not understand the request \(HTTP 400\): bad", 1),
    "exception": ((200, XML, EXCEPTION), "InvalidCRS: CRS is not one of the layer", 1),
    "error": ((200, {}, REFUSED), "answers JSON instead of a picture: Unable: x", 1),
    "busy": ((429, {}, b""), r"asks for fewer requests \(HTTP 429\) \(tried 6 times\)", 6),
    "an hour": ((429, {"Retry-After": "3600"}, b""), r"it asks to wait 3600 s", 1),
    "down": ((500, {}, b"Traceback"), r"fails \(HTTP 500\): Traceback \(tried 6 times\)", 6),
    "page": ((200, {}, PAGE), r"HTML instead of a picture: Busy, come .*\(tried 6 times\)", 6),
    "cut": ("cut", r"a picture that is cut off .*\(tried 6 times\)", 6),
    "short": ("short", r"the answer is cut off \(tried 6 times\)", 6),
}


@pytest.mark.parametrize("fault", FINAL)
def test_faults_that_stay_are_told_and_what_is_done_is_kept(
    world, plan, reference, tmp_path, fault
):
    answer, message, tries = FINAL[fault]
    world.faults = [None, None, *[answer] * 99]
    world.requests.clear()
    out = tmp_path / "s.tif"
    with pytest.raises(ServiceError) as caught:
        download(plan, out)
    assert caught.match(message), caught.value.message
    assert caught.value.hint
    assert len(world.requests) == 2 + tries
    assert not out.exists()
    world.faults = []
    again = download(plan, out)
    assert again.requested == len(plan.tile_requests) - 2
    assert out.read_bytes() == reference


def test_missing_and_transparent_tiles_are_without_data(world, client, plan, tmp_path):
    world.empty, world.faults = {2}, [(404, {}, b"no tile")]
    done = download(plan, tmp_path / "s.tif")
    assert done.empty == 1  # a transparent one is a picture
    raster = Scene.open(done.path).read()
    holes = [p.window.clip(plan.shape) for p in plan.tile_requests[:2]]
    expected = np.ones(plan.shape, bool)
    for hole in holes:
        expected[hole.slices] = False
    assert np.array_equal(raster.valid, expected)
    with rasterio.open(done.path) as src:
        assert src.count == 3
        assert not src.read()[:, ~expected].any()


@pytest.mark.parametrize("kind", ["404", "nothing", "transparent"])
def test_nothing_at_all_is_an_error(world, plan, tmp_path, kind):
    if kind == "transparent":
        world.empty = set(range(99))
    else:
        world.faults = [kind] * 99
    with pytest.raises(ServiceError, match="no image within the bounds"):
        download(plan, tmp_path / "s.tif")
    assert not (tmp_path / "s.tif").exists()


def test_a_tile_that_was_damaged_on_disk_is_got_again(world, plan, reference, tmp_path):
    out = tmp_path / "s.tif"
    world.faults = [None, None, (403, {}, b"")]
    with pytest.raises(ServiceError):
        download(plan, out)
    tile = next(p for p in (tmp_path / "s.tif.tiles").iterdir() if p.name != ".geopipe")
    tile.write_bytes(tile.read_bytes()[:100])
    with pytest.raises(ServiceError, match="cut off") as caught:
        download(plan, out)
    assert caught.value.hint == "the same command gets it again"
    assert download(plan, out).requested == 1
    assert out.read_bytes() == reference


def test_a_folder_of_somebody_else_is_left_alone(plan, tmp_path):
    (tmp_path / "s.tif.tiles").mkdir()
    (tmp_path / "s.tif.tiles" / "mine").touch()
    with pytest.raises(Exception, match="geopipe did not make"):
        download(plan, tmp_path / "s.tif")
    assert (tmp_path / "s.tif.tiles" / "mine").exists()


def test_a_scene_is_not_replaced_unless_asked(world, plan, tmp_path):
    out = tmp_path / "s.tif"
    out.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        download(plan, out)
    assert not world.images
    download(plan, out, overwrite=True)
    assert Scene.open(out).shape == plan.shape


def test_a_picture_of_another_kind_of_pixel_is_refused(world, plan, tmp_path):
    world.faults = [(200, {}, encode(np.zeros((3, 99, 99), np.uint8)))]
    with pytest.raises(ServiceError, match="99 x 99 px, 256 x 256 were expected"):
        download(plan, tmp_path / "s.tif")


# -- the client


def test_requests_are_paced(world):
    client, start = Client(rate=20.0), time.monotonic()
    for _ in range(4):
        client.get(world.url + "/xyz/1/0/0.png")
    assert time.monotonic() - start > 0.15


def test_a_slow_answer_is_given_up(world):
    world.delay = 0.6
    client = Client(rate=1e6, sleep=lambda s: None, timeout_s=0.2, tries=2)
    with pytest.raises(ServiceError, match=r"did not answer within 0.2 s \(tried 2 times\)"):
        client.get(world.url + "/xyz/1/0/0.png")


def test_no_server_no_host_and_no_tls_in_words(world, client):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        closed = s.getsockname()[1]
    for address, message in (
        (f"http://127.0.0.1:{closed}/", "the connection was refused"),
        (world.url.replace("http:", "https:"), "no trusted connection to 127.0.0.1"),
        ("file:///etc/passwd", "no address of a service"),
        ("ftp://host/x", "no address of a service"),
        ("/etc/passwd", "no address of a service"),
        ("https://", "cannot ask https:"),
    ):
        with pytest.raises(ServiceError, match=message):
            client.get(address)


def test_no_key_is_shown(world, client):
    with pytest.raises(ServiceError) as caught:
        client.get(world.url + "/none?apikey=hunter2&layer=a")
    assert "hunter2" not in str(caught.value)
    assert "layer=a" in str(caught.value)
    assert redacted("https://me:pw@host/?token=t") == "https://…@host/?token=…"


# -- the command


def arguments(world, out, *more):
    bounds = map(str, BOUNDS)
    url = world.url + "/xyz/{z}/{x}/{y}.png"
    return ["scene", "xyz", url, "--bounds", *bounds, "--gsd", "0.5", "-o", str(out), *more]


def test_the_command_tells_what_it_took(world, tmp_path):
    out = tmp_path / "s.tif"
    done = CliRunner().invoke(main, arguments(world, out, "--rate", "100", "--json"))
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["out"], told["level"], told["gsd"]) == (str(out), "18", "0.4178 m")
    assert (told["empty"], told["credit"]) == (0, "")
    again = CliRunner().invoke(main, arguments(world, out))
    assert (again.exit_code, again.stdout) == (1, "")
    assert "--overwrite" in again.stderr
    world.reset()
    said = CliRunner().invoke(main, arguments(world, out, "--overwrite", "--rate", "100"))
    assert "level: 18" in said.stdout
    assert "give --credit" in said.stderr
    few = CliRunner().invoke(main, arguments(world, tmp_path / "n.tif", "--max-requests", "1"))
    assert "more than 1 (" in few.stderr or "more than 1 -" in few.stderr
    assert "--max-requests" in few.stderr


def test_a_killed_download_goes_on_to_the_same_bytes(world, reference, plan, tmp_path):
    out = tmp_path / "s.tif"
    world.reset()
    world.delay = 0.3
    command = [sys.executable, "-c", COMMAND, *arguments(world, out, "--rate", "100")]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while world.images < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    kept = [p for p in (tmp_path / "s.tif.tiles").iterdir() if "." not in p.name]
    assert 1 <= len(kept) < len(plan.tile_requests)
    assert not out.exists()
    world.delay = 0.0
    done = download(plan, out)
    assert done.requested == len(plan.tile_requests) - len(kept)
    assert out.read_bytes() == reference
    assert not (tmp_path / "s.tif.tiles").exists()
