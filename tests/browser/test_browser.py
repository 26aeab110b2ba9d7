"""The report in a real browser: it renders, asks nobody for anything, and shows the classes."""

import base64
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geopipe.classes import load_scheme
from geopipe.metrics import Metrics
from geopipe.report.map_report import CloseUp, Curve, Report, write_report
from geopipe.report.sections import iterations_section

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

SCHEME = load_scheme("buildings-roads")
PROBE = """<script>
window.addEventListener('load', () => {
  const broken = [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length;
  const slider = document.querySelector('input[type=range]');
  slider.value = 25; slider.dispatchEvent(new Event('input'));
  const pre = document.createElement('pre');
  pre.id = 'probe';
  pre.textContent = JSON.stringify([document.images.length, broken,
    document.querySelectorAll('svg').length, document.getElementById('over').style.opacity,
    performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length,
    document.documentElement.scrollWidth <= window.innerWidth]);
  document.body.append(pre);
});
</script>"""


def city(size: int, seed: int) -> np.ndarray:
    """Class ids of blocks of houses between streets."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((size, size), np.uint8)
    for _ in range(size * size // 500):
        r, c = rng.integers(0, size - 14, 2)
        h, w = rng.integers(6, 14, 2)
        ids[r : r + h, c : c + w] = 1
    for at in range(20, size, 60):
        ids[at : at + 6] = 2
        ids[:, at : at + 6] = 2
    return ids


def photo(ids: np.ndarray, seed: int) -> np.ndarray:
    """What a satellite might see of `ids`: (3, h, w) uint8."""
    rng = np.random.default_rng(seed)
    ground = np.array([[96, 112, 78], [168, 132, 118], [140, 138, 134]])[ids]
    noise = rng.normal(0, 9, (*ids.shape, 1))
    return np.clip(ground + noise, 0, 255).astype(np.uint8).transpose(2, 0, 1)


def blurred(ids: np.ndarray, radius: int) -> np.ndarray:
    """`ids` as a net sees it that errs by up to `radius` px."""
    rng = np.random.default_rng(radius)
    rows, cols = np.indices(ids.shape) + rng.integers(-radius, radius + 1, (2, *ids.shape))
    return ids[rows.clip(0, len(ids) - 1), cols.clip(0, len(ids) - 1)]


def report() -> Report:
    truth = city(360, 1)
    image = photo(truth, 2)
    steps = [blurred(truth, r) for r in (7, 5, 4, 3, 2, 2)]
    quality = tuple(Metrics.of(SCHEME.names, truth, s) for s in steps)
    rng = np.random.default_rng(3)
    fall = np.exp(-np.arange(120) / 30)
    losses = tuple(
        (name, tuple(range(120)), tuple((a + fall + rng.normal(0, 0.02, 120)).tolist()))
        for name, a in (("training", 0.2), ("validation", 0.28))
    )
    overview = steps[-1].copy()
    overview[:90, 250:] = 255
    return Report(
        title="Banepa: buildings and roads",
        scheme=SCHEME,
        summary=(
            "A base network and a recurrent refinement, trained on OpenStreetMap labels and"
            " tested on a manually drawn area of 0.13 km² that neither has seen.",
        ),
        metrics=(("CNN", quality[0]), ("CNN+RNN", quality[5])),
        sections=(iterations_section(quality),),
        curves=(
            Curve("Loss of the base network", "step", "cross entropy", losses),
            Curve("IoU <on> tiles & all", "step", "%", losses[:1]),
        ),
        closeups=tuple(
            CloseUp(
                title,
                image[:, r : r + 120, c : c + 120],
                tuple(
                    (name, ids[r : r + 120, c : c + 120])
                    for name, ids in (("truth", truth), ("CNN", steps[0]), ("CNN+RNN", steps[5]))
                ),
            )
            for title, r, c in (("Dense houses", 20, 20), ("A crossroads", 180, 200))
        ),
        overview=(image, overview),
        timings=(("labels", 4.1), ("base network", 843.0), ("refinement", 402.5), ("map", 37.0)),
        facts=(
            ("area", "0.13 km²"),
            ("building", "31 204 m² (24.1 %)"),
            ("model", "a3f1" * 16),
            ("labels", "© OpenStreetMap contributors, ODbL 1.0"),
        ),
        notes=("412 labels were cut at the scene's border.", "A <b>note</b> & its marks."),
    )


def chromium(tmp_path: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--hide-scrollbars",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def _with_probe(text: str) -> str:
    """The page with PROBE, which its policy allows by its digest like the page's own scripts."""
    script = re.search("<script>(.*?)</script>", PROBE, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src &#39;sha256-{digest}&#39; ")
    return text.replace("</body>", PROBE + "</body>")


def test_no_text_of_a_file_is_run(tmp_path):
    """`<script>` and `javascript:` wherever a report shows text: nothing happens."""
    harm = "<script>document.title='HARM'</script><img src=x onerror=\"document.title='HARM'\">"
    harm += "<a id=harm href=\"javascript:document.title='HARM'\">x</a>"
    shown = replace(
        report(),
        title=harm,
        summary=(harm,),
        lead=((harm, harm), (harm, harm)),
        facts=((harm, harm),),
        notes=(harm,),
        timings=((harm, 1.0),),
    )
    page = write_report(tmp_path, shown)[0]
    probed = tmp_path / "probed.html"
    click = PROBE.replace("const broken", "document.getElementById('harm')?.click(); const broken")
    global_probe = click.replace("JSON.stringify([", "JSON.stringify([document.title, ")
    script = re.search("<script>(.*?)</script>", global_probe, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = page.read_text().replace("script-src ", f"script-src &#39;sha256-{digest}&#39; ")
    probed.write_text(text.replace("</body>", global_probe + "</body>"))
    done = chromium(tmp_path, probed, "--virtual-time-budget=3000", "--dump-dom")
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    title, _images, broken, *_ = json.loads(html.unescape(found[1]))
    assert title == harm  # as text
    assert broken == 0
    assert 'id="harm"' not in done.stdout

    # And were one not escaped, the policy would still refuse to run it.
    raw = page.read_text().replace("</body>", "<script>document.title='HARM'</script></body>")
    probed.write_text(raw)
    done = chromium(tmp_path, probed, "--virtual-time-budget=3000", "--dump-dom")
    assert "<title>HARM</title>" not in done.stdout


def test_the_page_renders_alone(tmp_path):
    page = write_report(tmp_path, report())[0]
    probed = tmp_path / "probed.html"
    probed.write_text(_with_probe(page.read_text()))
    done = chromium(
        tmp_path, probed, "--window-size=1280,900", "--virtual-time-budget=3000", "--dump-dom"
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    images, broken, charts, opacity, requests, fits = json.loads(html.unescape(found[1]))
    assert (images, broken) == (3 + 2 * 4, 0)
    assert charts == 5
    assert float(opacity) == 0.25
    assert requests == 0
    assert fits, "the page scrolls sideways"
    assert "CONSOLE" not in done.stderr


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_shows_the_classes(tmp_path, dark):
    page = write_report(tmp_path, report())[0]
    shot = tmp_path / "shot.png"
    chromium(
        tmp_path,
        page,
        "--window-size=1400,3600",
        f"--screenshot={shot}",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
    )
    pixels = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("RGB"))
    assert pixels.shape[:2] == (3600, 1400)
    for c in SCHEME.classes:
        # The map and eight panels show each class on thousands of pixels.
        assert (np.abs(pixels.astype(int) - c.rgb).max(axis=2) <= 2).sum() > 5_000, c.name
    paper = pixels[5, 5].mean()
    assert paper < 60 if dark else paper > 230
    ink = np.abs(pixels[:300].mean(axis=2) - paper)
    assert ink.max() > 150, "the title cannot be read"
