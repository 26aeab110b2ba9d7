"""The doctor against machines whose ailments are made: by variables, by stubs."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from geopipe import __version__
from geopipe.cli.doctor import doctor
from geopipe.doctor import GROUPS, Finding, examine, libraries
from geopipe.doctor.finding import Probe

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
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


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
        "--json",
        "--quick",
        nowhere,
        PROJ_DATA=str(nowhere),
        GDAL_DATA=str(nowhere),
        GDAL_SKIP="COG,FlatGeobuf",
        GDAL_NUM_THREADS="ALL_CPUS",
        GDAL_CACHEMAX="abc",
        OMP_NUM_THREADS="many",
        ATEN_CPU_CAPABILITY="default",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
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
import geopipe.doctor
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
    assert {g for g, _ in found} == set(GROUPS) - {"torch", "speed"}
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


# -- the command


def say(monkeypatch, *findings, words=()):
    monkeypatch.setattr("geopipe.doctor.examine", lambda folder, *, measure: list(findings))
    return CliRunner().invoke(doctor, list(words))


WELL = Finding("disk", "long name", "5 GB")
WARNED = Finding("drivers", "x", "missing", "warning", "do this")
ILL = Finding("drivers", "y", "missing", "problem", "do that")


@pytest.mark.parametrize(
    ("findings", "code", "last"),
    [
        ([WELL], 0, "no problems, no warnings"),
        ([WELL, WARNED], 0, "no problems, 1 warning"),
        ([WELL, WARNED, ILL, ILL], 1, "2 problems, 1 warning"),
    ],
)
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
