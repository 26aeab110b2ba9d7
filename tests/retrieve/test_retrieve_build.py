"""Builds: what goes in, what is left out and said, and that a kill changes nothing."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killed_build import in_small_parts
from PIL import Image
from retrieve_world import PLAN, SMALL, draw_chips, draw_scene, ground

from geopipe.errors import ChipIndexError, ConfigError, SceneError
from geopipe.mapping import Workers
from geopipe.retrieve import ChipIndex, EmbeddingConfig, EmbeddingModel, build, sources
from geopipe.retrieve.batches import Batch, BatchJob, FileItem, load_vectors, stamp
from geopipe.retrieve.build import ChipGrid, build_index
from geopipe.retrieve.header import NAME, Header

pytestmark = pytest.mark.usefixtures("one_thread")


def contents(folder):
    """Digest -> vector of every chip."""
    index = ChipIndex.open(folder)
    index.verify()
    return dict(zip(index.column("digest"), np.array(index.vectors), strict=True))


def same_chips(a, b):
    a, b = contents(a), contents(b)
    return a.keys() == b.keys() and all(np.allclose(a[k], b[k], atol=1e-4) for k in a)


def files(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_chips_and_windows_are_in(built, chips, scene, model):
    index = ChipIndex.open(built)
    rows = list(index.all_rows())
    assert [r.class_name for r in rows[:20]] == [
        n for n in ("field", "forest", "roofs", "water") for _ in range(5)
    ]
    cut = rows[20:]
    # 64 px every 32 px of 160 x 256: 4 x 7, less the corner where more than half has no data.
    assert len(cut) == 28
    assert {r.source for r in cut} == {str(scene)}
    assert all((r.crs, r.height, r.width) == ("EPSG:32631", 64, 64) for r in cut)
    assert sorted({r.row for r in cut}) == [0, 32, 64, 96]
    assert sorted({r.col for r in cut}) == list(range(0, 193, 32))
    r = next(r for r in cut if (r.row, r.col) == (32, 96))
    assert r.corners.tolist() == [
        [500_096, 4_699_968],
        [500_160, 4_699_968],
        [500_160, 4_699_904],
        [500_096, 4_699_904],
    ]
    header = index.header
    assert header.unfinished is None
    assert [s.whole for s in header.scenes] == [True]
    assert header.model == {**model.identity(), "weights": "random:0"}
    assert sorted(p.name for p in built.iterdir()) == ["chips-00000.parquet", NAME, "vectors.bin"]


def test_windows_end_at_the_edges_and_blank_ones_are_left_out(tmp_path, scene, model):
    plan = replace(PLAN, chip_grid=ChipGrid(size=50, step=45, valid=0.9))
    made = build_index([str(scene)], tmp_path / "x", model, plan)
    rows = list(ChipIndex.open(tmp_path / "x").all_rows())
    assert sorted({r.row for r in rows}) == [0, 45, 90, 110]
    assert sorted({r.col for r in rows}) == [0, 45, 90, 135, 180, 206]
    assert made.blank == 1
    assert (0, 0) not in {(r.row, r.col) for r in rows}
    assert made.added == 4 * 6 - 1


def test_the_same_command_again_adds_nothing(built, chips, scene, model):
    before = files(built)
    made = build_index([str(chips), str(scene)], built, model, PLAN)
    assert (made.added, made.known, made.chips) == (0, 48, 48)
    assert files(built) == before


@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_of_builds_is_one_build(built, chips, scene, model, tmp_path, data):
    sources = [*(str(p) for p in sorted(chips.iterdir())), str(scene)]
    order = data.draw(st.permutations(sources))
    cuts = data.draw(st.sets(st.integers(1, len(order) - 1), max_size=3))
    folder = tmp_path / "x"
    shutil.rmtree(folder, ignore_errors=True)
    starts = [0, *sorted(cuts), len(order)]
    for a, b in pairwise(starts):
        build_index([*order[a:b], *order[:1]], folder, model, PLAN)
    assert same_chips(folder, built)


def test_equal_chips_are_kept_once_or_on_wish_each(tmp_path, chips, model):
    other = tmp_path / "copy"
    shutil.copytree(chips, other)
    made = build_index([str(chips), str(other)], tmp_path / "x", model, PLAN)
    assert (made.added, made.duplicates) == (20, 20)
    kept = build_index(
        [str(chips), str(other)], tmp_path / "y", model, replace(PLAN, keep_duplicates=True)
    )
    assert (kept.added, kept.duplicates) == (40, 0)
    vectors = ChipIndex.open(tmp_path / "y").vectors
    assert vectors[:20] == pytest.approx(vectors[20:], abs=1e-5)


def test_pixels_are_described_once_with_a_cache(tmp_path, chips, model, monkeypatch):
    plan = replace(PLAN, cache=tmp_path / "cache")
    first = build_index([str(chips)], tmp_path / "x", model, plan)
    monkeypatch.setattr(EmbeddingModel, "embed", None)
    again = build_index([str(chips)], tmp_path / "y", model, plan)
    assert again.digest == first.digest
    assert files(tmp_path / "x") == files(tmp_path / "y")


def test_equal_pieces_may_be_done_at_once(tmp_path, chips, model, monkeypatch):
    paths = sorted((chips / "roofs").iterdir())
    batch = Batch(0, files=tuple(FileItem(str(p), stamp(p), "") for p in paths))
    job, save = BatchJob(model, str(tmp_path)), np.save

    def while_another_thread_does_it(file, vectors):
        monkeypatch.setattr(np, "save", save)
        job(batch)
        save(file, vectors)

    monkeypatch.setattr(np, "save", while_another_thread_does_it)
    assert load_vectors(Path(job(batch).file), len(paths)) is not None
    assert [p.suffix for p in tmp_path.iterdir()] == [".npy"]


def test_windows_far_apart_are_not_read_with_all_between(tmp_path, model, make_raster):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 160, 160), dtype=np.uint8)
    pixels[:, :16, :16] = pixels[:, -16:, -16:] = 0
    path, cut = make_raster(pixels, nodata=0), ChipGrid(16, 16, 0.9)
    assert build_index([str(path)], tmp_path / "x", model, replace(PLAN, chip_grid=cut)).blank == 2
    entry = sources.scene_entry(str(path), replace(cut, valid=0))
    batches, known = sources.batches_of(ChipIndex.open(tmp_path / "x"), [], [entry], 98)
    assert known == 98
    assert [[(w.row, w.col) for w in p.windows] for p in batches] == [[(0, 0)], [(144, 144)]]


# -- what cannot be used


@pytest.fixture
def mixed(tmp_path, make_raster):
    """A folder with every kind of image that there is, good and bad."""
    root = tmp_path / "mixed"
    root.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(ground(0, (20, 90), 1)).save(root / "good.png")
    Image.fromarray(rng.integers(0, 255, (9, 1), dtype=np.uint8)).save(root / "grey.png")
    rgba = np.dstack([ground(1, (30, 30), 1), np.full((30, 30), 9, np.uint8)])
    Image.fromarray(rgba).save(root / "alpha.png")
    (root / "broken.jpg").write_bytes(b"no image")
    (root / "empty.png").touch()
    whole = (root / "good.png").read_bytes()
    (root / "short.png").write_bytes(whole[: len(whole) // 2])
    four = make_raster(rng.integers(0, 9, (4, 8, 8), dtype=np.uint8), photometric="minisblack")
    shutil.move(four, root / "four.tif")
    wide = make_raster(rng.integers(0, 9999, (3, 8, 8), dtype=np.uint16))
    shutil.move(wide, root / "wide.tif")
    return root


def test_bad_images_among_good_ones(tmp_path, mixed, model):
    with pytest.raises(SceneError):
        build_index([str(mixed)], tmp_path / "x", model, PLAN)
    assert not (tmp_path / "x").exists()
    made = build_index([str(mixed)], tmp_path / "x", model, replace(PLAN, skip_bad=True))
    assert made.added == 3
    told = "\n".join(made.bad)
    for name in ("broken.jpg", "empty.png", "short.png"):
        assert f"cannot read {mixed / name}" in told or f"{mixed / name} is not a raster" in told
    assert "four.tif has 4 bands, 3 are needed" in told
    assert "wide.tif is uint16; pretrained nets know images of 8 bits" in told


@pytest.mark.parametrize("other", [{"bands": (3, 2, 1)}, {"nodata": 7.0}])
def test_a_scene_read_otherwise_is_not_taken_for_known(built, scene, model, other):
    before = files(built)
    plan = replace(PLAN, chip_grid=replace(PLAN.chip_grid, **other))
    with pytest.raises(ConfigError, match=r"is in the index with bands \(1, 2, 3\) and nodata"):
        build_index([str(scene)], built, model, plan)
    assert files(built) == before


def test_nothing_to_build_from(tmp_path, mixed, model):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SceneError, match="holds no image"):
        build_index([str(tmp_path / "nothing")], tmp_path / "x", model, PLAN)
    for name in ("good.png", "grey.png", "alpha.png"):
        (mixed / name).unlink()
    with pytest.raises(SceneError, match="no chip of 5 is left: 0 blank, 5 unreadable"):
        build_index([str(mixed)], tmp_path / "x", model, replace(PLAN, skip_bad=True))
    assert not (tmp_path / "x").exists()


def test_scenes_that_cannot_be_cut(tmp_path, scene, model, make_raster):
    def refused(match, path=scene, error=SceneError, **cut):
        with pytest.raises(error, match=match):
            build_index(
                [str(path)], tmp_path / "x", model, replace(PLAN, chip_grid=ChipGrid(**cut))
            )
        assert not (tmp_path / "x").exists()

    refused("at least 16 are needed", size=10, step=10)
    refused("has 160 x 256 px, a chip of 200 m 200 x 200", size=200)
    refused("2 bands, a net of ImageNet", bands=(1, 2))
    refused("positive metres", error=ConfigError, step=0)
    refused("uint16", make_raster(np.zeros((3, 80, 80), np.uint16)))
    (tmp_path / "wide.txt").write_text(str(make_raster(np.zeros((3, 80, 80), np.uint16))))
    with pytest.raises(SceneError, match="uint16"):  # nothing would be left
        build_index(
            [str(tmp_path / "wide.txt")], tmp_path / "x", model, replace(PLAN, skip_bad=True)
        )
    refused(
        "no chip of 1 is left: 1 blank",
        make_raster(np.zeros((3, 70, 70), np.uint8), nodata=0),
        size=70,
        step=70,
    )


def test_bad_scenes_among_good_ones(tmp_path, scene, model, make_raster):
    wide = make_raster(np.zeros((3, 80, 80), np.uint16))
    (tmp_path / "list.txt").write_text(f"{wide}\n{scene}\n")
    made = build_index(
        [str(tmp_path / "list.txt")], tmp_path / "x", model, replace(PLAN, skip_bad=True)
    )
    assert made.added == 28
    assert len(made.bad) == 1
    assert "uint16" in made.bad[0]


def test_grey_scenes_and_degrees(tmp_path, model, make_raster):
    from affine import Affine

    grey = np.random.default_rng(0).integers(0, 255, (1, 100, 100), dtype=np.uint8)
    path = make_raster(grey, crs="EPSG:4326", transform=Affine(1e-5, 0, 7.1, 0, -1e-5, 60.0))
    build_index([str(path)], tmp_path / "x", model, replace(PLAN, chip_grid=ChipGrid(40, 40)))
    rows = list(ChipIndex.open(tmp_path / "x").all_rows())
    assert {(r.height, r.width) for r in rows} == {(36, 72)}  # metres on the ground, at 60 north


def test_indexes_that_do_not_fit(tmp_path, built, chips, model):
    with pytest.raises(ChipIndexError, match="made with another model"):
        build_index([str(chips)], built, EmbeddingModel(SMALL, "random:1"), PLAN)
    with pytest.raises(ChipIndexError, match="rotations: 1, not 4"):
        build_index(
            [str(chips)],
            built,
            EmbeddingModel(EmbeddingConfig(side=32, rotations=4), "random:0"),
            PLAN,
        )
    with pytest.raises(ChipIndexError, match="holds float32, not float16"):
        build_index([str(chips)], built, model, replace(PLAN, dtype="float16"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "work").mkdir()
    (tmp_path / "a" / "work" / "thesis.doc").touch()
    with pytest.raises(ChipIndexError, match="a folder of something else"):
        build_index([str(chips)], tmp_path / "a", model, PLAN)
    with pytest.raises(ChipIndexError, match="is a file"):
        build_index([str(chips)], tmp_path / "a" / "work" / "thesis.doc", model, PLAN)


def test_an_approximate_search_on_request(tmp_path, model):
    chips = draw_chips(tmp_path / "many", each=20)
    made = build_index([str(chips)], tmp_path / "x", model, replace(PLAN, search="hnsw"))
    assert made.search == "hnsw"
    assert made.recall > 0.9
    assert build_index([str(chips)], tmp_path / "x", model, PLAN).search == "hnsw"
    (file,) = (tmp_path / "x").glob("*.faiss")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])  # then it is made anew
    build_index([str(chips)], tmp_path / "x", model, PLAN)
    assert file.stat().st_size == len(whole)
    assert (
        build_index([str(chips)], tmp_path / "x", model, replace(PLAN, search="exact")).recall
        is None
    )
    assert not list((tmp_path / "x").glob("*.faiss"))


# -- where it runs, and when it is stopped


@given(st.permutations(range(8)))
def test_pieces_go_in_in_their_order(order):
    done = ((Batch(i + 3), str(i)) for i in order)
    assert [text for _, text in build._in_order(done, 3)] == list("01234567")


def test_threads_make_the_same_bytes(tmp_path, built, chips, scene, model):
    plan = replace(PLAN, workers=Workers(threads=4))
    build_index([str(chips), str(scene)], tmp_path / "x", model, plan)
    assert files(tmp_path / "x") == files(built)


def test_a_process_of_dask_makes_the_same_bytes(tmp_path, built, chips, scene, model):
    plan = replace(PLAN, workers=Workers(1))
    build_index([str(chips), str(scene)], tmp_path / "x", model, plan)
    assert files(tmp_path / "x") == files(built)


def test_killed_again_and_again_the_index_is_that_of_an_undisturbed_build(
    tmp_path, chips, model, monkeypatch
):
    scene = draw_scene(tmp_path / "scene.tif")
    sources, folder = [str(chips), str(scene)], tmp_path / "x"
    command = [sys.executable, str(Path(__file__).with_name("killed_build.py")), str(folder)]
    for parts in (1, 3):
        run = subprocess.Popen([*command, *sources], stderr=subprocess.PIPE)
        end = time.monotonic() + 90
        while time.monotonic() < end and not _has(folder, parts):
            assert run.poll() is None, run.stderr.read().decode()[-2000:]
            time.sleep(0.02)
        run.kill()
        run.communicate()
        index = ChipIndex.open(folder)  # readable at any time
        index.verify()
        assert index.header.unfinished is not None
        assert len(index) < 48
    in_small_parts(monkeypatch.setattr)
    going = build_index(sources, folder, model, PLAN)
    whole = build_index(sources, tmp_path / "y", model, PLAN)
    assert going.digest == whole.digest
    assert files(folder) == files(tmp_path / "y")


def _has(folder, parts):
    return (folder / NAME).exists() and len(Header.read(folder).parts) >= parts
