"""The doctor against machines whose ailments are made: by variables, stubs, and groups on disk."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from geopipe import __version__
from geopipe.cli.doctor import doctor
from geopipe.workflow.doctor import GROUPS, Finding, examine, gdal, libraries, machine, projections
from geopipe.workflow.doctor.finding import Probe

SCHEMA = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "findings": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "group": {"enum": list(GROUPS)},
                    "name": {"type": "string", "minLength": 1},
                    "value": {"type": "string", "minLength": 1},
                    "status": {"enum": ["ok", "warning", "problem"]},
                    "advice": {"type": "string"},
                },
                "required": ["group", "name", "value", "status", "advice"],
                "additionalProperties": False,
                # Advice exactly where something is amiss.
                "if": {"properties": {"status": {"const": "ok"}}},
                "then": {"properties": {"advice": {"const": ""}}},
                "else": {"properties": {"advice": {"minLength": 1}}},
            },
        },
    },
    "required": ["ok", "findings"],
    "additionalProperties": False,
}

_MEANT = ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "GDAL_SKIP", "OGR_SKIP", "GDAL_NUM_THREADS")


def run(*words, **variables):
    """``geopipe doctor WORDS`` in another process, whose environment only `variables` change."""
    env = {k: v for k, v in os.environ.items() if k not in _MEANT} | variables
    code = "from geopipe.cli.doctor import doctor; doctor(prog_name='doctor')"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def as_told(done):
    """The findings by (group, name) of a run with ``--json``."""
    told = json.loads(done.stdout)
    jsonschema.validate(told, SCHEMA)
    problems = [f for f in told["findings"] if f["status"] == "problem"]
    assert told["ok"] == (not problems)
    assert done.returncode == (1 if problems else 0)
    found = {(f["group"], f["name"]): f for f in told["findings"]}
    assert len(found) == len(told["findings"]), "a name twice in a group"
    return found


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    done = run("--json", folder / "not" / "yet")
    assert done.stderr == ""
    assert not list(folder.iterdir()), "looking must not write"
    return as_told(done)


@pytest.fixture(scope="module")
def misled(tmp_path_factory):
    """What is told where every variable leads astray."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    done = run(
        "--json", nowhere, PROJ_DATA=str(nowhere), GDAL_DATA=str(nowhere),
        GDAL_SKIP="COG,FlatGeobuf", GDAL_NUM_THREADS="ALL_CPUS", GDAL_CACHEMAX="abc",
        OMP_NUM_THREADS="many", ATEN_CPU_CAPABILITY="default",
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
    )  # fmt: skip
    return as_told(done)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The run where torch, rasterio and psutil raise on import; osmium imports but is hollow."""
    stubs = tmp_path_factory.mktemp("stubs")
    (stubs / "torch.py").write_text("raise OSError('libcudart.so.99: cannot open\\nshared file')")
    (stubs / "rasterio.py").write_text("raise ImportError('no libgdal')")
    (stubs / "psutil.py").write_text("raise SystemExit(3)")
    (stubs / "pyproj.py").write_text("")
    return run("--json", stubs, PYTHONPATH=str(stubs))


# -- a machine that is well


def test_healthy_has_no_problem(healthy):
    assert [f for f in healthy.values() if f["status"] == "problem"] == []
    assert [group for group in GROUPS if not any(g == group for g, _ in healthy)] == []


def test_versions_are_those_of_the_libraries(healthy):
    import pyogrio
    import pyproj
    import rasterio
    import torch

    truth = {
        "geopipe": __version__,
        "Python": sys.version.split()[0],
        "rasterio": rasterio.__version__,
        "GDAL in rasterio": rasterio.__gdal_version__,
        "PROJ in rasterio": rasterio.__proj_version__,
        "GDAL in pyogrio": ".".join(map(str, pyogrio.__gdal_version__)),
        "PROJ in pyproj": pyproj.__proj_version__,
        "dask": metadata.version("dask"),
        "distributed": metadata.version("distributed"),
    }
    assert {name: healthy["versions", name]["value"] for name in truth} == truth
    assert healthy["torch", "version"]["value"] == torch.__version__


def test_proj_of_each_library_has_its_own_data(healthy):
    for library in ("rasterio", "pyogrio", "pyproj"):
        found = healthy["projections", library]
        assert found["status"] == "ok"
        version = healthy["versions", f"PROJ in {library}"]["value"]
        # Wheels carry their own; elsewhere the place need not be known.
        assert f"PROJ {version} in" in found["value"] or "not located" in found["value"]


def test_proj_in_pyogrio_is_that_of_its_wheel(healthy):
    import pyogrio

    if not (Path(pyogrio.__file__).parent / "proj_data" / "proj.db").exists():
        pytest.skip("this pyogrio uses the PROJ of the system")
    assert re.fullmatch(r"\d+(\.\d+)+", healthy["versions", "PROJ in pyogrio"]["value"])


def test_folder_that_is_not_there_yet(healthy):
    assert "not" not in healthy["disk", "output"]["value"]
    assert "free in" in healthy["disk", "output"]["value"]


def test_help_is_light():
    code = """
import sys
from click.testing import CliRunner
from geopipe.cli.doctor import doctor
assert CliRunner().invoke(doctor, ["--help"]).exit_code == 0
heavy = {"torch", "dask", "distributed", "rasterio", "pyogrio", "numpy", "psutil"}
before = heavy & set(sys.modules)
import geopipe.workflow.doctor
print(sorted(before), sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


# -- variables that mislead


@pytest.mark.parametrize(
    ("group", "name", "status", "advice"),
    [
        ("drivers", "COG (rasterio)", "problem", "unset GDAL_SKIP"),
        ("drivers", "FlatGeobuf (pyogrio)", "warning", "unset GDAL_SKIP"),
        ("projections", "rasterio", "problem", "unset PROJ_DATA"),
        ("environment", "PROJ_DATA", "warning", "unset it"),
        ("environment", "GDAL_DATA", "warning", "unset it"),
        ("environment", "encoding", "warning", "LC_ALL=C.UTF-8"),
        ("memory", "GDAL_CACHEMAX", "warning", "set 64"),
        ("threads", "GDAL_NUM_THREADS", "warning", "unset it"),
        ("threads", "OMP_NUM_THREADS", "warning", "set it to a number"),
    ],
)
def test_misled(misled, healthy, group, name, status, advice):
    assert misled[group, name]["status"] == status
    assert advice in misled[group, name]["advice"]
    assert healthy[group, name]["status"] == "ok"


def test_what_is_not_misled_is_well(misled):
    """Same names as above and no others, but for those that depend on the machine."""
    amiss = {name for name, f in misled.items() if f["status"] != "ok"}
    assert not amiss & {
        ("drivers", "GTiff (rasterio)"),
        ("drivers", "GPKG (pyogrio)"),
        ("projections", "pyogrio"),
        ("projections", "pyproj"),
        ("environment", "PROJ_LIB"),
    }


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="AVX is x86-64's")
def test_slow_torch(misled):
    assert misled["torch", "CPU capability"]["value"] == "DEFAULT"
    assert misled["torch", "CPU capability"]["status"] == "warning"


# -- libraries that are broken


def test_broken_libraries_are_problems_not_tracebacks(broken):
    found = as_told(broken)
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr + broken.stdout
    for name, words in (("torch", "libcudart.so.99: cannot open shared"), ("rasterio", "libgdal")):
        assert found["versions", name]["status"] == "problem"
        assert words in found["versions", name]["value"]
        assert f"--force-reinstall {name}" in found["versions", name]["advice"]
    assert found["versions", "psutil"]["status"] == "problem"


def test_broken_library_is_told_once_and_leaves_the_others(broken):
    found = as_told(broken)
    assert {g for g, _ in found} == set(GROUPS) - {"torch"}
    assert [n for g, n in found if "rasterio" in n] == ["rasterio"]
    assert ("memory", "GDAL_CACHEMAX") not in found
    assert found["drivers", "GPKG (pyogrio)"]["status"] == "ok"
    assert found["projections", "pyogrio"]["status"] == "ok"


def test_hollow_library(broken):
    """It imports, but lacks what a probe wants: that probe fails with the advice to mend it."""
    for group in ("versions", "projections"):
        found = as_told(broken)[group, "pyproj"]
        assert found["status"] == "problem"
        assert "--force-reinstall pyproj" in found["advice"]


def test_probe_keeps_what_it_found_before_it_broke():
    def find():
        yield Finding("disk", "first", "well")
        raise ZeroDivisionError("second\nline")

    first, second = Probe("disk", "all", find).findings()
    assert (first.name, first.status) == ("first", "ok")
    assert (second.name, second.status) == ("all", "problem")
    assert second.value == "ZeroDivisionError: second line"
    assert second.advice


def test_missing_dependency(monkeypatch):
    lines = ["click>=8", "no-such-thing>=1,<2", "absent[all]", 'extra-only; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    (found,) = libraries._dependencies()
    assert found.status == "problem"
    assert found.value == "missing: no-such-thing absent"


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


@pytest.mark.parametrize(("words", "n_bytes", "status"), [
    ("64", 64 * 2**20, "ok"), ("0", 0, "warning"), ("400", 400 * 2**20, "warning"),
])  # fmt: skip
def test_gdal_cache(monkeypatch, words, n_bytes, status):
    """Where a group may have 1 GB in all."""
    monkeypatch.setenv("GDAL_CACHEMAX", words)
    monkeypatch.setattr("rasterio.env.get_gdal_config", lambda name: n_bytes)
    monkeypatch.setattr(gdal, "cgroup_limits", lambda: machine.Limits(None, 10**9))
    (found,) = gdal._cache()
    assert found.status == status


# -- projections


@pytest.mark.parametrize(("lonlat", "status"), [
    ((3.0, 46.5), "ok"), ((3.0, 46.5 + 1e-8), "ok"), ((3.00001, 46.5), "problem"),
    ((46.5, 3.0), "problem"), ((float("inf"),) * 2, "problem"), ((float("nan"),) * 2, "problem"),
])  # fmt: skip
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
    found = machine.cgroup_limits(folder, folder / "membership")
    return found.cpus, found.memory


V2 = "0::/user/me"
V1 = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/"


@pytest.mark.parametrize(("membership", "files", "truth"), [
    (V2, {}, (None, None)),
    (V2, {"user/me/cpu.max": "max 100000", "user/me/memory.max": "max"}, (None, None)),
    (V2, {"user/me/cpu.max": "150000 100000", "user/me/memory.max": "2000"}, (1.5, 2000)),
    # A group around it is tighter; another group is not ours.
    (V2, {"user/cpu.max": "50000 100000", "user/me/cpu.max": "400000 100000"}, (0.5, None)),
    (V2, {"user/you/memory.max": "5", "user/memory.max": "7000", "memory.max": "9000"},
     (None, 7000)),
    (V1, {"memory/docker/x/memory.limit_in_bytes": "9223372036854771712",
          "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1",
          "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000"}, (None, None)),
    (V1, {"memory/docker/x/memory.limit_in_bytes": "3000",
          "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000",
          "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000"}, (2.5, 3000)),
    # In a container: the path is the host's, the top is the container's own group.
    (V1, {"memory/memory.limit_in_bytes": "4000"}, (None, 4000)),
])  # fmt: skip
def test_cgroup_limits(tmp_path, membership, files, truth):
    assert groups(tmp_path, membership, **files) == truth


def test_no_cgroups(tmp_path):
    assert machine.cgroup_limits(tmp_path, tmp_path / "none") == machine.Limits(None, None)


@pytest.mark.parametrize(("cpus", "cores", "threads", "advice"), [
    (None, 4, 4, ""), (None, 2, 3, "OMP_NUM_THREADS=2"), (1.5, 4, 2, ""),
    (1.5, 4, 4, "OMP_NUM_THREADS=2"), (0.2, 4, 2, "OMP_NUM_THREADS=1"), (9.0, 2, 2, ""),
])  # fmt: skip
def test_threads_beyond_cores_or_quota(monkeypatch, cpus, cores, threads, advice):
    import torch

    monkeypatch.setattr(machine, "cgroup_limits", lambda: machine.Limits(cpus, None))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (found,) = machine._torch_threads()
    assert found.status == ("warning" if advice else "ok")
    assert advice in found.advice


@pytest.mark.parametrize(("words", "status"), [
    ("4", "ok"), ("3,2", "ok"), ("", "ok"), ("0", "warning"), ("-1", "warning"), ("2x", "warning"),
])  # fmt: skip
def test_omp_num_threads(monkeypatch, words, status):
    monkeypatch.setenv("OMP_NUM_THREADS", words)
    found = {f.name: f for f in machine._threads()}
    assert found["OMP_NUM_THREADS"].status == status


Memory = namedtuple("Memory", "total available")


@pytest.mark.parametrize(("available", "limit", "tight"), [
    (8e9, None, set()), (8e9, 4e9, set()), (9e8, None, {"available"}), (8e9, 5e8, {"cgroup limit"}),
])  # fmt: skip
def test_memory(monkeypatch, available, limit, tight):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(16e9, available))
    monkeypatch.setattr(machine, "cgroup_limits", lambda: machine.Limits(None, limit))
    found = {f.name: f for f in machine._memory()}
    assert {name for name, f in found.items() if f.status == "warning"} == tight
    assert found["total"].value == "16.0 GB"
    assert (found["cgroup limit"].value == "none") == (limit is None)


@pytest.mark.parametrize(("libc", "preload", "value", "status"), [
    (("glibc", "2.36"), "", "glibc 2.36, can be tuned", "ok"),
    (("glibc", "2.36"), "/usr/lib/libjemalloc.so.2", "jemalloc (LD_PRELOAD)", "ok"),
    (("", ""), "", "not glibc", "warning"),
])  # fmt: skip
def test_allocator(monkeypatch, libc, preload, value, status):
    monkeypatch.setattr("platform.libc_ver", lambda: libc)
    monkeypatch.setenv("LD_PRELOAD", preload)
    (found,) = machine._allocator()
    assert found.value.startswith(value)
    assert found.status == status


# -- disks

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "output", "elsewhere"), [
    (5e9, "ok", "ok"), (9e8, "warning", "warning"), (1e6, "problem", "warning"),
])  # fmt: skip
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


@pytest.mark.parametrize(("cuda", "driver", "status", "advice"), [
    (None, False, "ok", ""), (None, True, "warning", "CUDA build"),
    ("12.8", False, "ok", ""), ("12.8", True, "warning", "nvidia-smi"),
])  # fmt: skip
def test_no_gpu(gpus, cuda, driver, status, advice):
    found = gpus(0, cuda=cuda, driver=driver)["GPUs"]
    assert found.status == status
    assert advice in found.advice


# -- the command


def say(monkeypatch, *findings, words=()):
    monkeypatch.setattr("geopipe.workflow.doctor.examine", lambda folder: list(findings))
    return CliRunner().invoke(doctor, list(words))


WELL = Finding("disk", "long name", "5 GB")
WARNED = Finding("drivers", "x", "missing", "warning", "do this")
ILL = Finding("drivers", "y", "missing", "problem", "do that")


@pytest.mark.parametrize(("findings", "code", "last"), [
    ([WELL], 0, "no problems, no warnings"),
    ([WELL, WARNED], 0, "no problems, 1 warning"),
    ([WELL, WARNED, ILL, ILL], 1, "2 problems, 1 warning"),
])  # fmt: skip
def test_exit_code(monkeypatch, findings, code, last):
    said = say(monkeypatch, *findings)
    assert said.exit_code == code
    assert said.output.splitlines()[-1] == last
    told = say(monkeypatch, *findings, words=["--json"])
    assert told.exit_code == code
    assert json.loads(told.output)["ok"] == (code == 0)


def test_text(monkeypatch):
    assert say(monkeypatch, WELL, WARNED, ILL).output.splitlines() == [
        "disk",
        "  ok       long name  5 GB",
        "",
        "drivers",
        "  warning  x          missing",
        "                      -> do this",
        "  problem  y          missing",
        "                      -> do that",
        "",
        "1 problem, 1 warning",
    ]


def test_examine_is_grouped(tmp_path):
    groups = [f.group for f in examine(tmp_path)]
    assert groups == sorted(groups, key=GROUPS.index)
