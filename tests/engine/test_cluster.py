"""Workers and schedulers that die: what others can do is done, and what is done is kept."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hungry import Eats
from stopping import TILES, done_tiles

from geopipe.errors import JobError
from geopipe.grid import Tiling
from geopipe.mapping import Workers, run_tiles
from geopipe.mapping import scene as mapping
from geopipe.mapping.tile import TileJob

pytestmark = pytest.mark.usefixtures("one_thread")

DASK = Path(sys.executable).with_name("dask")


@dataclass(frozen=True)
class Cluster:
    """Processes of ``dask scheduler`` and ``dask worker``."""

    address: str
    scheduler: subprocess.Popen
    workers: list


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers of one thread; nobody starts them again when they die."""
    from distributed import Client

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    folder, address = tmp_path_factory.mktemp("cluster"), f"tcp://127.0.0.1:{port}"
    processes = []

    def start(*words):
        with (folder / "log").open("ab") as log:
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            processes.append(
                subprocess.Popen([DASK, *words], stdout=log, stderr=log, cwd=folder, env=env)
            )
        return processes[-1]

    try:
        scheduler = start(
            "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"
        )
        workers = [
            start(
                "worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
                "--memory-limit",
                "0",
                "--local-directory",
                str(folder),
            )
            for _ in range(2)
        ]
        with Client(address, timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield Cluster(address, scheduler, workers)
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def after(monkeypatch):
    """``after(n, act)``: act() once n tiles are recorded."""

    def patch(number, act):
        add, seen = mapping.Journal.add, []

        def adds(journal, index, done):
            add(journal, index, done)
            seen.append(index)
            if len(seen) == number:
                act()

        monkeypatch.setattr(mapping.Journal, "add", adds)
        return seen

    return patch


def test_a_cluster_that_loses_a_worker_and_then_its_scheduler(
    large_place, cluster, geopipe, same_map, tmp_path, after, monkeypatch
):
    words = ("--scheduler", cluster.address)
    seen = after(5, cluster.workers[0].kill)
    said = geopipe(*large_place.words(tmp_path / "one", *words))
    assert said.exit_code == 0, said.stderr
    assert cluster.workers[0].wait(5) == -signal.SIGKILL
    assert sorted(seen) == list(range(TILES)), "each tile once"
    same_map(tmp_path / "one", large_place)

    out, start = tmp_path / "two", []
    after(6, lambda: (cluster.scheduler.kill(), start.append(time.monotonic())))
    said = geopipe(*large_place.words(out, *words))
    assert time.monotonic() - start[0] < 30
    assert (said.exit_code, said.stdout) == (1, "")
    assert "the scheduler is gone" in said.stderr
    error = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert f"{large_place.scene}: tile " in error[0]
    known = done_tiles(out)
    assert len(known) >= 6

    monkeypatch.setattr("geopipe.parallel.cluster._ANSWER_S", 0.5)
    said = geopipe(*large_place.words(out, *words))
    assert f"no dask scheduler answers at {cluster.address}" in said.stderr
    assert done_tiles(out) == known
    seen = after(99, None)
    assert geopipe(*large_place.words(out)).exit_code == 0
    assert len(seen) == TILES - len(known), "what the cluster did is not done again"
    same_map(out, large_place)


def living(process):
    return [p for p in process.children() if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the fork server's children")
def test_a_local_process_that_dies_is_replaced(large_place, geopipe, same_map, tmp_path, after):
    killed = []

    def kill():
        servers = [p for p in living(psutil.Process()) if "forkserver" in " ".join(p.cmdline())]
        worker = next(worker for server in servers for worker in living(server))
        worker.kill()
        killed.append(worker.pid)

    seen = after(5, kill)
    said = geopipe(*large_place.words(tmp_path / "map", "--workers", 2))
    assert said.exit_code == 0, said.stderr
    assert len(killed) == 1
    assert sorted(seen) == list(range(TILES))
    same_map(tmp_path / "map", large_place)


def test_a_map_whose_tiles_are_all_done_needs_no_workers(
    place, geopipe, same_map, tmp_path, monkeypatch
):
    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("geopipe.mapping.map_rasters.write_class_cog", fails)
        assert geopipe(*place.words(tmp_path / "map")).exit_code == 1
    assert len(done_tiles(tmp_path / "map")) == 6
    said = geopipe(*place.words(tmp_path / "map", "--scheduler", "tcp://127.0.0.1:1"))
    assert said.exit_code == 0, said.stderr
    same_map(tmp_path / "map", place)


def test_a_worker_near_its_limit_works_on_and_one_beyond_it_is_told_with_its_tile():
    """At 90 % dask would pause a worker for good; its memory is torch's and does not go."""
    import dask

    found, workers = [], Workers(1, threads=1, memory_mb=600)

    def work():
        for tile, _ in run_tiles(Eats(540, 6), Tiling((256, 256 * 7), 256), workers):
            found.append(tile.index)

    text = r"tile 6 \(rows 0-256, .*\): its worker died 1 times"
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        pytest.raises(JobError, match=text) as caught,
    ):
        work()
    assert set(found) == {0, 1, 2, 3, 4, 5}
    assert "smaller tiles" in caught.value.hint


def test_memory_that_is_out_names_tile_place_and_scene(place, geopipe, tmp_path, monkeypatch):
    works = TileJob.__call__

    def fails(job, tile):
        if tile.index == 4:
            raise MemoryError
        return works(job, tile)

    monkeypatch.setattr(TileJob, "__call__", fails)
    said = geopipe(*place.words(tmp_path / "map"))
    assert said.exit_code == 1
    assert said.stderr == (
        f"error: {place.scene}: tile 4 (rows 256-300, columns 256-512): out of memory - "
        "use smaller tiles or less memory\n"
    )
