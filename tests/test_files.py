"""Outputs appear complete or not at all, whatever the system says."""

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from geopipe.errors import JobError, OutputError, SceneError, UnsafeFileError
from geopipe.files import (
    atomic_file,
    atomic_files,
    atomic_folder,
    clean_parts,
    work_folder,
)
from geopipe.locks import lock_folder
from geopipe.oserrors import failure, write_error, writing

HOLDS = """
import sys, time
from pathlib import Path
from geopipe.files import atomic_file
with atomic_file(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder):
    return {p.name for p in folder.iterdir()}


def test_a_file_has_its_name_while_it_is_written(tmp_path):
    out = tmp_path / "a.gpkg"
    with atomic_file(out) as part:
        assert part == tmp_path / "a.gpkg.part" / "a.gpkg"
        part.write_text("new")
        assert not out.exists()
    assert names(tmp_path) == {"a.gpkg"}
    assert out.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SceneError("damaged"), OSError(28, "full")])
def test_what_fails_leaves_the_old_file(tmp_path, error):
    out = tmp_path / "a"
    out.write_text("old")

    def fails():
        with atomic_file(out) as part:
            part.write_text("half")
            raise error

    with pytest.raises((KeyboardInterrupt, SceneError, OutputError)):
        fails()
    assert names(tmp_path) == {"a"}
    assert out.read_text() == "old"


def test_sidecars_move_with_the_file_and_an_old_one_goes(tmp_path):
    out = tmp_path / "a.tif"
    for text in ("first", "second"):
        with atomic_file(out) as part:
            part.write_text(text)
            part.with_name("a.tif.aux.xml").write_text(text)
        assert (tmp_path / "a.tif.aux.xml").read_text() == text
    with atomic_file(out) as part:
        part.write_text("third")
    assert names(tmp_path) == {"a.tif"}


def test_files_that_belong_together_come_together(tmp_path, monkeypatch):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("old a")
    works = Path.replace

    def fails(path, target):
        if path.name == "b" and target == b:
            raise OSError(errno.EIO, "Input/output error")
        return works(path, target)

    def write():
        with atomic_files([a, b]) as parts:
            for part in parts:
                part.write_text(f"new {part.name}")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OutputError, match=r"cannot write .*/b: input/output error"):
        write()
    assert names(tmp_path) == {"a"}
    assert a.read_text() == "old a"
    monkeypatch.undo()
    write()
    assert (a.read_text(), b.read_text()) == ("new a", "new b")


def test_a_disk_that_says_only_when_synced_that_it_is_full(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OutputError, match="quota is used up") as caught,
        atomic_file(tmp_path / "a") as p,
    ):
        p.write_text("x")
    assert caught.value.hint == "make room, or write to another disk"
    assert names(tmp_path) == set()


def test_a_second_writer_is_refused_and_a_killed_one_is_cleaned_up(tmp_path):
    out = tmp_path / "a"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(out)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "writing\n"
        with (
            pytest.raises(JobError, match=r"another run is at work in .*a\.part"),
            atomic_file(out),
        ):
            pass
        assert (tmp_path / "a.part" / "a").read_text() == "half"
        first.kill()
    with atomic_file(out) as part:
        assert names(part.parent) == set()
        part.write_text("whole")
    assert names(tmp_path) == {"a"}


def test_workers_may_write_the_same_tile(tmp_path):
    with (
        atomic_file(tmp_path / "t", shared=True) as a,
        atomic_file(tmp_path / "t", shared=True) as b,
    ):
        a.write_text("tile")
        b.write_text("tile")
    assert names(tmp_path) == {"t"}


def test_parts_of_killed_workers_go_and_those_of_others_stay(tmp_path):
    for name in ("t.npy.part-x1", "chips.parquet.part", "photos.part"):
        (tmp_path / name).mkdir()
    (tmp_path / "t.npy.part-x1" / "t.npy").write_text("half")
    (tmp_path / "photos.part" / "me.jpg").write_text("precious")
    clean_parts(tmp_path)
    assert names(tmp_path) == {"photos.part"}
    with pytest.raises(UnsafeFileError, match="did not make"), atomic_file(tmp_path / "photos"):
        pass
    assert (tmp_path / "photos.part" / "me.jpg").exists()


def test_a_folder_replaces_the_old_one_in_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    for text in ("old", "new"):
        with atomic_folder(out, {"a", "b"}, overwrite=True) as part:
            (part / "a").write_text(text)
            if text == "old":
                (part / "b").write_text(text)
            with pytest.raises(JobError), atomic_folder(out, {"a", "b"}, overwrite=True):
                pass
    assert names(out) == {"a"}
    assert (out / "a").read_text() == "new"
    assert names(tmp_path / "deep") == {"out"}
    with pytest.raises(OutputError), atomic_folder(tmp_path / "x" / "y", set(), overwrite=False):
        raise OSError(errno.EROFS, "Read-only file system")
    assert names(tmp_path) == {"deep"}


def test_a_folder_that_a_killed_run_moved_away_comes_back(tmp_path):
    old = tmp_path / ".out.old-abc" / "map"
    old.mkdir(parents=True)
    (old / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "out", {"a"}, overwrite=True):
        raise KeyboardInterrupt
    assert names(tmp_path) == {"out"}
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_a_work_folder_of_somebody_else_is_not_removed(tmp_path):
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "thesis.txt").write_text("precious")
    with pytest.raises(UnsafeFileError), work_folder(tmp_path / "out", None):
        pass
    assert (tmp_path / "out.work" / "thesis.txt").exists()


def test_a_lock_goes_with_its_run(tmp_path):
    with lock_folder(tmp_path / "x"), pytest.raises(JobError), lock_folder(tmp_path / "x"):
        pass
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError(errno.ELOOP, "x"), os.strerror(errno.ELOOP)),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (sqlite3.OperationalError("disk I/O error"), "input/output error"),
        (RuntimeError("I/O error: No space left (os error 28)"), "the disk is full"),
        (RuntimeError("write error in f: 0 != 1 (Input/output error)"), "input/output error"),
        (RuntimeError("something  else"), "something else"),
    ],
)
def test_the_reason_in_words(error, reason):
    assert failure(error)[0] == reason


def test_the_message_names_the_output_and_what_else_failed(tmp_path):
    with pytest.raises(OutputError) as caught, atomic_file(tmp_path / "none" / "a"):
        pass
    assert str(caught.value).startswith(f"cannot write {tmp_path}/none/a: there is no such file")
    with pytest.raises(OutputError) as caught, atomic_file(tmp_path / "a"):
        Path("/nowhere/weights").read_text()
    assert caught.value.message == (
        f"cannot write {tmp_path}/a: /nowhere/weights: there is no such file or folder"
    )


@pytest.mark.parametrize(
    "on_the_way",
    ["my map.tif.burned.tif.part/my map.tif.burned.tif", "my map.tif.part-x1_y/tiles/3.tif"],
)
def test_the_message_names_the_output_and_not_a_file_on_the_way(tmp_path, on_the_way):
    out = tmp_path / "my map.tif"
    library = RuntimeError(f"TIFFResetField:{tmp_path / on_the_way}: Could not find tag 277.")
    with pytest.raises(OutputError) as caught, writing(out):
        raise write_error(tmp_path / on_the_way, library)
    assert caught.value.message == f"cannot write {out}: it could not be written completely"
    assert str(caught.value).endswith("has a fault)")
    with pytest.raises(OutputError, match=r"my map\.tif\.parts/a: the disk is full"), writing(out):
        raise write_error(Path(f"{out}.parts/a"), OSError(errno.ENOSPC, ""))


def test_a_part_that_cannot_be_opened_once_goes_all_the_same(tmp_path, monkeypatch):
    works, calls = shutil.rmtree, []

    def fails_once(path, **options):
        calls.append(path)
        if len(calls) > 1:
            works(path, **options)

    monkeypatch.setattr(shutil, "rmtree", fails_once)
    with atomic_file(tmp_path / "a") as part:
        part.write_text("x")
        part.with_name("a.tmp").mkdir()
    with atomic_folder(tmp_path / "b", (), overwrite=False) as folder:
        (folder / "c").touch()
    assert names(tmp_path) == {"a", "a.tmp", "b"}
    assert calls


def _open_in_an_editor(path, text):
    """A database whose last pages are in its ``-wal``, as an editor that was killed leaves it."""
    code = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('PRAGMA journal_mode=WAL'); db.execute('CREATE TABLE t (a)');"
        "db.execute('INSERT INTO t VALUES (?)', [sys.argv[2] * 20000]); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, path, text], check=False)
    assert path.with_name(path.name + "-wal").stat().st_size > 0


@pytest.mark.parametrize("count", [1, 2])
def test_pages_of_an_old_database_do_not_get_into_the_new_one(tmp_path, count):
    outs = [tmp_path / f"{i}.gpkg" for i in range(count)]
    _open_in_an_editor(outs[0], "old")
    with atomic_files(outs) as parts:
        for part in parts:
            with closing(sqlite3.connect(part)) as db, db:
                db.execute("CREATE TABLE new (a)")
    assert names(tmp_path) == {p.name for p in outs}
    with closing(sqlite3.connect(outs[0])) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("new",)]
        assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)]


def test_a_database_that_is_not_replaced_keeps_its_pages(tmp_path):
    out, other = tmp_path / "a.gpkg", tmp_path / "b"
    _open_in_an_editor(out, "old")
    other.mkdir()
    (other / "in the way").touch()

    def write():
        with atomic_files([out, other]) as parts:
            for part in parts:
                part.write_text("new")

    with pytest.raises(OutputError):
        write()
    assert (other / "in the way").exists()
    with closing(sqlite3.connect(out)) as db:
        assert db.execute("SELECT length(a) FROM t").fetchall() == [(60000,)]


def test_what_a_run_set_aside_that_was_killed_comes_back(tmp_path):
    code = (
        "import os, pathlib, sys; from geopipe.files import atomic_files;"
        "pathlib.Path.replace = lambda *a: os._exit(9)\n"
        "with atomic_files([pathlib.Path(p) for p in sys.argv[1:]]) as parts:\n"
        "    [part.write_text('new') for part in parts]"
    )
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        out.write_text("old")
    subprocess.run([sys.executable, "-c", code, *outs], check=False)
    assert not outs[0].exists()
    with pytest.raises(SceneError), atomic_files(outs):
        raise SceneError("damaged")
    assert [out.read_text() for out in outs] == ["old", "old"]
    assert names(tmp_path) == {"a", "b"}
