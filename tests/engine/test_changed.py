"""An unfinished map goes on with the inputs that it was begun with, and with no others."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
from stopping import done_tiles, map_bytes, stopped_at
from tiny_place import fingerprints, lively, write_scene

from geopipe.mapping import scene as mapping

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def mine(place, tmp_path):
    """The place in files that a test may change."""
    folder = tmp_path / "in"
    folder.mkdir()
    scene, model = (Path(shutil.copy(p, folder)) for p in (place.scene, place.model))
    return replace(place, scene=scene, model=model)


@pytest.fixture
def begun(mine, geopipe, tmp_path):
    """Where 4 of 6 tiles of `mine` are done."""
    out = tmp_path / "out" / "map"
    with stopped_at(4):
        said = geopipe(*mine.words(out))
    assert said.exit_code == 1
    assert f"{mine.scene}: tile 4 (rows 256-300, columns 256-512): RuntimeError" in said.stderr
    assert set(done_tiles(out)) == {0, 1, 2, 3}
    return out


def rewritten(mine, make_model):
    with rasterio.open(mine.scene) as src:
        data, transform = 255 - src.read(), src.transform
    write_scene(mine.scene, data, transform=transform, nodata=255)


def touched(mine, make_model):
    os.utime(mine.scene)


def another_model(mine, make_model):
    lively(make_model(seed=4)).save(mine.model)


def same_files(mine, make_model):
    pass


CHANGES = {
    "rewritten": ("nodata, scene files", rewritten, ()),
    "touched": ("scene files", touched, ()),
    "model": ("model", another_model, ()),
    "core": ("tile px", same_files, ("--tile-size", 512)),
    "precision": ("precision", same_files, ("--precision", "bfloat16")),
    "bands": ("bands", same_files, ("--bands", "3,2,1")),
    "holes": ("nodata", same_files, ("--nodata", 7)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_by_name_and_restart_begins_anew(
    mine, begun, geopipe, make_model, tmp_path, monkeypatch, change
):
    monkeypatch.setattr("geopipe.mapping.precision.MIN_AGREEMENT", 0)
    names, alter, more = CHANGES[change]
    alter(mine, make_model)
    before = fingerprints(begun.parent)
    said = geopipe(*mine.words(begun, *more))
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == (
        f"error: {begun}.part holds an unfinished map made with another {names} - "
        "--restart begins anew\n"
    )
    assert fingerprints(begun.parent) == before
    if change in ("rewritten", "core"):
        assert geopipe(*mine.words(begun, *more, "--restart")).exit_code == 0
        assert geopipe(*mine.words(tmp_path / "fresh", *more)).exit_code == 0
        assert map_bytes(begun) == map_bytes(tmp_path / "fresh")
        assert [p.name for p in begun.parent.iterdir()] == ["map"]


@pytest.mark.parametrize("name", ["torch", "instructions"])
def test_tiles_of_another_torch_or_processor_are_not_mixed(mine, begun, geopipe, monkeypatch, name):
    """Equal networks may give other bytes there."""
    if name == "torch":
        monkeypatch.setattr("torch.__version__", "9.9")
    else:
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "OTHER")
    said = geopipe(*mine.words(begun))
    assert said.exit_code == 1
    assert f"made with another {name} - --restart" in said.stderr


def test_without_scores_is_another_map(mine, begun, geopipe):
    words = [w for w in mine.words(begun) if w != "--scores"]
    assert "another scores - --restart" in geopipe(*words).stderr


def test_the_same_command_goes_on_even_with_restart(mine, begun, geopipe, same_map):
    known = done_tiles(begun)
    with stopped_at(5):
        geopipe(*mine.words(begun, "--restart"))
    assert set(done_tiles(begun)) == {0, 1, 2, 3, 4}
    assert known.items() <= done_tiles(begun).items()
    assert geopipe(*mine.words(begun, "--restart")).exit_code == 0
    same_map(begun, mine)


@pytest.mark.parametrize("more", [("--threads", 2), ("--ram", "3GB"), ("--skip-bad",)])
def test_what_touches_no_pixel_may_change(mine, begun, geopipe, same_map, more):
    known = done_tiles(begun)
    with stopped_at(5):
        assert geopipe(*mine.words(begun, *more)).exit_code == 1
    assert known.items() <= done_tiles(begun).items()
    assert geopipe(*mine.words(begun)).exit_code == 0
    same_map(begun, mine)


def test_statistics_that_a_viewer_leaves_beside_the_scene_are_no_change(
    mine, begun, geopipe, same_map
):
    known = done_tiles(begun)
    with rasterio.open(mine.scene) as src:
        src.statistics(1)
    assert Path(f"{mine.scene}.aux.xml").exists()
    with stopped_at(5):
        assert "lightning" in geopipe(*mine.words(begun)).stderr
    assert known.items() <= done_tiles(begun).items()


@pytest.mark.parametrize("what", ["scene", "model"])
def test_a_change_while_it_is_mapped_is_no_map(
    mine, geopipe, make_model, tmp_path, monkeypatch, what
):
    """Tiles of before and after would stand side by side."""
    add, out = mapping.Journal.add, tmp_path / "out" / "map"

    def adds(journal, index, done):
        add(journal, index, done)
        if index == 2:
            (touched if what == "scene" else another_model)(mine, make_model)

    monkeypatch.setattr(mapping.Journal, "add", adds)
    said = geopipe(*mine.words(out))
    assert said.exit_code == 1
    assert "changed while it was made" in said.stderr
    assert "another scene files -" in said.stderr or "another model -" in said.stderr
    assert not out.exists()
