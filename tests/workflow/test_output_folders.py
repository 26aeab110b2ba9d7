"""Nothing outside of the named output is written or removed."""

import json

import pytest

from geopipe.errors import ChipIndexError, ConfigError, OutputError, UnsafeFileError
from geopipe.files import atomic_folder, copy_file
from geopipe.report.page import write_page
from geopipe.retrieve.header import NAME, Header


def test_a_page_is_not_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "page.html.part").symlink_to(victim)
    (out / "page.html").symlink_to(victim)
    write_page(out / "page.html", "text")
    assert victim.read_text() == "precious"
    assert (out / "page.html").read_text() == "text"


def test_a_copy_is_not_written_through_a_link(tmp_path):
    (tmp_path / "model").write_text("weights")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out.part").symlink_to(tmp_path / "victim")
    copy_file(tmp_path / "model", tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "out").read_text() == "weights"
    with pytest.raises(OutputError, match=r"cannot write .*other: .*none: there is no such file"):
        copy_file(tmp_path / "none", tmp_path / "other")
    assert {p.name for p in tmp_path.iterdir()} == {"model", "victim", "out"}


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_somebody_else_is_not_emptied(tmp_path, link):
    theirs = tmp_path / ("theirs" if link else "out.part")
    theirs.mkdir()
    (theirs / "photo.tif").write_text("precious")
    if link:
        (tmp_path / "out.part").symlink_to(theirs)
    with (
        pytest.raises(UnsafeFileError),
        atomic_folder(tmp_path / "out", ("a",), overwrite=True),
    ):
        pass
    assert (theirs / "photo.tif").read_text() == "precious"


def test_what_a_killed_run_left_is_taken_over(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "out", ("a",), overwrite=False):
        raise KeyboardInterrupt
    with atomic_folder(tmp_path / "out", ("a",), overwrite=False) as part:
        (part / "a").write_text("new")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]


def test_overwrite_leaves_other_files(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo.tif").write_text("precious")
    with (
        pytest.raises(ConfigError, match=r"photo\.tif"),
        atomic_folder(out, ("a",), overwrite=True),
    ):
        pass


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "a/../../victim", ".."])
def test_an_index_names_no_file_elsewhere(tmp_path, name):
    Header({"weights": ""}, "float32").write(tmp_path)
    values = json.loads((tmp_path / NAME).read_text())
    values["search"] = {"kind": "hnsw", "file": name, "size": 1, "count": 0, "recall": 1}
    (tmp_path / NAME).write_text(json.dumps(values))
    with pytest.raises(ChipIndexError, match=r"search\.file"):
        Header.read(tmp_path)


@pytest.mark.parametrize("template", ["report.html", "contact_sheet.html", "retrieval.html"])
def test_each_page_has_a_policy_without_free_scripts(template):
    from geopipe.report.page import _policy, _read

    text = _read(template)
    assert '{% include "head.html" %}' in text
    assert 'http-equiv="Content-Security-Policy" content="{{ csp }}"' in _read("head.html")
    policy = dict(part.split(" ", 1) for part in _policy(text).split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert not any(f" on{event}=" in text for event in ("click", "input", "load", "error"))
