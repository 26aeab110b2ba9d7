"""Each probe of the doctor against what it is to tell, made by stubs and groups on disk."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from geopipe import limits
from geopipe.doctor import gdal, libraries, machine, projections

# -- GDAL


def test_codec_errors():
    assert gdal.codec_error("zstd") == ""
    # GDAL ignores such a word; the file is written without compression.
    assert gdal.codec_error("nosuch")


def test_missing_geotiff_is_told_once(monkeypatch):
    monkeypatch.setattr(gdal, "_raster_drivers", lambda: {"COG", "VRT", "MEM", "JP2OpenJPEG"})
    found = [*gdal._raster(), *gdal._codecs()]
    assert [f.name for f in found if f.status != "ok"] == ["GTiff (rasterio)"]
    assert len(found) == 5


def test_pyogrio_must_write_what_geopipe_writes(monkeypatch):
    import pyogrio

    able = {"GPKG": "r", "GeoJSON": "r", "ESRI Shapefile": "raw"}
    monkeypatch.setattr(pyogrio, "list_drivers", lambda: able)
    status = {f.name: f.status for f in gdal._vector()}
    assert status == {
        "GPKG (pyogrio)": "problem",
        "GeoJSON (pyogrio)": "ok",
        "ESRI Shapefile (pyogrio)": "ok",
        "FlatGeobuf (pyogrio)": "warning",
    }


@pytest.mark.parametrize(
    ("words", "n_bytes", "status"),
    [
        ("64", 64 * 2**20, "ok"),
        ("0", 0, "warning"),
        ("400", 400 * 2**20, "warning"),
    ],
)
def test_gdal_cache(monkeypatch, words, n_bytes, status):
    """Where a group may have 1 GB in all."""
    monkeypatch.setenv("GDAL_CACHEMAX", words)
    monkeypatch.setattr("rasterio.env.get_gdal_config", lambda name: n_bytes)
    monkeypatch.setattr(gdal, "cgroup_limits", lambda: limits.Limits(None, 10**9))
    (found,) = gdal._cache()
    assert found.status == status


# -- projections


@pytest.mark.parametrize(
    ("lonlat", "status"),
    [
        ((3.0, 46.5), "ok"),
        ((3.0, 46.5 + 1e-8), "ok"),
        ((3.00001, 46.5), "problem"),
        ((46.5, 3.0), "problem"),
        ((float("inf"),) * 2, "problem"),
        ((float("nan"),) * 2, "problem"),
    ],
)
def test_transform_is_judged_by_its_numbers(monkeypatch, lonlat, status):
    for name in ("PROJ_DATA", "PROJ_LIB"):
        monkeypatch.delenv(name, raising=False)
    found = projections.project("rasterio", lambda: lonlat, None)
    assert found.status == status
    assert ("--force-reinstall rasterio" in found.advice) == (status == "problem")


def test_database_that_is_none(tmp_path):
    assert projections.proj_version(tmp_path) == ""
    (tmp_path / "proj.db").write_text("no database, but long enough for the header of one" * 9)
    found = projections.project("pyproj", lambda: (3.0, 46.5), tmp_path)
    assert found.status == "problem"


# -- threads, memory


def groups(folder, membership, **files):
    """A tree of control groups: limits_at("a/cpu.max"="...")."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    (folder / "membership").write_text(membership + "\n")
    found = limits.cgroup_limits(folder, folder / "membership")
    return found.cpus, found.memory


V2 = "0::/user/me"
V1 = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/"


@pytest.mark.parametrize(
    ("membership", "files", "truth"),
    [
        (V2, {}, (None, None)),
        (V2, {"user/me/cpu.max": "max 100000", "user/me/memory.max": "max"}, (None, None)),
        (V2, {"user/me/cpu.max": "150000 100000", "user/me/memory.max": "2000"}, (1.5, 2000)),
        # A group around it is tighter; another group is not ours.
        (V2, {"user/cpu.max": "50000 100000", "user/me/cpu.max": "400000 100000"}, (0.5, None)),
        (
            V2,
            {"user/you/memory.max": "5", "user/memory.max": "7000", "memory.max": "9000"},
            (None, 7000),
        ),
        (
            V1,
            {
                "memory/docker/x/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            (None, None),
        ),
        (
            V1,
            {
                "memory/docker/x/memory.limit_in_bytes": "3000",
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            (2.5, 3000),
        ),
        # In a container: the path is the host's, the top is the container's own group.
        (V1, {"memory/memory.limit_in_bytes": "4000"}, (None, 4000)),
    ],
)
def test_cgroup_limits(tmp_path, membership, files, truth):
    assert groups(tmp_path, membership, **files) == truth


def test_no_cgroups(tmp_path):
    assert limits.cgroup_limits(tmp_path, tmp_path / "none") == limits.Limits(None, None)


@pytest.mark.parametrize(
    ("cpus", "cores", "threads", "advice"),
    [
        (None, 4, 4, ""),
        (None, 2, 3, "OMP_NUM_THREADS=2"),
        (1.5, 4, 2, ""),
        (1.5, 4, 4, "OMP_NUM_THREADS=2"),
        (0.2, 4, 2, "OMP_NUM_THREADS=1"),
        (9.0, 2, 2, ""),
    ],
)
def test_threads_beyond_cores_or_quota(monkeypatch, cpus, cores, threads, advice):
    import torch

    monkeypatch.setattr(machine, "cgroup_limits", lambda: limits.Limits(cpus, None))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (found,) = machine._torch_threads()
    assert found.status == ("warning" if advice else "ok")
    assert advice in found.advice


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("4", "ok"),
        ("3,2", "ok"),
        ("", "ok"),
        ("0", "warning"),
        ("-1", "warning"),
        ("2x", "warning"),
    ],
)
def test_omp_num_threads(monkeypatch, words, status):
    monkeypatch.setenv("OMP_NUM_THREADS", words)
    found = {f.name: f for f in machine._threads()}
    assert found["OMP_NUM_THREADS"].status == status


Memory = namedtuple("Memory", "total available")


@pytest.mark.parametrize(
    ("available", "limit", "tight"),
    [
        (8e9, None, set()),
        (8e9, 4e9, set()),
        (9e8, None, {"available"}),
        (8e9, 5e8, {"cgroup limit"}),
    ],
)
def test_memory(monkeypatch, available, limit, tight):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(16e9, available))
    monkeypatch.setattr(machine, "cgroup_limits", lambda: limits.Limits(None, limit))
    found = {f.name: f for f in machine._memory()}
    assert {name for name, f in found.items() if f.status == "warning"} == tight
    assert found["total"].value == "16.0 GB"
    assert (found["cgroup limit"].value == "none") == (limit is None)


@pytest.mark.parametrize(
    ("libc", "preload", "value", "status"),
    [
        (("glibc", "2.36"), "", "glibc 2.36, can be tuned", "ok"),
        (("glibc", "2.36"), "/usr/lib/libjemalloc.so.2", "jemalloc (LD_PRELOAD)", "ok"),
        (("", ""), "", "not glibc", "warning"),
    ],
)
def test_allocator(monkeypatch, libc, preload, value, status):
    monkeypatch.setattr("platform.libc_ver", lambda: libc)
    monkeypatch.setenv("LD_PRELOAD", preload)
    (found,) = machine._allocator()
    assert found.value.startswith(value)
    assert found.status == status


# -- disks

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "output", "elsewhere"),
    [
        (5e9, "ok", "ok"),
        (9e8, "warning", "warning"),
        (1e6, "problem", "warning"),
    ],
)
def test_free_disk(monkeypatch, tmp_path, free, output, elsewhere):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1e12, 0, free))
    assert machine.output_disk(tmp_path).status == output
    (working,), (temp,) = machine._working_disk(), machine._temp_disk()
    assert working.status == temp.status == elsewhere
    assert "TMPDIR" in temp.advice or temp.status == "ok"


def test_disk_of_the_path_given(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda place: asked.append(place) or Usage(0, 0, 5e9))
    (tmp_path / "file").write_text("")
    for name in (".", "not/yet", "file"):
        machine.output_disk(tmp_path / name)
    assert asked == [tmp_path.resolve()] * 3


def test_folder_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path.resolve())
    assert machine.output_disk(tmp_path / "new").status == "problem"


def test_no_temporary_folder(monkeypatch):
    def none():
        raise FileNotFoundError("No usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    (found,) = machine._temp_disk()
    assert found.status == "problem"
    assert "TMPDIR" in found.advice


# -- GPUs, which a test machine need not have


@pytest.fixture
def gpus(monkeypatch):
    """``gpus(n, cuda=..., driver=..., fails=...)``: the findings on a machine with `n` of them."""
    import torch

    Properties = namedtuple("Properties", "name total_memory")
    ones = torch.ones

    def look(n, cuda="12.8", driver=True, fails=None):
        def on_cpu(*shape, device):
            assert device.startswith("cuda:")
            if fails:
                raise fails
            return ones(*shape)

        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda i: Properties(f"GPU {i}", 24e9)
        )
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (20e9, 24e9))
        monkeypatch.setattr(torch, "ones", on_cpu)
        monkeypatch.setattr(libraries, "_has_nvidia_driver", lambda: driver)
        return {f.name: f for f in libraries._torch_devices()}

    return look


def test_gpus_that_work(gpus):
    found = gpus(2)
    assert found["GPU build"].value == "CUDA 12.8"
    assert found["cuda:0"].value == "GPU 0, 24.0 GB, 20.0 GB free"
    assert {f.status for f in found.values()} == {"ok"}
    assert "cuda:1" in found


def test_gpu_for_which_torch_has_no_code(gpus):
    found = gpus(1, fails=RuntimeError("no kernel image is available"))
    assert found["cuda:0"].status == "problem"
    assert "no kernel image" in found["cuda:0"].value


@pytest.mark.parametrize(
    ("cuda", "driver", "status", "advice"),
    [
        (None, False, "ok", ""),
        (None, True, "warning", "CUDA build"),
        ("12.8", False, "ok", ""),
        ("12.8", True, "warning", "nvidia-smi"),
    ],
)
def test_no_gpu(gpus, cuda, driver, status, advice):
    found = gpus(0, cuda=cuda, driver=driver)["GPUs"]
    assert found.status == status
    assert advice in found.advice
