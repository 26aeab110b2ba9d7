"""What was in the folder of a map before: refused, replaced or kept, and whole whatever fails."""

from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
from bundle_world import ALL, PLAIN, names
from tiny_place import fingerprints

from geopipe.errors import OutputError, SceneError
from geopipe.mapping import WORK, Engine
from geopipe.mapping.tile import TileJob
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, plan_bundle, write_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scene(place):
    return Scene.open(place.scene)


def test_a_folder_with_other_files_is_refused_even_to_overwrite(place, scene, tmp_path):
    (tmp_path / "thesis.doc").write_text("chapter 1")
    for overwrite in (False, True):
        with pytest.raises(SceneError, match="holds files that are no map") as caught:
            write_bundle(
                scene, place.base, tmp_path, MapOptions(Engine("cpu"), overwrite=overwrite)
            )
        assert caught.value.hint == "give a new folder"
    assert names(tmp_path) == {"thesis.doc"}
    with pytest.raises(SceneError, match="is a file"):
        write_bundle(scene, place.base, tmp_path / "thesis.doc", MapOptions(Engine("cpu")))


def test_a_map_is_replaced_only_when_asked_for(place, scene, tmp_path):
    folder = tmp_path / "map"
    write_bundle(scene, place.refined, folder, ALL)
    before = fingerprints(tmp_path)
    with pytest.raises(
        SceneError, match=r"exists already \(give another folder, or set `overwrite`"
    ):
        write_bundle(scene, place.base, folder, MapOptions(Engine("cpu")))
    assert fingerprints(tmp_path) == before
    write_bundle(scene, place.base, folder, MapOptions(Engine("cpu"), overwrite=True))
    assert names(folder) == PLAIN
    with rasterio.open(folder / "classes.tif") as src:
        assert src.tags()["model_iterations"] == "0"
    assert names(tmp_path) == {"map"}


def test_a_project_saved_beside_the_map_survives_its_replacement(place, scene, tmp_path):
    out = tmp_path / "map"
    write_bundle(scene, place.base, out, MapOptions(Engine("cpu")))
    (out / "project.qgz").write_text("mine")
    (out / "notes").mkdir()
    (out / "notes/a.txt").write_text("mine too")
    write_bundle(scene, place.base, out, MapOptions(Engine("cpu"), overwrite=True))
    assert (out / "project.qgz").read_text() == "mine"
    assert (out / "notes/a.txt").read_text() == "mine too"


def test_links_beside_the_map_stay_links_and_pages_of_an_old_database_go(place, scene, tmp_path):
    folder = tmp_path / "map"
    options = MapOptions(Engine("cpu"), overwrite=True)
    write_bundle(scene, place.base, folder, options)
    (folder / ".#notes.txt").symlink_to("user@host.1234")  # an editor's lock
    (tmp_path / "archive").mkdir()
    (folder / "archive").symlink_to(tmp_path / "archive")
    (folder / "features.gpkg-wal").write_text("pages")
    write_bundle(scene, place.base, folder, options)
    assert (folder / ".#notes.txt").readlink() == Path("user@host.1234")
    assert (folder / "archive").is_symlink()
    assert not (folder / "features.gpkg-wal").exists()


def test_neighbours_with_similar_names_stay(place, scene, tmp_path):
    folder = tmp_path / "map"
    write_bundle(scene, place.base, folder, MapOptions(Engine("cpu")))
    (tmp_path / "map.old").mkdir()
    (tmp_path / "map.old" / "backup.tif").write_text("mine")
    before = fingerprints(tmp_path / "map.old")
    write_bundle(scene, place.base, folder, MapOptions(Engine("cpu"), overwrite=True))
    assert fingerprints(tmp_path / "map.old") == before
    assert names(tmp_path) == {"map", "map.old"}


def test_an_empty_folder_may_be_filled_also_the_one_we_are_in(place, scene, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_bundle(scene, place.base, Path(), MapOptions(Engine("cpu")))
    assert names(tmp_path / "here") == PLAIN
    assert names(tmp_path) == {"here"}


def test_a_link_to_a_folder_stays_a_link(place, scene, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    write_bundle(scene, place.base, tmp_path / "link", MapOptions(Engine("cpu")))
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk") == PLAIN
    assert names(tmp_path) == {"disk", "link"}


LATE = (
    "geopipe.workflow.bundle.map_scene",
    "geopipe.mapping.map_rasters.write_class_cog",
    "geopipe.mapping.map_rasters.write_qml",
    "geopipe.mapping.map_rasters.write_score_cog",
    "geopipe.report.feature_files.write_feature_files",
    "geopipe.workflow.bundle.write_report",
    "geopipe.workflow.bundle.write_item",
    "geopipe.workflow.bundle.move_bundle",
)


@pytest.mark.parametrize("broken", LATE)
@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError(28, "No space left on device")])
def test_a_failure_midway_leaves_all_as_it_was(place, scene, tmp_path, monkeypatch, broken, error):
    folder = tmp_path / "map"
    options = replace(ALL, overwrite=True, vectors=broken.endswith("write_feature_files"))
    write_bundle(scene, place.base, folder, MapOptions(Engine("cpu")))
    before = fingerprints(tmp_path)

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(broken, fails)
    with pytest.raises((RuntimeError, OutputError)) as caught:
        write_bundle(scene, place.refined, folder, options)
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"cannot write {folder}: the disk is full")
    part = tmp_path / "map.part"
    kept = {p: v for p, v in fingerprints(tmp_path).items() if part not in Path(p).parents}
    assert kept == before
    mapped = not broken.endswith("map_scene")
    assert part.exists() == mapped, "tiles that are done wait for the next run"
    if mapped:
        assert names(part) == set(WORK)
    else:
        with pytest.raises((RuntimeError, OutputError)):
            write_bundle(scene, place.refined, tmp_path / "new" / "map", options)
        assert names(tmp_path) == {"map"}, "also no empty folder"
    monkeypatch.undo()
    monkeypatch.setattr(TileJob, "__call__", fails if mapped else TileJob.__call__)
    write_bundle(scene, place.refined, folder, options)
    assert names(tmp_path) == {"map"}


def test_a_move_that_fails_brings_the_old_map_back(place, scene, tmp_path, monkeypatch):
    folder = tmp_path / "map"
    write_bundle(scene, place.base, folder, MapOptions(Engine("cpu")))
    before, works = fingerprints(tmp_path), Path.rename

    def fails(path, target):
        if path == tmp_path / "map.part" / "map":
            raise OSError(5, "Input/output error")
        return works(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OutputError, match="input/output error"):
        write_bundle(scene, place.refined, folder, replace(ALL, overwrite=True))
    part = tmp_path / "map.part"
    kept = {p: v for p, v in fingerprints(tmp_path).items() if part not in Path(p).parents}
    assert kept == before
    assert names(part) == set(WORK), "its tiles wait for the next run"


def test_what_a_killed_run_left_is_replaced(place, scene, tmp_path):
    (tmp_path / "map.part").mkdir()
    (tmp_path / "map.part" / ".geopipe").touch()
    (tmp_path / "map.part" / "classes.tif").write_text("half")
    write_bundle(scene, place.base, tmp_path / "map", MapOptions(Engine("cpu")))
    assert names(tmp_path) == {"map"}
    assert names(tmp_path / "map") == PLAIN


def test_a_plan_writes_nothing_and_says_what_would_come(place, scene, tmp_path):
    plan = plan_bundle(scene, place.refined, tmp_path / "deep" / "map", ALL)
    assert not names(tmp_path)
    assert plan["tiles"] == 4
    assert plan["output"] == str(tmp_path / "deep/map")
    assert plan["net grid"] == "170 x 150 px of 1 m"
    (tmp_path / "x").write_text("")
    with pytest.raises(SceneError, match="holds files that are no map"):
        plan_bundle(scene, place.refined, tmp_path, ALL)
