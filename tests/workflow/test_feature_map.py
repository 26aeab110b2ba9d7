"""features.html: what the page holds, and that no text of a file becomes code."""

import base64
import io
import json
import re

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from PIL import Image

from geopipe.raster import Scene
from geopipe.report import feature_map
from geopipe.report.feature_map import FeatureLayer, read_layers, write_feature_map

HARM = "</script><script>document.title='HARM'</script>"
PLANE = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)


@pytest.fixture
def scene(make_raster):
    rows, cols = np.mgrid[:1100, :1300]
    image = np.stack([rows // 8 % 256, cols // 8 % 256, (rows + cols) // 16 % 256])
    return Scene.open(make_raster(image.astype(np.uint8), "scene.tif", transform=PLANE))


def layers(count=30):
    squares = [shapely.box(i * 12, -i * 12 - 9, i * 12 + 3 + i / 4, -i * 12) for i in range(count)]
    shift = {"xoff": 789_000, "yoff": 6_501_000}
    columns = {"name": [HARM] * count, "mean_score": 0.91234567}
    houses = gpd.GeoDataFrame(columns, geometry=squares, crs=2154)
    road = shapely.LineString([(0, -5), (600, -500)])
    roads = gpd.GeoDataFrame({"width_m": [7.0]}, geometry=[road], crs=2154)
    return [
        FeatureLayer(name, color, t.set_geometry(t.translate(**shift)))
        for name, color, t in (("buildings", "#c8371e", houses), ("roads", "#3c4a5c", roads))
    ]


def contents(path):
    text = path.read_text()
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return text, json.loads(block[1])


def test_the_page_holds_all_features_where_they_are(scene, tmp_path):
    write_feature_map(tmp_path / "f.html", HARM, scene, layers(), f"(c) {HARM}")
    text, data = contents(tmp_path / "f.html")
    assert "http" not in text.replace("http-equiv", "")
    assert "30 buildings, 1 roads" in text
    assert "he image in full resolution. (c) " in text
    assert HARM not in text
    houses, roads = data["layers"]
    assert (houses["total"], len(houses["items"]), houses["line"]) == (30, 30, False)
    assert roads["line"]
    ring = np.array(houses["items"][3]["rings"][0]).reshape(-1, 2).cumsum(axis=0) / 10
    assert ring.min(axis=0) == pytest.approx([72, 72])  # 36 m are 72 pixels
    assert houses["items"][0]["values"] == [HARM, 0.9123]
    x, y = 789_000 + 36, 6_501_000 - 36
    a, b, c, d, e, f = data["affine"]
    assert (c + 72 * a + 72 * b, f + 72 * d + 72 * e) == pytest.approx((x, y))


def test_the_image_is_a_pyramid_of_limited_size(scene, tmp_path, monkeypatch):
    write_feature_map(tmp_path / "f.html", "scene", scene, layers())
    text, data = contents(tmp_path / "f.html")
    assert [level["step"] for level in data["levels"]] == [4, 2, 1]
    assert [len(level["tiles"]) for level in data["levels"]] == [1, 4, 9]
    tile = data["levels"][2]["tiles"][4]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(tile.split(",")[1]))))
    expected = scene.read().data[:, 512:1024, 512:1024].transpose(1, 2, 0)
    assert np.abs(pixels.astype(int) - expected).mean() < 4
    assert "the image in full resolution" in text
    monkeypatch.setattr(feature_map, "IMAGE_BYTES", 3 * len(data["levels"][0]["tiles"][0]))
    write_feature_map(tmp_path / "f.html", "scene", scene, layers())
    text, small = contents(tmp_path / "f.html")
    assert len(small["levels"]) == 1
    assert "one pixel of the image for 4 x 4 of the scene" in text


def test_the_smallest_features_go_first_and_are_counted(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_map, "FEATURE_BYTES", 2000)
    write_feature_map(tmp_path / "f.html", "scene", scene, layers())
    text, data = contents(tmp_path / "f.html")
    kept = len(data["layers"][0]["items"])
    assert 0 < kept < 30
    assert f"the {30 - kept} smallest features are left out" in text
    assert len(data["layers"][1]["items"]) == 1  # the road is long
    assert data["layers"][0]["total"] == 30


def test_equal_features_give_equal_bytes(scene, tmp_path):
    for name in ("a.html", "b.html"):
        write_feature_map(tmp_path / name, "scene", scene, layers(5))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_no_features_are_no_error(scene, tmp_path):
    write_feature_map(tmp_path / "f.html", "scene", scene, layers(0))
    assert contents(tmp_path / "f.html")[1]["layers"][0]["items"] == []


@pytest.mark.parametrize("limit", [300, 2000])
def test_of_equal_features_as_many_are_left_out_as_the_page_says(
    scene, tmp_path, monkeypatch, limit
):
    houses = layers()[0]
    houses.table.geometry = [shapely.box(789_001, 6_500_990, 789_009, 6_500_999)] * 30
    monkeypatch.setattr(feature_map, "FEATURE_BYTES", limit)
    write_feature_map(tmp_path / "f.html", "scene", scene, [houses])
    text, data = contents(tmp_path / "f.html")
    kept = data["layers"][0]["items"]
    assert f"the {30 - len(kept)} smallest features are left out" in text
    assert len(json.dumps(kept, separators=(",", ":"))) <= limit + 2


def test_of_a_large_layer_only_the_largest_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_map, "MOST_FEATURES", 4)
    house = layers()[0].table.to_crs(2154)
    house["area_m2"] = house.area
    house.to_file(tmp_path / "f.gpkg", layer='the "houses"', engine="pyogrio")
    (layer,) = read_layers(tmp_path / "f.gpkg", {'the "houses"': "#c8371e"})
    assert layer.total == 30
    assert sorted(layer.table["area_m2"]) == sorted(house["area_m2"])[-4:]


def test_the_scale_bar_lies_along_the_rows(make_raster, tmp_path):
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    fine = Affine(1e-5, 0, 10, 0, -1e-5, 60)
    image = np.full((3, 300, 300), 90, np.uint8)
    scene = Scene.open(make_raster(image, "north.tif", crs="EPSG:4326", transform=fine))
    write_feature_map(tmp_path / "f.html", "north", scene, [])
    _, data = contents(tmp_path / "f.html")
    assert data["gsd"] == pytest.approx(0.558, abs=0.001)
