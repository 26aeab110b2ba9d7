"""Killed at any moment, the same command goes on; its map has the bytes of an undisturbed one."""

import os
import random
import re
import shutil

import pytest
from stopping import TILES, done_tiles, map_bytes, stopped_at
from tiny_place import fingerprints

from geopipe.errors import JobError
from geopipe.mapping import Budget, Engine, map_rasters
from geopipe.mapping import scene as mapping
from geopipe.mapping.tile import TileJob
from geopipe.raster import Scene
from geopipe.raster.cog import read_scheme
from geopipe.vectors.features import write_features
from geopipe.workflow.bundle import MapOptions, write_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


def made(place, out, **options):
    options = MapOptions(Engine("cpu", budget=Budget(256)), scores=True, **options)
    return write_bundle(Scene.open(place.scene), place.model, out, options)


# -- the real command


def test_killed_again_and_again_the_map_is_that_of_an_undisturbed_run(
    large_place, start, same_map, tmp_path
):
    """While it starts to map, in the middle of it twice, and while the files are finished."""
    rng, out = random.Random(5), tmp_path / "map"
    words, known = large_place.words(out), {}
    for wanted in (1, rng.randint(5, 15), TILES):
        run = start(*words, out=out)
        assert run.until(lambda n=wanted: len(done_tiles(out)) >= n)
        assert wanted < TILES or run.until(lambda r=run: r.is_final)
        run.kill()
        now = done_tiles(out)
        assert known.items() <= now.items(), "a tile that was done is not done again"
        assert len(now) >= wanted
        assert not out.exists()
        known = now
    code, text = start(*words, out=out).end()
    assert code == 0, text
    assert f"map:    {out / 'classes.tif'}" in text
    same_map(out, large_place)


def test_killed_while_it_vectorizes_the_vectors_are_those_of_its_map(place, start, tmp_path):
    out = tmp_path / "map"
    words = place.words(out, "--vectors")
    run, part = start(*words, out=out), out.with_name("map.part")
    # os.walk, unlike rglob, bears folders of tiles that vanish under it
    assert run.until(lambda: any("features.parquet.part" in dirs for _, dirs, _ in os.walk(part)))
    run.kill()
    assert not out.exists()
    code, text = start(*words, out=out).end()
    assert code == 0, text
    scheme = read_scheme(out / "classes.tif")
    alone = write_features(out / "classes.tif", tmp_path, scheme, name=place.scene.stem)
    for path in alone.files.values():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert not part.exists()


# -- every step of the end


def test_killed_at_any_step_while_it_replaces_a_map_nothing_is_lost(
    place, children, same_map, tmp_path
):
    """There is always an old or a new map, and the user's own files; no tile is done again."""
    first = tmp_path / "first" / "map"
    made(place, first)
    (first / "classes.tif").write_bytes(b"the old map")
    (first / "notes.txt").write_text("mine")
    with stopped_at(5), pytest.raises(JobError):
        made(place, first, overwrite=True)

    def dies(step, out):
        """Killed at its step-th change of a file; the changes before it."""
        return children("dies", step, place.scene, place.model, out)

    changes = dies(0, copied(first, "whole"))
    steps = [next(i for i, c in enumerate(changes, 1) if re.search(at, c)) for at in MOMENTS]
    assert steps == sorted(steps)
    for step in steps:
        out = copied(first, str(step))
        assert len(dies(step, out)) == step - 1
        standing = [p for p in (out, *out.parent.glob(".map.old-*/map")) if p.exists()]
        assert any((p / "notes.txt").exists() for p in standing), changes[step - 1]
        if out.exists() and (out / "classes.tif").read_bytes() != b"the old map":
            assert map_bytes(out) == place.whole, changes[step - 1]
        else:
            assert len(done_tiles(out)) >= 5, changes[step - 1]
        made(place, out, overwrite=True)
        same_map(out, place)
        assert (out / "notes.txt").read_text() == "mine", changes[step - 1]


MOMENTS = (
    r"rename .*0000005\.tif\.part-\w+/0000005\.tif$",
    r"rename .*item\.json\.part/item\.json$",
    r"rename .*(?<!\.part)/map$",
    r"rename .*/map\.part/map$",
    r"rmtree .*/\.map\.old-",
    r"remove 0000003\.tif$",
    r"remove .*/journal\.jsonl$",
)
"""Changes of files in the order they come; just before each the mapping is killed."""


def copied(folder, name):
    target = folder.parent.with_name(name)
    return shutil.copytree(folder.parent, target) / folder.name


# -- two at once


@pytest.mark.parametrize("moment", ["before the first tile", "in the middle", "at the end"])
def test_a_second_run_on_the_same_folder_is_refused_and_harms_nothing(
    place, same_map, tmp_path, monkeypatch, moment
):
    seen = []

    def second():
        if seen:
            return
        seen.append(moment)
        before = fingerprints(tmp_path)
        with pytest.raises(JobError, match=r"another run is at work in .*map\.part"):
            made(place, tmp_path / "map")
        after = fingerprints(tmp_path)
        # Other threads of the first run go on meanwhile: tiles may come, none may go or change.
        whole = {path: digest for path, digest in before.items() if path.endswith(".tif")}
        assert whole.items() <= after.items()
        assert {p for p in before.keys() ^ after.keys() if "/tiles/" not in p} == set()

    owner, name, count = {
        "before the first tile": (TileJob, "__call__", 1),
        "in the middle": (mapping.Journal, "add", 3),
        "at the end": (map_rasters, "write_score_cog", 1),
    }[moment]
    works, calls = getattr(owner, name), []

    def also(*args, **options):
        calls.append(1)
        if len(calls) == count:
            second()
        return works(*args, **options)

    monkeypatch.setattr(owner, name, also)
    made(place, tmp_path / "map")
    assert seen == [moment]
    same_map(tmp_path / "map", place)
