"""What memory allows: the largest tiles, and as many at once as there are cores, that fit."""

from dataclasses import replace

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from tiny_place import GSD, LEFT, TOP

from geopipe import limits
from geopipe.errors import ConfigError
from geopipe.mapping import Budget, Workers
from geopipe.mapping.memory import PROCESS_MB, gpu_tile_mb, tile_mb
from geopipe.raster import Scene

CORES = (1024, 768, 512, 256)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def scene():
    """Described only: nobody reads it."""
    at = Affine(GSD, 0, LEFT, 0, -GSD, TOP)
    return Scene("s.tif", GeoBox((40_000, 40_000), at, "EPSG:2154"), (1, 2, 3), "uint8")


def need_of(scene, model, ram=None, workers=None, device="cpu", **options):
    return Budget(ram_mb=ram, **options).fit(scene, model, workers or Workers(threads=2), device)


def test_without_a_limit_the_tiles_are_large_and_all_cores_work(scene, model):
    need = need_of(scene, model)
    assert (need.core, need.at_once, need.vram_mb, need.limit_mb) == (1024, 2, 0, None)
    assert need_of(scene, model, workers=Workers(threads=5)).at_once == 5
    assert need.memory_mb == round(PROCESS_MB + 2 * tile_mb(scene, model, 1024))


WORKERS = st.one_of(
    st.builds(Workers, threads=st.integers(1, 40)),
    st.builds(Workers, st.integers(1, 8), threads=st.integers(1, 40)),
)


@settings(deadline=None)
@given(ram=st.integers(1, 30_000), more=st.integers(0, 5_000), workers=WORKERS)
def test_less_memory_never_means_larger_tiles_and_is_never_exceeded(
    scene, model, ram, more, workers
):
    smallest = PROCESS_MB * (workers.count + 1)
    smallest += max(workers.count, 1) * tile_mb(scene, model, 256)
    if ram < round(smallest):
        text = f"{ram} MB of memory are too little: tiles of 256 px take {round(smallest)} MB"
        with pytest.raises(ConfigError, match=text):
            need_of(scene, model, ram, workers)
        return
    need = need_of(scene, model, ram, workers)
    assert need.memory_mb <= ram
    assert need.core in CORES
    assert max(workers.count, 1) <= need.at_once <= workers.at_once
    ampler = need_of(scene, model, ram + more, workers)
    assert (ampler.core, ampler.at_once) >= (need.core, need.at_once)
    at_rest = PROCESS_MB * (workers.count + 1)
    if need.at_once < workers.at_once:
        assert at_rest + (need.at_once + 1) * tile_mb(scene, model, need.core) > ram - 1
    if need.core < 1024:
        larger = CORES[CORES.index(need.core) - 1]
        assert at_rest + max(workers.count, 1) * tile_mb(scene, model, larger) > ram - 1


def test_worker_processes_get_what_this_one_leaves(scene, model):
    need = need_of(scene, model, 3000, Workers(2, threads=2))
    assert need.limit_mb == 3000 - PROCESS_MB
    each = (need.memory_mb - PROCESS_MB) / 2
    assert each == pytest.approx(PROCESS_MB + tile_mb(scene, model, need.core), abs=1)
    assert need.limit_mb / 2 >= each, "a worker that does as planned is not stopped"


def test_a_core_that_is_given_stays_and_only_fewer_work_at_once(scene, model):
    ram = round(PROCESS_MB + 2.5 * tile_mb(scene, model, 1024))
    need = need_of(scene, model, ram, Workers(threads=8), core=1024)
    assert (need.core, need.at_once) == (1024, 2)
    with pytest.raises(
        ConfigError, match=r"340 MB of memory are too little: tiles of 1024 px take"
    ):
        need_of(scene, model, 340, Workers(threads=8), core=1024)


def test_where_a_cluster_computes_this_machine_needs_one_process(scene, model):
    need = need_of(scene, model, 400, Workers(scheduler="tcp://a:1"))
    assert (need.core, need.at_once, need.memory_mb) == (1024, 0, PROCESS_MB)


def test_the_memory_of_a_gpu_is_a_bound_of_its_own(scene, model):
    free = need_of(scene, model, device="cuda:0", workers=Workers())
    assert (free.core, free.at_once) == (1024, 3), "one is read, one computed, one written"
    for threads in (1, 16):
        told = need_of(scene, model, device="cuda:0", workers=Workers(threads=threads))
        assert told.at_once == threads
    tight = need_of(scene, model, device="cuda:0", vram_mb=free.vram_mb - 1)
    assert tight.vram_mb < free.vram_mb
    assert (tight.core, tight.at_once) < (free.core, free.at_once)
    two = need_of(scene, model, device="cuda:0", workers=Workers(2, threads=2))
    one = need_of(scene, model, device="cuda:0", workers=Workers(1, threads=1))
    assert two.vram_mb == pytest.approx(2 * one.vram_mb, abs=1), "each process has a context"
    with pytest.raises(
        ConfigError, match=r"500 MB of GPU memory are too little: tiles of 256 px take \d+"
    ):
        need_of(scene, model, device="cuda:0", vram_mb=500)
    assert need_of(scene, model, vram_mb=1).core == 1024, "without a GPU it does not count"


def test_what_a_tile_takes_grows_with_all_it_holds(scene, model, make_model):
    for cost in (tile_mb, gpu_tile_mb):
        sizes = [cost(scene, model, core) for core in CORES]
        assert sizes == sorted(sizes, reverse=True)
        assert cost(scene, make_model(classes=4), 512) > cost(scene, model, 512)
        assert cost(scene, make_model(bands=4), 512) > cost(scene, model, 512)
        fine = replace(scene, geobox=scene.geobox.zoom_out(0.5))
        assert cost(fine, model, 512) < cost(scene, model, 512), "a core is less ground"
    assert gpu_tile_mb(scene, make_model(iterations=0), 512) < gpu_tile_mb(scene, model, 512)


def test_a_machine_with_little_memory_works_on_small_tiles_or_fewer_at_once(
    scene, model, monkeypatch
):
    ample = need_of(scene, model, workers=Workers(threads=4))
    for mb in (ample.memory_mb - 1, 500, 10):
        monkeypatch.setattr("geopipe.mapping.memory.memory_mb", lambda mb=mb: mb)
        need = need_of(scene, model, workers=Workers(threads=4))
        assert need.limit_mb is None
        assert (need.core, need.at_once) < (ample.core, ample.at_once)
        assert need.memory_mb <= mb or (need.core, need.at_once) == (256, 1)


@pytest.mark.parametrize(("cpus", "wanted"), [(None, 3), (0.5, 1), (1.5, 2), (8.0, 3)])
def test_no_more_tiles_at_once_than_a_quota_feeds(monkeypatch, cpus, wanted):
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    monkeypatch.setattr("geopipe.limits.cgroup_limits", lambda: limits.Limits(cpus, None))
    assert Workers().at_once == wanted
    assert Workers(threads=5).at_once == 5  # as asked for


def test_the_memory_of_the_control_group(monkeypatch):
    monkeypatch.setattr(limits, "cgroup_limits", lambda: limits.Limits(None, 10**9))
    assert limits.memory_mb() == 900
    monkeypatch.setattr(limits, "cgroup_limits", lambda: limits.Limits(None, None))
    assert limits.memory_mb() > 900
