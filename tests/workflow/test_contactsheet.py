import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError, OutputError
from geopipe.learn.transfer import SampleStatus, Selection
from geopipe.learn.transfer.neighbours import Neighbours
from geopipe.report.contact_sheet import ContactSheet, Neighbour, Row, select_rows, write_sheet

HARM = '<script>alert("x")</script>'
SCHEME = ClassScheme.from_dict(
    {
        "name": "s",
        "classes": [{"name": "water", "color": "#3355cc"}, {"name": HARM, "color": "#c8371e"}],
    }
)


def picture(seed, side=224):
    return np.random.default_rng(seed).integers(0, 255, (3, side, side + 40)).astype(np.uint8)


def row(class_id, fate, near=2, caption=""):
    around = tuple(Neighbour(picture(i, 50), i % 2, 1.5 + i) for i in range(near))
    return Row(picture(class_id), class_id, 0.875, fate, around, caption)


def full(rows=None):
    rows = rows or (
        row(0, SampleStatus.KEPT),
        row(0, SampleStatus.DISAGREE, caption=HARM),
        row(1, SampleStatus.UNSURE, near=0),
        row(1, SampleStatus.NEAR),
    )
    counts = np.arange(14).reshape(2, 7) * 1000
    return ContactSheet(HARM, SCHEME, rows, counts, summary=HARM, notes=(HARM,))


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_sheet_says_what_became_of_each_patch(tmp_path):
    path = write_sheet(tmp_path / "new" / "sheet.html", full())
    text = path.read_text()
    page = Page(text)
    assert not page.open
    for words in ("p = 0.88", "kept", "neighbours disagree", "below threshold", "too near another"):
        assert words in page.text
    assert "d = 1.5" in page.text
    assert "13,000" in page.text, "the table of all samples"
    assert "refused: 1 of 21,000" in page.text, "rows shown of those there are"
    assert len(page.images) == 4 + 6
    assert "<script" not in text
    assert text.count("&lt;script") > 4
    assert not re.findall(r'(?:src|href)="(?!data:)', text), "nothing is fetched"
    assert write_sheet(tmp_path / "again.html", full()).read_text() == text
    assert {p.name for p in tmp_path.rglob("*.html*")} == {"sheet.html", "again.html"}


def test_thumbnails_are_small_and_keep_their_shape(tmp_path):
    page = Page(write_sheet(tmp_path / "sheet.html", full()).read_text())
    for image in page.images:
        code = image["src"].removeprefix("data:image/jpeg;base64,")
        assert max(Image.open(io.BytesIO(base64.b64decode(code))).size) <= 96
    assert (page.images[0]["width"], page.images[0]["height"]) == ("96", "81")


def test_the_sheet_is_bounded_however_many_rows_there_are(tmp_path):
    rows = tuple(row(0, fate, near=9) for fate in [SampleStatus.KEPT, SampleStatus.MIXED] * 20)
    path = write_sheet(tmp_path / "sheet.html", full(rows), max_rows=3, max_neighbours=4)
    assert len(Page(path.read_text()).images) == 6 * (1 + 4)
    assert path.stat().st_size < 400_000


def test_a_sheet_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match=r"cannot write .*sheet\.html: "):
        write_sheet(tmp_path / "file" / "sheet.html", full())
    target = write_sheet(tmp_path / "sheet.html", full())
    before = target.read_text()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(target), "replace", full_disk)
    with pytest.raises(OutputError, match="the disk is full"):
        write_sheet(target, full((row(0, SampleStatus.KEPT),)))
    assert target.read_text() == before
    assert not (tmp_path / "sheet.html.part").exists()


def selection(labels, fates):
    n = len(labels)
    flat = np.zeros(n, np.float32)
    none = Neighbours(np.zeros((n, 1), np.int64), np.zeros((n, 1), np.float32))
    return Selection(np.array(labels, np.uint8), flat, np.array(fates), none, flat, flat, 2)


def test_shown_gives_each_class_and_each_reason_its_turn():
    rng = np.random.default_rng(0)
    labels, fates = rng.integers(0, 2, 900), rng.choice([0, 2, 3], 900, p=[0.5, 0.45, 0.05])
    fates[:2], labels[:2] = SampleStatus.DUPLICATE, 0
    chosen = selection(labels, fates)
    at = select_rows(chosen, 6)
    assert len(at) == len(set(at.tolist())) == 24
    for k in range(2):
        mine = fates[at[labels[at] == k]]
        assert (mine == 0).sum() == 6
        refused = np.bincount(mine[mine > 0], minlength=7)
        assert refused.tolist() == ([0, 2, 2, 2, 0, 0, 0] if k == 0 else [0, 0, 3, 3, 0, 0, 0])
    np.testing.assert_array_equal(at, select_rows(chosen, 6))
    assert set(at.tolist()) != set(select_rows(chosen, 6, seed=1).tolist())
    assert len(select_rows(selection([0], [0]), 6)) == 1
    with pytest.raises(ConfigError, match="at least 1"):
        select_rows(chosen, 0)
