import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import rasterio
from affine import Affine

from geopipe.classes import ClassScheme
from geopipe.errors import OutputError
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from geopipe.report.map_report import CloseUp, Curve, Report, downscale, write_report
from geopipe.report.sections import iterations_section

SCHEME = ClassScheme.from_dict(
    {
        "name": "s",
        "classes": [
            {"name": "background", "color": "#f1efe2"},
            {"name": "building <b>", "color": "#c8371e"},
            {"name": "water", "color": "#3355cc"},
        ],
    }
)
HARM = '<script>alert("x")</script>'


def quality(right, wrong):
    return Metrics(SCHEME.names, np.array([[right, wrong, 0], [wrong, right, 0], [0, 0, 0]]), 5)


def full() -> Report:
    image = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
    ids = np.random.default_rng(1).choice([0, 1, 2, 255], (20, 30)).astype(np.uint8)
    return Report(
        title=f"Map {HARM}",
        scheme=SCHEME,
        summary=(HARM,),
        lead=((HARM, HARM), (HARM, HARM)),
        features=((HARM, "12"),),
        overview_gsd=0.5,
        metrics=(("CNN", quality(80, 20)), ("CNN+RNN", quality(90, 10))),
        sections=(iterations_section((quality(80, 20), quality(85, 15), quality(90, 10))),),
        curves=(Curve(HARM, HARM, "loss", ((HARM, (0, 1, 2), (1.0, float("nan"), 0.5)),)),),
        closeups=(CloseUp(HARM, image, ((HARM, ids), ("map", ids))),),
        overview=(image, ids),
        timings=(("fit", 83.4), (HARM, 7300.0)),
        facts=(("model", HARM),),
        notes=(HARM,),
    )


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    VOID = frozenset({"meta", "link", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_holds_all_it_shows_and_escapes_what_it_is_told(tmp_path):
    page, *_ = write_report(tmp_path, full())
    html = page.read_text()
    found = Page(html)
    assert found.open == [], "a tag is not closed"
    # Its own script alone, which has an overview to fade; the policy names it by its digest.
    assert len([tag for tag, _ in found.tags if tag == "script"]) == 1
    assert HARM not in html
    assert HARM in found.text
    assert f"Features on the map : 12 {HARM}" in found.text
    for tag, attributes in found.tags:
        for key in ("src", "href", "xlink:href"):
            if key in attributes:
                target = attributes[key]
                beside = (tag, target) == ("a", "features.html")
                assert beside or target.startswith(("data:", "#")), (tag, target[:60])
    assert not re.search(r"url\((?!#)|@import", html)
    images = [a for tag, a in found.tags if tag == "img"]
    assert len(images) == 3 + 3
    assert all(a["alt"] and int(a["width"]) == 30 and int(a["height"]) == 20 for a in images)
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    refs = set(re.findall(r'(?:url\(|href=")#([^")]+)', html))
    assert refs <= set(ids)


def test_the_three_files_give_the_same_figures(tmp_path):
    page, tables, text = (p.read_text() for p in write_report(tmp_path, full()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    found = json.loads(tables)
    assert found["metrics"]["CNN"]["overall_accuracy"] == 0.8
    assert found["metrics"]["CNN"]["classes"]["water"]["iou"] is None
    assert found["iterations"][2]["overall_accuracy"] == 0.9
    assert found["curves"][0]["series"][0]["y"] == [1.0, None, 0.5]
    words = Page(page).text
    # IoU 80 / 120 and 90 / 110: 66.67 % and 81.82 %, 15.15 points apart.
    for figure in ("80.00", "90.00", "66.67", "81.82", "+10.00", "+15.15"):
        assert figure in words
        assert figure in text
    assert "1 min 23 s" in words
    assert "2 h 01 min" in text


def test_an_empty_field_is_a_section_less(tmp_path):
    page = write_report(tmp_path, Report(title="One map", scheme=SCHEME, facts=(("a", "b"),)))[0]
    found = Page(page.read_text())
    assert [tag for tag, _ in found.tags].count("section") == 1
    assert not [tag for tag, _ in found.tags if tag in ("img", "svg", "input")]
    full_page = Page(write_report(tmp_path, full())[0].read_text())
    assert [tag for tag, _ in full_page.tags].count("section") == 8


def test_equal_reports_give_equal_bytes(tmp_path):
    a = [p.read_bytes() for p in write_report(tmp_path / "a", full())]
    b = [p.read_bytes() for p in write_report(tmp_path / "b", full())]
    assert a == b


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*report\.html"):
        write_report(tmp_path / "file", full())


def save(path, data, **options):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=data.shape[1],
        width=data.shape[2],
        count=data.shape[0],
        dtype=data.dtype,
        crs="EPSG:32736",
        transform=Affine(1, 0, 5e5, 0, -1, 9e6),
        **options,
    ) as out:
        out.write(data)
    return Scene.open(path)


def test_a_small_uint8_scene_is_shown_as_it_is(tmp_path):
    data = np.random.default_rng(0).integers(1, 255, (3, 40, 60)).astype(np.uint8)
    data[:, :5] = 0
    image = downscale(save(tmp_path / "s.tif", data, nodata=0), 100)
    np.testing.assert_array_equal(image[:, 5:], data[:, 5:])
    assert (image[:, :5] == 225).all()


def test_a_large_scene_is_averaged_down(tmp_path):
    data = np.zeros((3, 400, 600), np.uint8)
    data[:, ::2] = 200
    image = downscale(save(tmp_path / "s.tif", data), 60)
    assert image.shape == (3, 40, 60)
    assert (np.abs(image.astype(int) - 100) <= 1).all()


@pytest.mark.parametrize(("dtype", "top"), [("uint16", 4000), ("float32", 0.3)])
def test_other_dtypes_are_stretched(tmp_path, dtype, top):
    ramp = np.linspace(0, top, 100 * 200).reshape(1, 100, 200).astype(dtype)
    if dtype == "float32":
        ramp[0, 0, :9] = np.nan
    image = downscale(save(tmp_path / "s.tif", ramp), 500)
    assert image.shape == (3, 100, 200)
    np.testing.assert_array_equal(image[0], image[2])
    assert image[0, 2, 0] == 0 or dtype == "float32"
    assert (image[0, -1] == 255).all()
    middle = image[0, 50].mean()
    assert abs(middle - 127) < 3
    if dtype == "float32":
        assert (image[:, 0, :9] == 225).all()
