"""Each pixel of a downloaded scene is that of its place, whatever the service speaks."""

import json
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import rasterio
from web_world import (
    MERCATOR_CELL,
    cached_map,
    colours,
    encode,
    image_server,
    lambert_set,
    mercator_set,
    view,
    wms,
    wmts,
    wmts_layer,
)

from geopipe.errors import ConfigError, ServiceError
from geopipe.imagery.arcgis import plan_arcgis
from geopipe.imagery.download import download
from geopipe.imagery.plan import DownloadLimits, bounds_in, check_bounds
from geopipe.imagery.wms import plan_wms
from geopipe.imagery.wmts import plan_wmts
from geopipe.imagery.xyz import plan_xyz
from geopipe.raster import Scene

BOUNDS = (4.0660, 45.6050, 4.0700, 45.6080)
"""Montbrison; 311 x 333 m."""
LIMITS = DownloadLimits()
PNG = "image/png"


def require_world(path, cell, code, bounds=BOUNDS):
    """Every pixel has the colour of where the file says it is, and the bounds are covered."""
    with rasterio.open(path) as src:
        assert src.crs.to_epsg() == code
        rows, cols = np.arange(src.height) + 0.5, np.arange(src.width) + 0.5
        x, y = src.transform.c + cols * src.transform.a, src.transform.f + rows * src.transform.e
        assert np.array_equal(src.read(), colours(x, y, cell))
        assert (src.read_masks() == 255).all()
        left, bottom, right, top = bounds_in(src.crs.to_wkt(), bounds)
        pixel = src.transform.a
        assert 0 <= left - src.bounds.left < pixel + 1e-6
        assert 0 <= src.bounds.right - right < pixel + 1e-6
        assert 0 <= bottom - src.bounds.bottom < pixel + 1e-6
        assert 0 <= src.bounds.top - top < pixel + 1e-6
        assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        return src.transform, src.tags()


@pytest.mark.parametrize(("path", "tms"), [("xyz/{z}/{x}/{y}", 0), ("tms/{z}/{x}/{y}", 1)])
def test_xyz_and_tms(world, client, tmp_path, path, tms):
    plan = plan_xyz(client, f"{world.url}/{path}.png", BOUNDS, 0.5, LIMITS, tms=bool(tms))
    done = download(plan, tmp_path / "s.tif", credit="me")
    transform, tags = require_world(done.path, MERCATOR_CELL, 3857)
    assert transform.a == pytest.approx(MERCATOR_CELL, abs=1e-12)
    assert (tags["level"], tags["gsd"], tags["credit"]) == ("18", "0.4178 m", "me")
    assert tags["TIFFTAG_COPYRIGHT"] == "me"
    assert done.requested == done.tile_requests == world.images
    assert not (tmp_path / "s.tif.tiles").exists()
    assert world.agent.startswith("geopipe/")


def test_rows_counted_from_the_south_by_the_template(world, client, tmp_path):
    plan = plan_xyz(client, world.url + "/tms/{z}/{x}/{-y}.png", BOUNDS, 0.5, LIMITS)
    require_world(download(plan, tmp_path / "s.tif").path, MERCATOR_CELL, 3857)


def test_large_tiles(world, client, tmp_path):
    world.tile_px, world.cell = 512, MERCATOR_CELL
    template = world.url + "/xyz/{z}/{x}/{y}.png"
    with pytest.raises(ServiceError, match="512 x 512 px, 256 x 256 were expected") as caught:
        download(plan_xyz(client, template, BOUNDS, 0.5, LIMITS), tmp_path / "s.tif")
    assert "`tile_px` 512" in caught.value.hint
    plan = plan_xyz(client, template, BOUNDS, 0.5, LIMITS, tile_px=512)
    assert plan.about["level"] == "17"
    require_world(download(plan, tmp_path / "l.tif").path, MERCATOR_CELL, 3857)


def test_wmts_in_web_mercator(world, client, tmp_path):
    world.documents["/wmts"] = "text/xml", wmts([wmts_layer("ORTHO")], [mercator_set()])
    plan = plan_wmts(client, world.url + "/wmts?apikey=abc", "ORTHO", BOUNDS, 0.5, LIMITS)
    done = download(plan, tmp_path / "s.tif")
    transform, tags = require_world(done.path, MERCATOR_CELL, 3857)
    assert transform.a == pytest.approx(MERCATOR_CELL, rel=1e-9)
    assert tags["credit"] == "The Agency; Licence Ouverte 2.0"
    assert (tags["layer"], tags["matrix_set"], tags["level"]) == ("ORTHO", "PM", "18")
    assert "abc" not in tags["service"]
    tiles = [r for r in world.requests if "GetTile" in r]
    query = dict(parse_qsl(urlsplit(tiles[0]).query))
    assert {k: query[k] for k in ("apikey", "STYLE", "FORMAT", "VERSION")} == {
        "apikey": "abc", "STYLE": "normal", "FORMAT": PNG, "VERSION": "1.0.0",
    }  # fmt: skip
    assert len(tiles) == len(plan.tile_requests) <= 16


def test_wmts_in_a_national_crs(world, client, tmp_path):
    sets = [mercator_set(), lambert_set()]
    layer = wmts_layer("ORTHO", ("PM", "LAMB93"))
    world.documents["/wmts"] = "text/xml", wmts([layer], sets)
    plan = plan_wmts(client, world.url + "/wmts", None, BOUNDS, 0.5, LIMITS)
    assert plan.about["matrix_set"] == "LAMB93"  # its pixels have 0.5 m, those of PM 0.42
    transform, _ = require_world(download(plan, tmp_path / "s.tif").path, 0.5, 2154)
    assert transform.a == 0.5
    other = plan_wmts(client, world.url + "/wmts", None, BOUNDS, 0.5, LIMITS, matrix_set="PM")
    assert other.about["matrix_set"] == "PM"


def test_wmts_by_resource_addresses(world, client, tmp_path):
    template = world.url + "/rest/{Style}/{TileMatrixSet}/{TileMatrix}/{TileCol}/{TileRow}.png"
    resource = f'<ResourceURL format="{PNG}" resourceType="tile" template="{template}"/>'
    layer = wmts_layer("ORTHO", resource=resource)
    world.documents["/1.0.0/WMTSCapabilities.xml"] = "text/xml", wmts([layer], [mercator_set()])
    url = world.url + "/1.0.0/WMTSCapabilities.xml"
    done = download(plan_wmts(client, url, "ORTHO", BOUNDS, 0.5, LIMITS), tmp_path / "s.tif")
    require_world(done.path, MERCATOR_CELL, 3857)
    assert any(r.startswith("/rest/normal/PM/18/") for r in world.requests)


NORTH_FIRST = """<TileMatrixSet><ows:Identifier>E</ows:Identifier>
  <ows:SupportedCRS>urn:ogc:def:crs:EPSG::3035</ows:SupportedCRS><TileMatrix>
  <ows:Identifier>9</ows:Identifier><ScaleDenominator>1785.7142857142858</ScaleDenominator>
  <TopLeftCorner>{corner}</TopLeftCorner><TileWidth>256</TileWidth><TileHeight>256</TileHeight>
  <MatrixWidth>60000</MatrixWidth><MatrixHeight>60000</MatrixHeight></TileMatrix></TileMatrixSet>"""


@pytest.mark.parametrize("corner", ["5500000 900000", "900000 5500000"])
def test_a_corner_with_north_first_and_one_that_should_have_it(world, client, corner):
    layer = wmts_layer("ORTHO", ("E",)).replace("-180 -80", "3 45").replace("180 80", "5 46")
    world.documents["/wmts"] = "text/xml", wmts([layer], [NORTH_FIRST.format(corner=corner)])
    plan = plan_wmts(client, world.url + "/wmts", None, BOUNDS, 0.5, LIMITS)
    a = plan.geobox.affine
    left, _, _, top = bounds_in("EPSG:3035", BOUNDS)
    assert 0 <= left - a.c < 0.5
    assert 0 <= a.f - top < 0.5


def test_tiles_that_the_layer_does_not_have_are_not_asked_for(world, client, tmp_path):
    x, y = 134032, 94032
    inner = "".join(
        f"<{k}>{v}</{k}>"
        for k, v in (
            ("TileMatrix", "18"), ("MinTileRow", 0), ("MaxTileRow", 200_000),
            ("MinTileCol", x), ("MaxTileCol", 200_000),
        )
    )  # fmt: skip
    limits = (
        f"<TileMatrixSetLimits><TileMatrixLimits>{inner}</TileMatrixLimits></TileMatrixSetLimits>"
    )
    whole = wmts_layer("ORTHO", tile_limits=limits.replace(str(x), "0"))
    world.documents["/wmts"] = "text/xml", wmts([whole], [mercator_set()])
    before = plan_wmts(client, world.url + "/wmts", None, BOUNDS, 0.5, LIMITS).tile_requests
    cols = sorted({int(dict(parse_qsl(urlsplit(p.address).query))["TILECOL"]) for p in before})
    part = wmts_layer("ORTHO", tile_limits=limits.replace(str(x), str(cols[1])))
    world.documents["/wmts"] = "text/xml", wmts([part], [mercator_set()])
    plan = plan_wmts(client, world.url + "/wmts", None, BOUNDS, 0.5, LIMITS)
    assert len(plan.tile_requests) == len(before) * (len(cols) - 1) // len(cols)
    done = download(plan, tmp_path / "s.tif")
    raster = Scene.open(done.path).read()
    edge = min(p.window.col for p in plan.tile_requests)
    assert not raster.valid[:, :edge].any()
    assert raster.valid[:, edge:].all()
    assert y < 200_000


@pytest.mark.parametrize("code", ["EPSG:2154", "EPSG:3857", "EPSG:3035"])
def test_wms(world, client, tmp_path, code):
    names = ("EPSG:3857", "EPSG:4326", "EPSG:2154", "EPSG:3035")
    world.documents["/wms"] = "text/xml", wms(names, size=300)
    world.cell = 0.5
    plan = plan_wms(client, world.url + "/wms?map=a", "ORTHO", BOUNDS, 0.5, LIMITS, crs=code)
    world.cell = plan.geobox.affine.a
    done = download(plan, tmp_path / "s.tif")
    transform, tags = require_world(done.path, world.cell, int(code[5:]))
    assert (transform.a == 0.5) == (code != "EPSG:3857")
    assert transform.c / transform.a == pytest.approx(round(transform.c / transform.a), abs=1e-6)
    assert tags["credit"] == "The Agency, Licence Ouverte 2.0"
    assert done.tile_requests > 4
    query = dict(parse_qsl(urlsplit(world.requests[-1]).query))
    assert (query["VERSION"], query["CRS"], query["map"]) == ("1.3.0", code, "a")
    assert (query["TRANSPARENT"], query["FORMAT"]) == ("TRUE", PNG)


def test_wms_with_degrees_asks_for_latitude_first(world, client, tmp_path):
    world.documents["/wms"] = "text/xml", wms()
    plan = plan_wms(client, world.url + "/wms", "ORTHO", BOUNDS, 0.5, LIMITS, crs="EPSG:4326")
    world.cell = plan.geobox.affine.a
    done = download(plan, tmp_path / "s.tif")
    require_world(done.path, world.cell, 4326)
    query = dict(parse_qsl(urlsplit(world.requests[-1]).query))
    assert query["BBOX"].startswith("45.60")


def test_wms_1_1_1_has_east_first(world, client, tmp_path):
    world.documents["/wms"] = "text/xml", wms(("EPSG:4326",), version="1.1.1")
    plan = plan_wms(client, world.url + "/wms", "ORTHO", BOUNDS, 0.5, LIMITS)
    world.cell = plan.geobox.affine.a
    require_world(download(plan, tmp_path / "s.tif").path, world.cell, 4326)
    query = dict(parse_qsl(urlsplit(world.requests[-1]).query))
    assert (query["SRS"], query["VERSION"]) == ("EPSG:4326", "1.1.1")
    assert query["BBOX"].startswith("4.06")


def test_the_utm_zone_and_the_last_year_are_taken_by_themselves(world, client):
    world.documents["/wms"] = "text/xml", wms(("EPSG:4326", "EPSG:32631", "EPSG:32632"))
    plan = plan_wms(client, world.url + "/wms", "PLEIADES.*", BOUNDS, 0.5, LIMITS)
    assert plan.about["layer"] == "PLEIADES.2023"
    assert plan.geobox.crs.to_epsg() == 32631


def test_an_image_service_is_asked_for_its_own_pixels(world, client, tmp_path):
    corner = (700_000.0, 6_600_000.0)
    world.documents["/r/ImageServer"] = "application/json", image_server(0.5, corner)
    world.cell = 0.5
    url = world.url + "/r/ImageServer"
    plan = plan_arcgis(client, url, None, BOUNDS, 0.6, LIMITS)
    transform, tags = require_world(download(plan, tmp_path / "s.tif").path, 0.5, 2154)
    assert (transform.a, tags["credit"]) == (0.5, "The Agency")
    assert tags["level"] == "the service's own pixels"
    query = dict(parse_qsl(urlsplit(world.requests[-1]).query))
    assert urlsplit(world.requests[-1]).path == "/r/ImageServer/exportImage"
    assert (query["bboxSR"], query["f"], query["format"]) == ("2154", "image", "png32")
    world.documents["/r/ImageServer"] = (
        "application/json",
        image_server(0.5, (700_000.2, 6_600_000.3)),
    )
    shifted = plan_arcgis(client, url, None, BOUNDS, 0.5, LIMITS).geobox.affine
    assert (shifted.c - 700_000.2) / 0.5 == pytest.approx(
        round((shifted.c - 700_000.2) / 0.5), abs=1e-6
    )
    coarse = plan_arcgis(client, url, None, BOUNDS, 1.5, LIMITS)
    assert coarse.geobox.affine.a == 1.5
    assert coarse.about["level"] == "resampled by the service"


def test_tiles_of_a_cached_map(world, client, tmp_path):
    world.documents["/a/MapServer"] = "application/json", cached_map()
    plan = plan_arcgis(client, world.url + "/a/MapServer/", None, BOUNDS, 0.5, LIMITS)
    require_world(download(plan, tmp_path / "s.tif").path, MERCATOR_CELL, 3857)
    assert any("/a/MapServer/tile/18/" in r for r in world.requests)


def test_bands_of_16_bits(world, client, tmp_path, make_raster):
    """A TIFF's bands come as they are."""
    about = image_server(0.5, (700_000.0, 6_600_000.0), pixelType="U16", bandCount=4)
    world.documents["/r/ImageServer"] = "application/json", about
    plan = plan_arcgis(client, world.url + "/r/ImageServer", None, BOUNDS, 0.5, LIMITS)
    height, width = plan.shape
    rng = np.random.default_rng(0)
    data = rng.integers(1, 65535, (4, height, width), np.uint16)
    data[:, :10] = 0
    path = make_raster(data, nodata=0)
    world.documents["/r/ImageServer/exportImage"] = "image/tiff", path.read_bytes()
    assert len(plan.tile_requests) == 1
    with rasterio.open(download(plan, tmp_path / "s.tif").path) as src:
        assert np.array_equal(src.read(), data)
        assert src.dtypes == ("uint16",) * 4
        assert np.array_equal(src.dataset_mask() > 0, data[0] > 0)


# -- what cannot be


def planned(world, client, kind, **options):
    """A plan of the service that `kind` names."""
    make = {"wmts": plan_wmts, "wms": plan_wms}.get(kind, plan_arcgis)
    layer = options.pop("layer", None)
    return make(
        client, f"{world.url}/{kind}", layer, BOUNDS, options.pop("gsd", 0.5), LIMITS, **options
    )


def test_errors_name_what_there_is(world, client):
    layers = [wmts_layer("ORTHO.2022"), wmts_layer("ORTHO.2023")]
    world.documents["/wmts"] = "text/xml", wmts(layers, [mercator_set()])
    for options, message, hint in (
        ({}, "has 2 layers", "ORTHO.2022, ORTHO.2023"),
        ({"layer": "ORTH.2023"}, "no layer ORTH.2023", "did you mean ORTHO.2023"),
        ({"layer": "x"}, "no layer x", "it has ORTHO.2022, ORTHO.2023"),
        ({"layer": "ORTHO.*", "matrix_set": "LAMB93"}, "no matrix set LAMB93", "it has PM"),
        ({"layer": "ORTHO.*", "gsd": 0.1}, "finest pixels of PM are 0.209 m", "`gsd` 0.209"),
        ({"layer": "ORTHO.*", "form": "image/jpeg"}, "no format image/jpeg", "it has image/png"),
    ):
        with pytest.raises(ServiceError, match=message) as caught:
            planned(world, client, "wmts", **options)
        assert hint in caught.value.hint
    world.documents["/wms"] = "text/xml", wms()
    for options, message in (
        ({"layer": "ORTHO", "crs": "EPSG:27700"}, "no CRS EPSG:27700"),
        ({"layer": "ORTHO", "form": "image/bmp"}, "no format image/bmp"),
    ):
        with pytest.raises(ServiceError, match=message):
            planned(world, client, "wms", **options)


def test_the_place_is_checked(world, client):
    world.documents["/wms"] = "text/xml", wms()
    with pytest.raises(ServiceError, match="covers lon -5 to 10"):
        plan_wms(client, world.url + "/wms", "ORTHO", (20, 45, 20.01, 45.01), 0.5, LIMITS)
    world.documents["/r/ImageServer"] = "application/json", image_server()
    with pytest.raises(ServiceError, match="nothing within the bounds"):
        plan_arcgis(client, world.url + "/r/ImageServer", None, (9, 45, 9.01, 45.01), 0.5, LIMITS)


@pytest.mark.parametrize(
    "bounds",
    [(4, 46, 5, 45), (5, 45, 4, 46), (4, 45, 4, 46), (4, 45, float("nan"), 46), (0, -91, 1, 0)],
)
def test_bounds_that_are_none(bounds):
    with pytest.raises(ConfigError, match="bounds"):
        check_bounds(bounds)


def test_too_much_is_refused_before_anything_is_asked_or_made(world, client, tmp_path):
    template = world.url + "/xyz/{z}/{x}/{y}.png"
    with pytest.raises(ConfigError, match="takes 68,200 requests") as caught:
        plan_xyz(client, template, (4, 45, 4.3, 45.3), 0.5, LIMITS)
    assert "`max_requests`" in caught.value.hint
    with pytest.raises(ConfigError, match="million pixels"):
        plan_xyz(client, template, (4, 45, 5, 46), 0.5, DownloadLimits(10**9))
    assert not world.requests
    assert not list(tmp_path.iterdir())


def test_templates_that_lack_a_part(client):
    for template in ("https://h/{z}/{x}", "https://h/{x}/{y}", "https://h/"):
        with pytest.raises(ConfigError, match=r"has no \{"):
            plan_xyz(client, template, BOUNDS, 0.5, LIMITS)


SIGN_IN = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
EXCEPTION = b"""<ows:ExceptionReport xmlns:ows="http://www.opengis.net/ows/1.1">
  <ows:Exception exceptionCode="InvalidParameterValue">
  <ows:ExceptionText>no such service</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"""
ANSWERS = {
    "a page": (SIGN_IN, "HTML that is not the capabilities of a .*: Sign in"),
    "nothing": (b"", "is not the capabilities"),
    "an exception": (EXCEPTION, "refuses: InvalidParameterValue: no such service"),
    "entities": (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "entities, which is refused"),
    "cut": (wms()[:200], "XML that is not"),
}


@pytest.mark.parametrize("kind", ["wmts", "wms"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_capabilities_that_are_none(world, client, kind, answer):
    body, message = ANSWERS[answer]
    world.documents["/" + kind] = "text/html", body
    with pytest.raises(ServiceError, match=message):
        planned(world, client, kind)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"code": 499, "message": "Token Required", "details": []}}', "Token Required"),
        (b"<html><title>Sign in</title></html>", "HTML that is no description .*Sign in"),
        (b'{"currentVersion": 10}', "does not describe its grid"),
        (b"[1]", "no description"),
    ],
)
def test_descriptions_that_are_none(world, client, body, message):
    world.documents["/r/ImageServer"] = "application/json", body
    with pytest.raises(ServiceError, match=message):
        planned(world, client, "r/ImageServer")
    with pytest.raises(ServiceError, match="no image or map service"):
        plan_arcgis(client, world.url + "/r/FeatureServer", None, BOUNDS, 0.5, LIMITS)


def test_the_world_tells_a_shift_of_one_pixel():
    box = (0, 0, 100, 100)
    image = view(box, 100, 100, 1.0)
    assert not np.array_equal(image, view((1, 0, 101, 100), 100, 100, 1.0))
    assert not np.array_equal(image, image[:, ::-1])
    assert encode(image) != encode(image[:, :, ::-1])
    assert json.loads(image_server())["pixelSizeX"] == 0.5
