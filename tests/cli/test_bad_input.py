"""Whatever is wrong: exit code 1, one line that says what to do, nothing written or touched."""

import os
import re
import resource
import shutil
from pathlib import Path

import pytest
from bad_cases import Box
from bad_files import case as files
from bad_runs import case as runs
from click.testing import CliRunner
from tiny_place import draw_place, fingerprints

from geopipe.cli.main import main

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


CASES = {**files, **runs}


@pytest.fixture
def box(drawn, tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    place = {}
    for kind in ("scene", "osm", "model"):
        original = getattr(drawn, kind)
        place[kind] = Path(shutil.copy(original, tmp_path / "in" / original.name))
    return Box(tmp_path / "in", tmp_path / "out", **place)


SAYS_WHAT_TO_DO = re.compile(
    r" - \w|; try \d|did you mean '|which \[base\]|is not one of|not both|Input should|bands "
    r"1 to \d|key '\S+' is missing|\(at line"
)


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_is_wrong_and_what_to_do(geopipe, box, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, expected, options = CASES[name]
    words = make(box)
    before, others = fingerprints(box.inputs), fingerprints(box.out)
    said = geopipe(*words)
    assert said.code == 1, said
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("error: ")
    assert re.search(expected, said.err), said.err
    if "map_planned" not in name:
        assert SAYS_WHAT_TO_DO.search(said.err), said.err
    assert fingerprints(box.inputs) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    stays = options.get("stays", [])
    if stays is None:
        left = {p.suffix for p in box.out.rglob("*") if p.is_file()}
        assert left <= {".tif", ".xml", ".json"}, "labels that are whole, and their record"
        assert not list(box.out.rglob("*.part*"))
        return
    assert fingerprints(box.out) == others
    files = sorted(str(p.relative_to(box.out)) for p in box.out.rglob("*") if p.is_file())
    assert files == stays or name.startswith("run")
    if name.startswith("map"):
        assert not [p for p in box.out.rglob("*") if p.is_dir() and not any(p.iterdir())]


# -- places that cannot be written, disks that are full


@pytest.mark.parametrize("command", ["map", "run"])
def test_a_folder_without_permission(geopipe, box, command, monkeypatch):
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(box.out)))
    said = geopipe(*getattr(box, command)())
    assert said.code == 1
    assert re.fullmatch(r"error: cannot write into .* - choose a folder .*\n", said.err)
    assert not [p for p in box.out.rglob("*") if p.is_file()]


@pytest.fixture
def small_disk():
    """``small_disk(n)``: from now on no file grows beyond n bytes, as when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n: resource.setrlimit(resource.RLIMIT_FSIZE, (n, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [2_000, 9_000, 60_000, 300_000])
@pytest.mark.parametrize("command", ["map", "labels", "run"])
def test_a_full_disk(geopipe, box, small_disk, command, limit):
    # Noise: nothing of it compresses well.
    scene, _ = draw_place(box.inputs, "scene", (300, 400))
    more = {"map": (None, None, "--scores", "--vectors"), "labels": (), "run": ()}[command]
    words = getattr(box, command)(*more)
    before = fingerprints(box.inputs)
    small_disk(limit)
    said = geopipe(*words)
    small_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    if said.code == 0:
        assert max(p.stat().st_size for p in box.out.rglob("*")) <= limit
        return
    assert said.code == 1, said
    assert said.out == ""
    # libtiff and GDAL, which are C, may add lines of their own.
    lines = [x for x in said.err.splitlines() if not x.startswith(("_tiff", "ERROR 1: TIFF"))]
    assert len(lines) == 1, said.err
    (line,) = lines
    assert re.fullmatch(r"error: .* - .*", line), said.err
    # It names the output, in words for people.
    assert not re.search(r"\.part|\.work|burned|tmp\.tif|\.vrt|XML|TIFF|scanline", line), line
    assert fingerprints(box.inputs) == before
    left = [p for p in box.out.rglob("*") if p.is_file()]
    assert not [p for p in left if "part" in str(p.relative_to(box.out)) or "tmp" in p.name]
    if command != "run":
        assert not left
    assert scene.exists()


# -- tracebacks


def test_a_traceback_only_for_those_who_ask(geopipe, box):
    words = box.map("none.tif")
    for more in ((), ("-v",)):
        said = geopipe(*more, *words)
        assert said.err == "error: there is no file none.tif - check the path\n"
    said = geopipe("-vv", *words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Traceback (most recent call last):")
    assert "SceneError" in said.err
    assert said.err.endswith("error: there is no file none.tif - check the path\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MemoryError(), 1, "error: out of memory - use smaller tiles or fewer workers"),
        (KeyboardInterrupt(), 130, "stopped"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: the disk is full - make room, or write to another disk",
        ),
    ],
    ids=["memory", "ctrl-c", "disk"],
)
def test_what_comes_from_outside(geopipe, box, monkeypatch, error, code, line):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("geopipe.raster.Scene.open", fails)
    said = geopipe(*box.map())
    assert said.code == code
    assert re.fullmatch(line + "\n", said.err), said.err


@pytest.mark.parametrize("control", ["\x1b[2J", "\r", "\x07", "\x9b2J"])
def test_what_a_file_says_does_not_steer_the_terminal(tmp_path, control):
    name = f"a{control}b.tif"
    done = CliRunner().invoke(main, ["labels", name, "x.gpkg", "-o", str(tmp_path / "l.tif")])
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
    assert not any(c < " " or "\x7f" <= c < "\xa0" for c in done.output.rstrip("\n"))
    if control != "\r":  # as white space it is a space
        assert f"\\x{ord(control[0]):02x}" in done.output
