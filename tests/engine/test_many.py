"""Many scenes in one run: a folder each, each resumable, and none stops another."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.shutil
from stopping import done_tiles, stopped_at
from tiny_place import draw_place, fingerprints

from geopipe.mapping.tile import TileJob

pytestmark = pytest.mark.usefixtures("one_thread")

CORE = ("--tile-size", 256)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Folder ``in`` with a.tif, b.tif, list.txt (c.tif) and d.tif, which is no raster."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        draw_place(folder, name, (200, 300), seed=seed)
    (folder / "list.txt").write_text("# the third\nc.tif\n\n")
    (folder / "d.tif").write_text("to be delivered")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def computed(monkeypatch):
    """(scene, tile) of all that is computed."""
    works, seen = TileJob.__call__, []

    def counts(job, tile):
        seen.append((Path(job.scene.path).name, tile.index))
        return works(job, tile)

    monkeypatch.setattr(TileJob, "__call__", counts)
    return seen


def read(path):
    with rasterio.open(path) as src:
        return src.read()


def names(folder):
    return {p.name for p in folder.iterdir()}


def test_a_scene_that_fails_stops_no_other_and_the_same_command_makes_what_is_missing(
    place, scenes, geopipe, computed
):
    words = (
        "map",
        "in/a.tif",
        "in/d.tif",
        "in/b.tif",
        "in/list.txt",
        place.model,
        "-o",
        "out",
        *CORE,
    )
    said = geopipe(*words)
    assert said.exit_code == 1
    summary, reason, error = said.stderr.splitlines()[-3:]  # progress, on a slow machine, before
    assert summary == "3 of 4 scenes mapped, 1 failed"
    assert reason.startswith("failed: in/d.tif: ")
    assert error == (
        "error: 1 of 4 scenes failed: in/d.tif - the others are done; "
        "the same command tries these again"
    )
    assert names(Path("out")) == {"a", "b", "c"}
    assert {name for name, _ in computed} == {"a.tif", "b.tif", "c.tif"}
    before = fingerprints("out")
    computed.clear()
    assert geopipe(*words).exit_code == 1
    assert (computed, fingerprints("out")) == ([], before)

    shutil.copy("in/a.tif", "in/d.tif")
    said = geopipe(*words, "--json")
    assert said.exit_code == 0, said.stderr
    assert [json.loads(line)["map"] for line in said.stdout.splitlines()] == ["out/d/classes.tif"]
    assert {name for name, _ in computed} == {"d.tif"}
    assert before.items() <= fingerprints("out").items()
    for name in "ac":
        alone = Path("alone", name)
        assert geopipe("map", f"in/{name}.tif", place.model, "-o", alone, *CORE).exit_code == 0
        assert (alone / "classes.tif").read_bytes() == Path(f"out/{name}/classes.tif").read_bytes()


def test_every_scene_goes_on_where_it_stopped(place, scenes, geopipe, computed):
    words = ("map", "in/a.tif", "in/b.tif", place.model, "-o", "out", *CORE)
    with stopped_at(1):
        assert geopipe(*words).exit_code == 1
    assert names(Path("out")) == {"a.part", "b.part"}
    assert [set(done_tiles(Path("out", name))) for name in "ab"] == [{0}, {0}]
    computed.clear()
    assert geopipe(*words).exit_code == 0
    assert sorted(computed) == [("a.tif", 1), ("b.tif", 1)]
    assert names(Path("out")) == {"a", "b"}


def test_a_mosaic_and_a_stac_collection_are_scenes(place, scenes, geopipe):
    rasterio.shutil.copy("in/a.tif", "in/mosaic.vrt", driver="VRT")
    extent = pystac.Extent(
        pystac.SpatialExtent([[4, 45, 5, 46]]), pystac.TemporalExtent([[None, None]])
    )
    collection = pystac.Collection("images", "Two of them", extent)
    for name in "bc":
        item = pystac.Item(name, None, None, datetime(2024, 5, 1, tzinfo=UTC), {})
        href = str((scenes / f"{name}.tif").resolve())
        item.add_asset(
            "image", pystac.Asset(href, media_type=pystac.MediaType.GEOTIFF, roles=["data"])
        )
        collection.add_item(item)
    collection.normalize_and_save("in/stac", pystac.CatalogType.SELF_CONTAINED)
    said = geopipe(
        "map", "in/mosaic.vrt", "in/stac/collection.json", place.model, "-o", "out", *CORE
    )
    assert said.exit_code == 0, said.stderr
    assert names(Path("out")) == {"mosaic", "b", "c"}
    for name, scene in {"mosaic": "a", "b": "b"}.items():
        alone = Path("alone", name)
        assert geopipe("map", f"in/{scene}.tif", place.model, "-o", alone, *CORE).exit_code == 0
        np.testing.assert_array_equal(read(f"out/{name}/classes.tif"), read(alone / "classes.tif"))


def test_a_missing_scene_is_named_at_once_or_left_out(place, scenes, geopipe, computed):
    words = ("map", "in/a.tif", "in/gone.tif", place.model, "-o", "out", *CORE)
    said = geopipe(*words)
    assert (said.exit_code, computed) == (1, [])
    assert said.stderr == "error: there is no file in/gone.tif - check the path\n"
    said = geopipe(*words, "--skip-bad")
    assert said.exit_code == 3
    assert said.stderr.splitlines()[-2:] == [
        "1 of 2 scenes mapped, 1 failed",
        "failed: in/gone.tif: there is no file in/gone.tif",
    ]
    assert names(Path("out")) == {"a"}
    assert geopipe("map", "in/x.tif", place.model, "-o", "y", *CORE, "--skip-bad").exit_code == 1


def test_what_is_there_is_made_again_only_when_asked(place, scenes, geopipe, computed):
    words = ("map", "in/a.tif", "in/b.tif", place.model, "-o", "out", *CORE)
    assert geopipe(*words).exit_code == 0
    computed.clear()
    said = geopipe(*words, "--scores")
    assert said.exit_code == 1
    assert "2 of 2 scenes failed" in said.stderr
    assert computed == []
    said = geopipe(*words, "--scores", "--overwrite")
    assert said.exit_code == 0, said.stderr
    assert len(computed) == 4
    assert all(Path("out", name, "scores.tif").exists() for name in "ab")


def test_footprints_drawn_otherwise_are_not_there(place, scenes, geopipe):
    words = ("map", "in/a.tif", "in/b.tif", place.model, "-o", "out", *CORE, "--vectors")
    assert geopipe(*words, "--no-orthogonalize").exit_code == 0
    assert "2 were there already" in geopipe(*words, "--no-orthogonalize").stderr
    assert "2 of 2 scenes failed" in geopipe(*words).stderr


def test_a_scene_that_changed_is_no_longer_there(place, scenes, geopipe, computed):
    words = ("map", "in/a.tif", "in/b.tif", place.model, "-o", "out", *CORE)
    assert geopipe(*words).exit_code == 0
    with rasterio.open("in/a.tif", "r+") as scene:
        scene.write(scene.read()[:, ::-1])
    computed.clear()
    said = geopipe(*words)
    assert said.exit_code == 1
    assert "1 were there already, 1 failed" in said.stderr
    assert "failed: in/a.tif: out/a exists already" in said.stderr
    assert computed == []
    assert geopipe(*words, "--overwrite").exit_code == 0


def test_a_dry_run_plans_each_scene_and_writes_nothing(place, scenes, geopipe):
    words = ("map", "in/a.tif", "in/list.txt", place.model, "-o", "out", *CORE)
    assert geopipe("map", "in/a.tif", "in/b.tif", place.model, "-o", "out", *CORE).exit_code == 0
    shutil.rmtree("out/a")
    before = fingerprints(".")
    said = geopipe(*words, "--dry-run", "--json")
    assert said.exit_code == 0, said.stderr
    plans = [json.loads(line) for line in said.stdout.splitlines()]
    assert [p["output"] for p in plans] == ["out/a", "out/c"]
    assert [p["tiles"] for p in plans] == [2, 2]
    assert fingerprints(".") == before
