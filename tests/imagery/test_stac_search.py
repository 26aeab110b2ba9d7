"""Images found by STAC: windows of GeoTIFFs on the web, the newest on top."""

import json
from functools import partial

import numpy as np
import pytest
import rasterio
from affine import Affine
from stac_world import image_server, item, publish
from web_world import colours

from geopipe.errors import ServiceError
from geopipe.imagery.download import download
from geopipe.imagery.plan import DownloadLimits, bounds_in
from geopipe.imagery.stac import plan_stac
from geopipe.raster.opening import release

BOUNDS = (4.0660, 45.6050, 4.0690, 45.6070)
LIMITS = DownloadLimits()
LEFT, TOP = 783_000.0, 6_502_400.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A server of three images: one in the west, an older one of all, one on another grid."""
    folder = tmp_path_factory.mktemp("images")
    left, _, _, top = bounds_in("EPSG:2154", BOUNDS)
    for name, x, y, width, height, pixel, hole in (
        ("west", left - 30, top + 20, 120, 400, 1.0, slice(60, 90)),
        ("old", left - 100, top + 100, 600, 500, 1.0, slice(0, 0)),
        ("other", left - 50.3, top + 50, 500, 400, 1.0, slice(0, 0)),
    ):
        x, y = np.floor(x) + (0.3 if name == "other" else 0), np.floor(y)
        cols, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
        data = colours(x + cols * pixel, y - rows * pixel, 1.0)
        data = np.where(data == 0, 1, data)
        data[:, hole] = 0
        data = data if name == "west" else np.where(data > 0, 255 - data // 2, 0)
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="COG", count=3, height=height, width=width,
            dtype="uint8", crs="EPSG:2154", transform=Affine(pixel, 0, x, 0, -pixel, y), nodata=0,
        ) as out:  # fmt: skip
            out.write(data.astype(np.uint8))
    with image_server(folder) as url:
        yield url, folder
        release()


@pytest.fixture
def api(world, files):
    url, folder = files
    found = [
        item(url, "old", "2022-05-01T10:00:00Z", folder),
        item(url, "west", "2024-05-01T10:00:00Z", folder),
    ]
    publish(world, found)
    world.items, world.answer = found, partial(publish, world)
    return world


def test_the_newest_is_on_top_and_older_ones_fill(api, files, client, tmp_path):
    plan = plan_stac(
        client, api.url + "/stac", "ortho", BOUNDS, LIMITS, when="2020-01-01/2024-12-31"
    )
    done = download(plan, tmp_path / "s.tif")
    _, folder = files
    with rasterio.open(done.path) as src, rasterio.open(folder / "old.tif") as old:
        a, b = src.transform, old.transform
        assert (a.a, (a.c - b.c) % 1, (a.f - b.f) % 1) == (1, 0, 0)
        left, _, _, top = bounds_in("EPSG:2154", BOUNDS)
        assert 0 <= left - src.bounds.left < 1
        assert 0 <= src.bounds.top - top < 1
        row, col = int(b.f - a.f), int(a.c - b.c)
        window = ((row, row + src.height), (col, col + src.width))
        expected = old.read(window=window)
        with rasterio.open(folder / "west.tif") as west:
            w = west.transform
            newer = west.read(
                window=((int(w.f - a.f), int(w.f - a.f) + src.height), (int(a.c - w.c), 120))
            )
        n = newer.shape[2]
        part = np.where(newer > 0, newer, expected[:, : newer.shape[1], :n])
        expected[:, : newer.shape[1], :n] = part
        assert np.array_equal(src.read(), expected)
        tags = src.tags()
    assert tags["items"] == "west; old"
    assert tags["credit"] == "The Agency; CC-BY-4.0"
    assert "acquisition_date" not in tags


def test_one_image_that_covers_all_is_enough_and_has_a_date(api, client):
    old = {**api.items[0], "properties": {"datetime": "2025-01-01T00:00:00Z"}}
    api.answer([old, api.items[1]])
    plan = plan_stac(client, api.url + "/stac/", "ortho", BOUNDS, LIMITS)
    assert (plan.about["items"], plan.about["acquisition_date"]) == ("old", "2025-01-01")


def test_an_image_on_another_grid_is_left_out(api, files, client, caplog):
    url, folder = files
    api.answer([item(url, "other", "2021-01-01T00:00:00Z", folder), api.items[1]])
    plan = plan_stac(client, api.url + "/stac", "ortho", BOUNDS, LIMITS)
    assert len(plan.source.images) == 1
    assert "other.tif is on another grid" in caplog.text


def test_pages_are_followed(api, client):
    first = {"features": api.items[1:], "links": [{"rel": "next", "href": "./more"}]}
    api.documents["/stac/search"] = "application/json", json.dumps(first).encode()
    second = {"features": api.items[:1], "links": []}
    api.documents["/stac/more"] = "application/json", json.dumps(second).encode()
    plan = plan_stac(client, api.url + "/stac", "ortho", BOUNDS, LIMITS)
    assert plan.about["items"] == "west; old"


def test_what_cannot_be(api, client):
    url = api.url + "/stac"
    with pytest.raises(ServiceError, match="no asset red") as caught:
        plan_stac(client, url, "ortho", BOUNDS, LIMITS, asset="red")
    assert "visual" in caught.value.hint
    local = {"visual": {"href": "/etc/hostname", "type": "image/tiff"}}
    api.answer([{**api.items[0], "assets": local}])
    with pytest.raises(ServiceError, match="no address on the web"):
        plan_stac(client, url, "ortho", BOUNDS, LIMITS)
    api.answer([])
    with pytest.raises(ServiceError, match="no image within the bounds at 2024-01-01"):
        plan_stac(client, url, "ortho", BOUNDS, LIMITS, when="2024-01-01")
    api.documents["/stac/search"] = "text/html", b"<html><title>Sign in</title></html>"
    with pytest.raises(ServiceError, match="HTML that is no STAC: Sign in"):
        plan_stac(client, url, "ortho", BOUNDS, LIMITS)
