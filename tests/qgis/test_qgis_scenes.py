"""Downloads of imagery in QGIS itself: the scenes of the command line, and errors in words."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from plugin_runs import command, in_qgis, results
from qgis_process import NEEDS_QGIS
from stac_world import image_server, item, publish
from web_world import World, colours, mercator_set, wms, wmts, wmts_layer
from web_world import image_server as arcgis

from geopipe.imagery.plan import bounds_in

pytestmark = [*NEEDS_QGIS, pytest.mark.timeout(900)]
BOUNDS = ("4.066", "45.605", "4.070", "45.608")
EXTENT = "4.066,4.070,45.605,45.608 [EPSG:4326]"
PLACE = {"BOUNDS": EXTENT, "GSD": 0.5, "RATE": 100}
OPTIONS = ["--bounds", *BOUNDS, "--gsd", "0.5", "--rate", "100"]


@pytest.fixture(scope="module")
def server():
    made = World().start()
    yield made
    made.shutdown()


@pytest.fixture
def world(server):
    server.reset()
    return server


def test_scenes_have_the_bytes_of_the_command_line(world, tmp_path):
    world.documents["/wmts"] = "text/xml", wmts([wmts_layer("ORTHO")], [mercator_set()])
    world.documents["/wms"] = "text/xml", wms()
    about = arcgis(0.5, (700_000.0, 6_600_000.0))
    world.documents["/a/ImageServer"] = "application/json", about
    images = tmp_path / "images"
    images.mkdir()
    west, _, _, north = map(int, bounds_in("EPSG:2154", tuple(map(float, BOUNDS))))
    x, y = west - 10, north + 10
    pixels = colours(x + np.arange(400) + 0.5, y - np.arange(400) - 0.5, 1.0)
    with rasterio.open(
        images / "town.tif", "w", driver="COG", count=3, height=400, width=400, dtype="uint8",
        crs="EPSG:2154", transform=Affine(1, 0, x, 0, -1, y),
    ) as out:  # fmt: skip
        out.write(pixels)
    with image_server(images) as url:
        publish(world, [item(url, "town", "2024-05-01T10:00:00Z", images)])
        services = {
            "wmts": ("/wmts", {"LAYER": "ORTHO"}, ["ORTHO"]),
            "wms": ("/wms", {"LAYER": "PLEIADES.*", "CRS": "EPSG:2154"}, ["PLEIADES.*"]),
            "xyz": ("/xyz/{z}/{x}/{y}.png", {"CREDIT": "me"}, ["--credit", "me"]),
            "arcgis": ("/a/ImageServer", {"LAYER": ""}, []),
            "stac": ("/stac", {"COLLECTION": "ortho", "DATE": "2024-05-01"}, []),
        }
        steps = {
            f"scene_{name}": {
                "URL": world.url + path, **PLACE, **own, "OUTPUT": f"{tmp_path}/{name}.tif"
            }
            for name, (path, own, _) in services.items()
        }  # fmt: skip
        found = results(tmp_path, steps)
        for name, (path, _, words) in services.items():
            theirs = tmp_path / "cli" / f"{name}.tif"
            theirs.parent.mkdir(exist_ok=True)
            options = [*OPTIONS, *(["--crs", "EPSG:2154"] if name == "wms" else [])]
            if name == "stac":
                options = ["--bounds", *BOUNDS, "--collection", "ortho", "--date", "2024-05-01"]
            command("scene", name, world.url + path, *words, *options, "-o", theirs)
            assert (tmp_path / f"{name}.tif").read_bytes() == theirs.read_bytes(), name
            seen = found[f"scene_{name}"]
            assert seen["seen"] == {f"{name}.tif": [True, "multibandcolor"]}
            assert json.loads(seen["results"]["JSON"])["out"] == f"{tmp_path}/{name}.tif"
    assert any("credit: The Agency" in line for line in found["scene_stac"]["log"])
    with rasterio.open(tmp_path / "wms.tif") as src:
        assert src.tags()["layer"] == "PLEIADES.2023"
        assert src.crs.to_epsg() == 2154


def test_cancel_keeps_the_tiles_and_the_next_run_goes_on(world, tmp_path):
    url, out = world.url + "/xyz/{z}/{x}/{y}.png", tmp_path / "s.tif"
    parameters = {"URL": url, **PLACE, "OUTPUT": str(out)}
    step = {"run": "scene_xyz", "with": parameters, "cancel": f"{out}.tiles"}
    world.delay = 0.5
    (stopped,) = in_qgis(tmp_path, [step])
    assert stopped["error"] == ""
    assert "Stopped. The same run, with the same output, goes on." in stopped["log"]
    assert not out.exists()
    kept = [p for p in (tmp_path / "s.tif.tiles").iterdir() if len(p.name) == 32]
    assert len(kept) >= 3
    world.reset()
    results(tmp_path, {"scene_xyz": parameters})
    asked = world.images
    command("scene", "xyz", url, *OPTIONS, "-o", tmp_path / "theirs.tif")
    assert world.images - asked == asked + len(kept)
    assert out.read_bytes() == (tmp_path / "theirs.tif").read_bytes()


REFUSAL = b"""<ServiceExceptionReport><ServiceException code="LayerNotDefined">no
  </ServiceException></ServiceExceptionReport>"""


def test_what_a_service_cannot_do_is_said_in_words(world, tmp_path):
    layers = [wmts_layer("A"), wmts_layer("B")]
    world.documents["/html"] = "text/html", b"<html><title>Sign in</title></html>"
    for more in ("/html/search", "/html/ImageServer"):
        world.documents[more] = world.documents["/html"]
    world.documents["/wmts"] = "text/xml", wmts(layers, [mercator_set()])
    world.documents["/refuses"] = "text/xml", REFUSAL
    world.faults = [(429, {"Retry-After": "600"}, b"")]
    cases = [
        ("wms", "/html", "answers HTML that is not the capabilities of a WMS: Sign in"),
        ("wmts", "/wmts", "the service has 2 layers - give one: A, B"),
        ("xyz", "/xyz/{z}/{x}/{y}.png", "asks for fewer requests (HTTP 429); it asks to wait 600"),
        ("xyz", "/xyz/{z}/{x}.png", "has no {y}"),
        ("wms", "/refuses", "refuses: LayerNotDefined: no"),
        ("arcgis", "/html/ImageServer", "answers HTML"),
        ("stac", "/html", "answers HTML that is no STAC: Sign in"),
    ]
    out = {**PLACE, "COLLECTION": "ortho", "OUTPUT": str(tmp_path / "s.tif")}
    steps = [{"run": f"scene_{n}", "with": {"URL": world.url + p, **out}} for n, p, _ in cases]
    for found, (_, _, text) in zip(in_qgis(tmp_path, steps), cases, strict=True):
        assert text in found["error"], found["error"]
    assert not (tmp_path / "s.tif").exists()
