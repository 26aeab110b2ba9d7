"""The page of hits in a real browser: pictures, map and plot are there; nothing is asked for."""

import html
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from test_browser import CHROMIUM, chromium

from geopipe.report.retrieval import write_evaluation, write_result
from geopipe.retrieve.box import Box
from geopipe.retrieve.build import build_index
from geopipe.retrieve.evaluate import evaluate_index
from geopipe.retrieve.query import Query, Retriever, SearchOptions

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.usefixtures("one_thread"),
]
PROBE = """<script>
window.addEventListener('load', () => {
  const broken = [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length;
  const map = document.querySelector('svg.map');
  const pre = document.createElement('pre');
  pre.id = 'probe';
  pre.textContent = JSON.stringify({images: document.images.length, broken,
    hits: document.querySelectorAll('figure.hit').length,
    shapes: map ? map.querySelectorAll('polygon').length : 0,
    map: map ? map.getBoundingClientRect().height : 0,
    photo: map ? map.querySelectorAll('image').length : 0,
    charts: document.querySelectorAll('.chart svg').length,
    rows: document.querySelectorAll('tbody tr').length,
    requests: performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:'))
      .length,
    fits: document.documentElement.scrollWidth <= window.innerWidth});
  document.body.append(pre);
});
</script>"""


def world():
    """The module of the index's own tests."""
    path = Path(__file__).parents[1] / "retrieve" / "retrieve_world.py"
    spec = importlib.util.spec_from_file_location("retrieve_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("retrieve_world", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from geopipe.retrieve import EmbeddingModel

    w, root = world(), tmp_path_factory.mktemp("browser")
    sources = [str(w.draw_chips(root / "chips")), str(w.draw_scene(root / "scene.tif"))]
    build_index(sources, root / "index", EmbeddingModel(w.SMALL, "random:0"), w.PLAN)
    return root / "index"


def probed(tmp_path, page):
    # The page's own policy forbids scripts; the probe is one.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = tmp_path / "probed.html"
    copy.write_text(text.replace("</body>", PROBE + "</body>"))
    done = chromium(
        tmp_path, copy, "--window-size=1280,900", "--virtual-time-budget=3000", "--dump-dom"
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr
    return json.loads(html.unescape(found[1]))


def test_hits_and_their_map(tmp_path, folder):
    asker = Retriever.open(folder)
    box = Box((500_136, 4_699_880, 500_184, 4_699_932))
    answer = asker.query(Query(box=box), SearchOptions(k=9))
    write_result(tmp_path / "page.html", answer, asker)
    seen = probed(tmp_path, tmp_path / "page.html")
    placed = sum(bool(h.row.crs) for h in answer.hits)
    assert (seen["hits"], seen["images"], seen["broken"]) == (9, 10, 0)
    assert seen["shapes"] == placed + 1
    assert seen["photo"] == 1
    assert seen["map"] > 200
    assert seen["requests"] == 0
    assert seen["fits"]


def test_evaluation_has_its_plot(tmp_path, folder):
    write_evaluation(tmp_path / "page.html", evaluate_index(folder))
    seen = probed(tmp_path, tmp_path / "page.html")
    assert (seen["charts"], seen["rows"], seen["requests"]) == (1, 5, 0)
    assert seen["fits"]
