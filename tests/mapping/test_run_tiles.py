"""One function over many tiles, wherever it runs."""

import os
import random
import sys
import time
from dataclasses import dataclass

import dask
import pytest

from geopipe.errors import ConfigError, GeopipeError, JobError
from geopipe.grid import Tiling
from geopipe.mapping import LOCAL, Workers, run_tiles
from geopipe.parallel import cluster
from geopipe.parallel.cluster import GROUP, PREFETCH, _groups

TILING = Tiling((1000, 1300), 256)  # 24 tiles


def where(tile):
    """Out of order on purpose."""
    time.sleep(random.Random(tile.index).uniform(0, 0.03))
    return tile.core, os.getpid()


def fails_at_5(tile):
    if tile.index == 5:
        raise RuntimeError("the disk\nis on fire")
    return tile.index


@dataclass(frozen=True)
class Refuses:
    """Raises an error of geopipe; some are also an OSError or a ValueError."""

    kind: type[GeopipeError]

    def __call__(self, tile):
        raise self.kind("no use", "take another")


def too_large(tile):
    raise MemoryError


class DiesOnce:
    def __init__(self, mark):
        self.mark = mark

    def __call__(self, tile):
        if tile.index == 1 and not self.mark.exists():
            self.mark.touch()
            os._exit(1)
        return tile.core


def parent_and_word(tile):
    return os.getppid(), os.environ.get("GEOPIPE_TEST_WORD")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process imports by itself")
def test_local_workers_are_forked_from_one_server_and_know_the_environment_of_today(monkeypatch):
    found = []
    for word in ("one", "two"):
        monkeypatch.setenv("GEOPIPE_TEST_WORD", word)
        found.append({result for _, result in run_tiles(parent_and_word, TILING, Workers(1))})
    ((server, first),), ((again, second),) = found
    assert server == again != os.getpid()
    assert (first, second) == ("one", "two")


def test_the_server_imports_what_is_imported_here():
    from multiprocessing.forkserver import _forkserver

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        cluster._preload()
    assert {"distributed", "geopipe.mapping.tile"} <= set(_forkserver._preload_modules)


def test_every_tile_comes_once_with_its_own_result(cluster):
    for workers in (LOCAL, Workers(scheduler=cluster)):
        found = list(run_tiles(where, TILING, workers))
        assert sorted(t.index for t, _ in found) == list(range(24))
        assert all(tile == TILING[tile.index] for tile, _ in found)
        assert all(core == tile.core for tile, (core, _) in found)
        others = {pid for _, (_, pid) in found} - {os.getpid()}
        assert len(others) == (2 if workers.scheduler else 0)


def test_few_tiles_are_in_flight_so_that_memory_does_not_grow(cluster):
    asked, tiling = [], Tiling((256 * 20, 256 * 20), 256)
    tiles = (asked.append(t) or t for t in tiling)
    for done, _ in enumerate(run_tiles(index_of, tiles, Workers(scheduler=cluster)), 1):
        assert len(asked) <= done + 2 * PREFETCH * 2 * GROUP
    assert done == 400


def index_of(tile):
    return tile.index


def test_groups_hold_every_tile_once_in_order_and_shrink_towards_the_end():
    for n in (1, 7, 31, 32, 100, 1000):
        groups = list(_groups(Tiling((256, 256 * n), 256), 2))
        assert [t.index for g in groups for t in g] == list(range(n))
        sizes = [len(g) for g in groups]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 1
        assert sizes[0] == min(GROUP, max(1, n // (2 * PREFETCH)))


def test_what_a_task_did_before_an_error_is_told(cluster):
    told = []

    def tell():
        for tile, _ in run_tiles(fails_at_5, TILING, Workers(scheduler=cluster)):
            told.append(tile.index)

    with pytest.raises(JobError, match=r"^tile 5 "):
        tell()
    assert set(range(5)) <= set(told), "tiles 0 to 5 are one task"
    assert 5 not in told


def test_a_failing_tile_is_named(cluster):
    for workers in (LOCAL, Workers(scheduler=cluster)):
        with pytest.raises(JobError, match=r"^tile 5 \(rows 0-256, columns 1280-1300\): Runtime"):
            list(run_tiles(fails_at_5, TILING, workers))


def test_of_several_that_fail_the_first_is_named():
    def fails(tile):
        if tile.index:
            raise RuntimeError("no")

    for _ in range(50):
        with pytest.raises(JobError, match=r"tile 1 "):
            list(run_tiles(fails, TILING, Workers(threads=1)))


def test_memory_that_is_out_names_the_way_out():
    with pytest.raises(
        JobError, match=r"tile 0 \(rows 0-256, .*\): out of memory \(use smaller tiles"
    ):
        list(run_tiles(too_large, TILING, LOCAL))


@pytest.mark.parametrize("kind", GeopipeError.__subclasses__())
def test_an_error_of_geopipe_passes_unchanged(cluster, kind):
    for workers in (LOCAL, Workers(scheduler=cluster)):
        with pytest.raises(kind) as caught:
            list(run_tiles(Refuses(kind), TILING, workers))
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.hint) == ("no use", "take another")


def test_a_worker_that_dies_once_is_replaced(tmp_path, cluster):
    job = DiesOnce(tmp_path / "died")
    found = list(run_tiles(job, Tiling((512, 1024), 256), Workers(scheduler=cluster)))
    assert job.mark.exists()
    assert sorted(t.index for t, _ in found) == list(range(8))
    assert all(core == tile.core for tile, core in found)


def test_workers_and_scheduler_contradict_each_other():
    with pytest.raises(ConfigError, match="give `workers` or `scheduler`, not both"):
        Workers(2, "tcp://127.0.0.1:8786")
    with pytest.raises(ConfigError, match=r"workers=-1 is negative \(0 runs in this process\)"):
        Workers(-1)


def test_a_scheduler_that_does_not_answer_is_an_error_in_one_line(free_port, monkeypatch):
    assert cluster._ANSWER_S <= 10, "an address that is wrong should not cost a coffee break"
    monkeypatch.setattr(cluster, "_ANSWER_S", 0.5)
    start = time.monotonic()
    address = f"tcp://127.0.0.1:{free_port}"
    with pytest.raises(JobError, match="no dask scheduler answers at " + address) as caught:
        list(run_tiles(where, TILING, Workers(scheduler=address)))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 5
