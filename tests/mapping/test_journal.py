"""The journal of a map: what it says is done is done, wherever a kill or a full disk cut it."""

import errno
import json
import math
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_place import fingerprints

from geopipe.errors import JobError
from geopipe.mapping import WORK, unfinished
from geopipe.mapping.journal import NAME, TILES, Journal
from geopipe.mapping.tile import TileResult
from geopipe.mapping.tile_store import tile_path

INPUTS = {"scene": "s.tif", "core": 256, "nodata": None, "place": [0.1, 1 / 3]}
COUNT = 6


def opened(folder, inputs=INPUTS, tiles=COUNT, classes=2, **options):
    return Journal(folder, inputs, tiles, classes=classes, **options)


def tiles_in(folder):
    """Where the tiles are of the only inputs that there are."""
    (tiles,) = (folder / TILES).iterdir()
    return tiles


def missing(journal):
    return {i for i in range(COUNT) if not journal.is_complete(i)}


def add(journal, index, size=10, bad=""):
    """Do what a worker and then the journal does; returns what the journal should give back."""
    path = tile_path(journal.tiles, index)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    done = TileResult((index, 7), size, bad)
    journal.add(index, done)
    return done


def looked(folder, **options):
    """What a run finds done, and what it would do."""
    journal = opened(folder, **options)
    try:
        found = list(journal.recorded())
        assert list(journal.recorded()) == [], "each tile once, or its pixels count twice"
        return dict(found), missing(journal)
    finally:
        journal.close()


def filled(folder, indices=range(COUNT)):
    journal = opened(folder)
    done = {i: add(journal, i, 10 + i) for i in indices}
    journal.close()
    return done


def test_what_is_added_is_what_the_next_run_finds(tmp_path):
    journal = opened(tmp_path)
    assert list(journal.recorded()) == []
    assert sorted(missing(journal)) == list(range(COUNT))
    done = {i: add(journal, i) for i in (4, 0, 1)}
    assert sorted(missing(journal)) == [2, 3, 5]
    journal.close()
    assert looked(tmp_path) == (done, {2, 3, 5})


def test_tiles_in_folders_of_a_thousand(tmp_path):
    journal = opened(tmp_path, tiles=1_000_002)
    done = {i: add(journal, i) for i in (0, 999, 1000, 1_000_001)}
    journal.close()
    assert len({p.parent for p in (tmp_path / TILES).rglob("*.tif")}) == 3
    assert looked(tmp_path, tiles=1_000_002)[0] == done


# -- cut anywhere


def test_a_journal_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(tmp_path):
    done = filled(tmp_path, range(3))
    text = (tmp_path / NAME).read_bytes()
    ends = [i for i, byte in enumerate(text) if byte == ord("\n")]
    tiles = shutil.copytree(tmp_path / TILES, tmp_path / "kept")
    for cut in range(len(text) + 1):
        (tmp_path / NAME).write_bytes(text[:cut])
        if len(list((tmp_path / TILES).rglob("*.tif"))) < 3:
            shutil.copytree(tiles, tmp_path / TILES, dirs_exist_ok=True)
        whole = max(sum(end <= cut for end in ends) - 1, 0)  # without the head
        expected = {i: done[i] for i in range(whole)}
        assert looked(tmp_path) == (expected, set(range(whole, COUNT)))
        journal = opened(tmp_path)
        list(journal.recorded())
        rest = {i: add(journal, i, 10 + i) for i in missing(journal)}
        journal.close()
        assert looked(tmp_path) == ({**expected, **rest}, set()), f"cut at {cut}"


ADDED = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, 3), st.booleans()))
"""(tile, bytes of its file, bad)"""


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(st.tuples(ADDED, st.floats(0, 1)), max_size=4), data=st.data())
def test_done_is_what_has_a_whole_line_and_its_whole_file(runs, data):
    """Run after run is cut anywhere, then files are lost, cut or grow: nothing is made up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for added, share in runs:
            journal = opened(folder)
            for index, size, bad in added:
                add(journal, index, size, "damaged" * bad)
            journal.close()
            os.truncate(folder / NAME, int(share * (folder / NAME).stat().st_size))
        for path in (folder / TILES).rglob("*.tif"):
            size = data.draw(st.none() | st.integers(0, 3))
            path.unlink() if size is None else path.write_bytes(b"y" * size)
        sizes = {int(p.stem): p.stat().st_size for p in (folder / TILES).rglob("*.tif")}
        head, lines = None, []
        for line in (folder / NAME).read_bytes().split(b"\n") if runs else []:
            try:
                head, lines = (head, [*lines, json.loads(line)]) if head else (json.loads(line), [])
            except ValueError:
                continue
        done = {x["tile"] for x in lines if not x["bad"] and sizes.get(x["tile"]) == x["size"]}
        found, others = looked(folder)
        assert set(found) == done
        assert others == set(range(COUNT)) - done
        for index, tile in found.items():
            assert tile_path(tiles_in(folder), index).stat().st_size == tile.size
            assert tile.pixels == (index, 7)


@pytest.mark.parametrize("harm", ["gone", "cut", "empty", "longer"])
def test_a_tile_whose_file_is_not_whole_is_done_again(tmp_path, harm):
    done = filled(tmp_path)
    path = tile_path(tiles_in(tmp_path), 2)
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * {"cut": 11, "empty": 0, "longer": 13}[harm])
    del done[2]
    assert looked(tmp_path) == (done, {2})


@pytest.mark.parametrize("text", [b"", b"\n", b'{"scene": "s.t', b"\0" * 300, b"\xff\xfe\x00[5]\n"])
def test_a_journal_without_a_head_is_begun_anew(tmp_path, text):
    filled(tmp_path)
    (tmp_path / NAME).write_bytes(text)
    assert looked(tmp_path) == ({}, set(range(COUNT)))
    assert not list((tmp_path / TILES).rglob("*.tif")), "tiles of inputs that nobody knows"


@pytest.mark.parametrize("text", [b"\0" * 90, b"\xff\xfe", b"[1]\n3\nnull\n", b'{"tile": 5, "pix'])
def test_lines_that_are_none_are_passed_over(tmp_path, text):
    done = filled(tmp_path, (0, 1))
    with (tmp_path / NAME).open("ab") as file:
        file.write(text)
    assert looked(tmp_path) == (done, {2, 3, 4, 5})


def test_a_bad_tile_is_tried_again_by_the_next_run(tmp_path):
    journal = opened(tmp_path)
    good = add(journal, 0)
    add(journal, 1, bad="cannot read rows 0-5")
    assert 1 not in missing(journal), "within a run once is enough"
    journal.close()
    journal = opened(tmp_path)
    assert dict(journal.recorded()) == {0: good}
    better = add(journal, 1, 12)
    journal.close()
    assert looked(tmp_path) == ({0: good, 1: better}, {2, 3, 4, 5})


# -- other inputs


def test_other_inputs_are_refused_by_name_and_nothing_is_touched(tmp_path):
    filled(tmp_path)
    before = fingerprints(tmp_path)
    for other, names in (
        ({"core": 512}, "core"),
        ({"scene": "t.tif", "place": [0.1, 0.3]}, "place, scene"),
        ({"precision": "float32"}, "precision"),
    ):
        with pytest.raises(JobError, match=rf"made with another {names} \(") as caught:
            opened(tmp_path, {**INPUTS, **other})
        assert "`restart`" in caught.value.hint
    with pytest.raises(JobError, match=r"another nodata \("):
        opened(tmp_path, {k: v for k, v in INPUTS.items() if k != "nodata"})
    assert fingerprints(tmp_path) == before
    assert len(looked(tmp_path)[0]) == COUNT, "a journal that was refused is not locked either"


def test_restart_drops_the_tiles_of_other_inputs_and_only_of_those(tmp_path):
    done = filled(tmp_path)
    assert looked(tmp_path, restart=True) == (done, set())
    other = {**INPUTS, "core": 512}
    assert looked(tmp_path, inputs=other, restart=True) == ({}, set(range(COUNT)))
    assert not list((tmp_path / TILES).rglob("*.tif"))
    with pytest.raises(JobError, match="another core"):
        looked(tmp_path)


def test_what_a_worker_of_other_inputs_still_writes_is_not_taken(tmp_path):
    """On a cluster a tile goes on when its client is killed, and may end after --restart."""
    first = opened(tmp_path)
    first.close()
    other = {**INPUTS, "model": "another"}
    second = opened(tmp_path, other, restart=True)
    done = add(second, 0)
    add(second, 1)
    second.close()
    for index in (0, 1):
        late = tile_path(first.tiles, index)
        late.parent.mkdir(parents=True, exist_ok=True)
        late.write_bytes(b"late")
    found, others = looked(tmp_path, inputs=other)
    assert found[0] == done
    assert others == {2, 3, 4, 5}
    assert tile_path(second.tiles, 0).read_bytes() == b"x" * 10
    Journal.forget(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 1e-300, 0.1 + 0.2, "é\n", [[1, 2], {"a": 3}]]
)
def test_any_value_equals_itself_after_it_was_written(tmp_path, value):
    inputs = {**INPUTS, "nodata": value}
    journal = opened(tmp_path, inputs)
    done = add(journal, 0)
    journal.close()
    assert looked(tmp_path, inputs=inputs)[0] == {0: done}


# -- two at once, full disks


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    first = opened(tmp_path)
    add(first, 0)
    for restart in (False, True):
        with pytest.raises(JobError, match="another run is at work in") as caught:
            opened(tmp_path, restart=restart)
        assert caught.value.hint
    done = add(first, 1)
    first.close()
    assert looked(tmp_path)[0][1] == done


def test_the_lock_goes_with_a_process_that_is_killed(tmp_path):
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        add(opened(tmp_path), 3)
        os.write(told, b"!")
        signal.pause()
    os.read(ready, 1)
    with pytest.raises(JobError, match="another run"):
        opened(tmp_path)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert set(looked(tmp_path)[0]) == {3}
    for end in (ready, told):
        os.close(end)


def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuses)
    assert len(looked(tmp_path)[1]) == COUNT


def test_a_disk_that_is_full_in_the_middle_of_a_line_is_told_and_harms_no_other(tmp_path):
    journal = opened(tmp_path)
    done = {0: add(journal, 0)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = (tmp_path / NAME).stat().st_size + 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            add(journal, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.close()
    assert (tmp_path / NAME).stat().st_size == full, "half a line"
    journal = opened(tmp_path)
    assert dict(journal.recorded()) == done
    done |= {i: add(journal, i) for i in missing(journal)}
    journal.close()
    assert looked(tmp_path) == (done, set())


# -- its end


def test_forget_removes_what_a_run_leaves_and_nothing_else(tmp_path):
    filled(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(WORK)
    (tmp_path / "classes.tif").touch()
    for _ in range(2):
        Journal.forget(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["classes.tif"]


def test_unfinished_is_what_has_a_tile(tmp_path):
    assert not unfinished(tmp_path / "nowhere")
    assert not unfinished(tmp_path)
    opened(tmp_path).close()
    assert not unfinished(tmp_path)
    filled(tmp_path, [5])
    assert unfinished(tmp_path)
    os.truncate(tmp_path / NAME, (tmp_path / NAME).stat().st_size - 2)
    assert not unfinished(tmp_path)
