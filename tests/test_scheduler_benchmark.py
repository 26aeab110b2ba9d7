"""The simulation of the scheduler on a handful of tiles, and the arithmetic about France."""

import json
from pathlib import Path

import psutil
import pytest

from benchmarks import france, scheduler
from benchmarks.local_cluster import Cluster
from benchmarks.overhead import Idle, first, mosaic, resume, tiling
from geopipe.mapping.journal import NAME
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel


@pytest.fixture(scope="module")
def run():
    """A scheduler and one worker of two threads in this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
        silence_logs="CRITICAL",
    ) as cluster:
        yield Cluster(cluster.scheduler_address, {"client": [psutil.Process()]})


@pytest.mark.parametrize("name", scheduler.WAYS)
def test_every_way_does_every_tile_once(run, name):
    way, in_task = scheduler.WAYS[name]
    ready = list(way(Idle.make(), first(21), run.address))
    found = [pair for part in ready for pair in part]
    assert sorted(tile.index for tile, _ in found) == list(range(21))
    assert all(tile == tiling()[tile.index] for tile, _ in found)
    assert all(done.size == tile.index for tile, done in found)
    assert max(map(len, ready)) == in_task


def test_a_timed_run_is_in_the_journal(run, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "MARKS", (4, 100))
    told = scheduler.timed(scheduler.one_by_one, 9, run, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert sorted(line["tile"] for line in lines[1:]) == list(range(9))
    assert [m["tiles"] for m in told["marks"]] == [4, 9]
    assert told["tiles"] == 9
    assert told["marks"][0]["seconds"] <= told["marks"][1]["seconds"] <= told["seconds"] + 0.1
    assert set(told["cpu_us_per_tile"]) == {"client"}


def test_resuming_finds_all_lines():
    told = resume(1200)
    assert told["lines"] == 1200
    assert told["journal_mb"] == pytest.approx(1200 * 66 / 1e6, abs=0.06)


def test_a_mosaic_can_be_read():
    told = mosaic(5, reads=3)
    assert told["tiles"] == 25
    assert told["cpu_ms_per_block_of_512"] > 0


def test_what_was_not_run_is_extrapolated_and_says_so():
    def mark(tiles, mb):
        return {"tiles": tiles, "rss_mb": {"client": mb}}

    run = {
        "tiles": 50_000,
        "seconds": 100.0,
        "marks": [mark(1000, 90), mark(10_000, 100), mark(50_000, 104)],
    }
    told = scheduler.extrapolated(run, 10**6)
    assert told["hours"] == pytest.approx(2000 / 3600, abs=0.01)
    assert told["rss_growth_mb"] == {"client": 99.0}
    assert "not measured" in told["note"]


def test_medians_of_rounds():
    runs = [
        {"tiles": 8, "tiles_per_second": r, "cpu_us_per_tile": {"client": 1000 - r}}
        for r in (30, 10, 20)
    ]
    assert scheduler.medians(runs) == {
        "tiles": 8,
        "tiles_per_second": 20,
        "spread": [10, 30],
        "cpu_us_per_tile": {"client": 980},
    }


def test_france_in_numbers():
    assert pytest.approx(2.2e12) == france.PIXELS
    net = SegmentationModel(MnihCNN(3, 3), RefinementRNN(3, 3))
    assert net.halo * 2 == france.HALO_PX  # net pixels of 1 m, scene pixels of 0.5 m
    core = france.Core(1024)
    assert core.computed == pytest.approx((1184 / 1024) ** 2)
    assert core.decoded == 4.0  # 4 x 4 blocks of 512 for 2 x 2
    # 19.5 TFLOP/s x 30 % / 76 kFLOP = 77 M net pixels = 308 M pixels, less the halo.
    assert france.gpu_px_s("float32", core) == pytest.approx(307.9e6 / core.computed, rel=1e-3)
    one, many = (france.hours(n, "float32", core, 0.002) for n in (1, 256))
    assert many["compute"] == pytest.approx(one["compute"] / 256)
    assert many["decode"] == pytest.approx(one["decode"] / 256)
    assert many["read"] == one["read"]
    assert many["schedule"] == one["schedule"] == pytest.approx(2_098_083 * 0.002 / 3600, rel=1e-6)


def test_the_slower_of_client_and_scheduler_counts():
    told = {
        "run_tiles": {"cpu_us_per_tile": {"client": 1500, "scheduler": 2000}},
        "prototype": {"cpu_us_per_tile": {"client": 100, "scheduler": 1500}},
        "areas": {"cpu_us_per_tile": 1000},
    }
    assert france.schedule_s(told) == {"as it is": 0.0025, "in batches": 0.0015}


def test_the_page_says_what_the_program_says():
    page = france.PAGE.read_text(encoding="utf-8")
    told = json.loads(Path(france.SCHEDULER).read_text())
    assert france.inserted(page, france.tables(told)) == page, "python -m benchmarks.france --write"
    with pytest.raises(ValueError, match="0 places"):
        france.inserted("no marks", "text")
