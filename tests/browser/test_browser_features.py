"""The page of features in a real browser: it draws, is moved, and runs nothing from a file."""

import base64
import hashlib
import html
import io
import json
import re

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from PIL import Image
from test_browser import CHROMIUM, chromium

from geopipe.raster import Scene
from geopipe.report.feature_map import FeatureLayer, write_feature_map

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

HARM = "</script><img src=x onerror=\"document.title='HARM'\">"
# A page without a window may get no frame, and so neither the observer's call nor a drawing.
NO_FRAMES = """<script>
window.requestAnimationFrame = () => 0;
window.ResizeObserver = class { observe() {} };
</script>"""
PROBE = """<script>
window.addEventListener("load", () => setTimeout(() => {
  pick({ x: 300, y: 300 });
  const pre = document.createElement("pre");
  pre.id = "probe";
  pre.textContent = JSON.stringify([document.title, about.textContent, data.layers.length,
    performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length,
    [...pen.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]]);
  document.body.append(pre);
}, 1000));
</script>"""


@pytest.fixture
def page(make_raster, tmp_path):
    image = np.full((3, 600, 600), 90, np.uint8)
    place = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
    scene = Scene.open(make_raster(image, "scene.tif", transform=place))
    square = shapely.box(789_100, 6_500_800, 789_200, 6_500_900)
    table = gpd.GeoDataFrame({"name": [HARM]}, geometry=[square], crs=2154)
    path = tmp_path / "features.html"
    write_feature_map(path, HARM, scene, [FeatureLayer("buildings", "#c8371e", table)])
    return path


def test_features_are_drawn_and_no_text_of_a_file_is_run(page, tmp_path):
    digests = ""
    for element in (NO_FRAMES, PROBE):
        script = element.removeprefix("<script>").removesuffix("</script>")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        digests += f"&#39;sha256-{digest}&#39; "
    text = page.read_text().replace("script-src ", f"script-src {digests}")
    text = text.replace("<body>", "<body>" + NO_FRAMES)
    page.write_text(text.replace("</body>", PROBE + "</body>"))
    done = chromium(tmp_path, page, "--virtual-time-budget=4000", "--dump-dom")
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert probe, done.stderr[-2000:]
    title, about, count, requests, pixel = json.loads(html.unescape(probe[1]))
    assert title == HARM
    assert HARM in about
    assert (count, requests) == (1, 0)
    assert pixel[0] > pixel[1] + 30  # red over grey
    assert "CONSOLE" not in done.stderr


def test_the_page_shows_image_and_features(page, tmp_path):
    shot = tmp_path / "shot.png"
    options = ("--window-size=900,700", "--virtual-time-budget=3000", f"--screenshot={shot}")
    chromium(tmp_path, page, *options)
    pixels = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")).astype(int)
    red = (pixels[..., 0] > pixels[..., 1] + 30).sum()
    grey = (np.abs(pixels - 90).max(axis=2) <= 3).sum()
    assert red > 10_000
    assert grey > 100_000
