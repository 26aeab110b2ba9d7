"""The plugin's runner, without QGIS: finding geopipe, its environment, progress, Cancel."""

import signal
import sys
import time
from pathlib import Path

import pytest
from geopipe_provider.places import box_around
from geopipe_provider.results import geopackage_tables, layer_sources, summary
from geopipe_provider.runner import (
    Outcome,
    Progress,
    RunnerError,
    check_version,
    clean_environment,
    find_executable,
    run,
)
from pyproj import Geod

from geopipe import __version__, progress


def program(path, text="#!/bin/sh\nexit 0\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def called(code, environment):
    """The outcome of a small Python program, and all that the callbacks heard."""
    heard = []
    outcome = run(
        [sys.executable, "-c", code],
        environment,
        on_progress=heard.append,
        on_message=heard.append,
        is_canceled=lambda: False,
    )
    return outcome, heard


# -- the executable


def test_geopipe_is_found_in_this_order(tmp_path):
    plugin = tmp_path / "python" / "plugins" / "geopipe_provider"
    plugin.mkdir(parents=True)
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    with pytest.raises(RunnerError, match="was not found on the PATH"):
        find_executable("", plugin, environment)
    places = [
        plugin.parents[1] / ".venv" / "bin" / "geopipe",
        plugin / "venv" / "bin" / "geopipe",
        tmp_path / "home" / ".local" / "bin" / "geopipe",
        tmp_path / "bin" / "geopipe",
    ]
    for path in places:  # each is preferred to the ones before
        program(path)
        assert find_executable("", plugin, environment) == path
    assert find_executable(str(places[0]), plugin, environment) == places[0]


def test_a_setting_that_names_no_program_is_an_error(tmp_path):
    (tmp_path / "geopipe").write_text("not executable")
    for wrong in (tmp_path / "none", tmp_path / "geopipe", tmp_path):
        with pytest.raises(RunnerError, match=r"is no program: correct it in Settings"):
            find_executable(str(wrong), tmp_path, {"PATH": ""})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(f"geopipe, version {__version__}", ""), ("geopipe, version 9.2.0", "is geopipe, version 9")],
)
def test_another_version_is_pointed_out(tmp_path, answer, expected):
    path = program(tmp_path / "geopipe", f"#!/bin/sh\necho '{answer}'\n")
    note = check_version(path, {})
    assert (expected in note) if expected else note == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!/bin/sh\necho 'Python 3.11'\n", "is not geopipe, it answers: Python 3.11"),
        ("#!/no/such/python\n", "cannot be run"),
    ],
)
def test_another_program_is_refused(tmp_path, text, expected):
    with pytest.raises(RunnerError, match=expected):
        check_version(program(tmp_path / "geopipe", text), {})


def test_nothing_of_qgis_reaches_the_environment():
    kept = {"PATH": "/usr/bin", "HOME": "/home/a", "LANG": "C.UTF-8", "HTTPS_PROXY": "http://p"}
    of_qgis = dict.fromkeys(
        (
            *("PYTHONPATH", "PYTHONHOME", "GDAL_DATA", "PROJ_DATA", "PROJ_LIB", "LD_LIBRARY_PATH"),
            *("QT_PLUGIN_PATH", "QGIS_PREFIX_PATH", "VIRTUAL_ENV", "GDAL_DRIVER_PATH"),
        ),
        "/opt/qgis",
    )
    assert clean_environment({**kept, **of_qgis}) == {**kept, "PYTHONUTF8": "1"}


# -- a run


def test_progress_is_read_as_geopipe_writes_it(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_QUIET_S", 0)
    monkeypatch.setattr(progress, "_LINE_S", 0)
    with progress.progress("mapping", 8, before=2) as advance:
        advance(2, "tile 3")
        advance(4)
    lines = capsys.readouterr().err.splitlines()
    assert [Progress.parse(line).percent for line in lines] == [50, 100]
    assert lines[0].startswith("mapping: 4/8 tile 3")


@pytest.mark.parametrize("line", ["", "note: class road has 3/4", "error: x", "a: 0/0", "a: 1/x"])
def test_other_lines_are_no_progress(line):
    assert Progress.parse(line) is None


def test_a_run_tells_progress_and_messages_and_returns_json():
    code = (
        "import sys; e = sys.stderr.write; e('mapping: 1/4, about 3 s left\\n');"
        "e('note: \\xe9\\n'); print('{\"a\": [1, 2]}')"
    )
    outcome, heard = called(code, {"PYTHONUTF8": "1"})
    assert heard == [Progress("mapping: 1/4, about 3 s left", 25.0), "note: é"]
    assert (outcome.code, outcome.result, outcome.error) == (0, {"a": [1, 2]}, "")
    assert not outcome.canceled


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(1, "", ("hello", "error: no CRS - give one"), False), "no CRS - give one"),
        (Outcome(2, "", ("Usage: geopipe", "Error: No such option: -y"), False), "No such option"),
        (Outcome(-9, "", (), False), "geopipe ended with code -9: it said nothing"),
        (Outcome(3, "", ("bad: tile 3",), False), ""),
    ],
)
def test_why_it_failed(outcome, expected):
    assert outcome.error.startswith(expected)
    assert bool(outcome.error) == bool(expected)


def test_a_program_that_is_gone():
    with pytest.raises(RunnerError, match="cannot be run"):
        run(
            ["/no/such/geopipe"],
            {},
            on_progress=print,
            on_message=print,
            is_canceled=lambda: False,
        )


ENDLESS = "import sys, time\nsys.stderr.write('a: 1/9\\n'); sys.stderr.flush()\n"


def test_cancel_interrupts_as_by_ctrl_c():
    begin = "".join(f"    {line}\n" for line in ENDLESS.splitlines())
    end = "except KeyboardInterrupt: print('kept'); sys.exit(130)\n"
    code = f"import sys, time\ntry:\n{begin}    time.sleep(60)\n{end}"
    started = []
    outcome = run(
        [sys.executable, "-c", code],
        {},
        on_progress=started.append,
        on_message=print,
        is_canceled=lambda: bool(started),
    )
    assert (outcome.code, outcome.stdout.strip(), outcome.canceled) == (130, "kept", True)


def test_what_does_not_stop_is_killed():
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + ENDLESS
    started = []
    begin = time.monotonic()
    outcome = run(
        [sys.executable, "-c", code + "time.sleep(60)"],
        {},
        on_progress=started.append,
        on_message=print,
        is_canceled=lambda: bool(started),
        patience_s=0.1,
    )
    assert outcome.canceled
    assert outcome.code == -signal.SIGKILL
    assert time.monotonic() - begin < 30


# -- results


def test_layers_of_results(sample_tiles):
    assert geopackage_tables(sample_tiles / "osm.gpkg") == ["buildings", "roads"]
    truth = sample_tiles / "truth.gpkg"
    assert layer_sources(truth) == [("truth", f"{truth}|layername=truth")]
    assert layer_sources(Path("a/classes.tif")) == [("classes", "a/classes.tif")]
    assert geopackage_tables(sample_tiles / "README.md") == []
    assert geopackage_tables(sample_tiles / "none.gpkg") == []


@pytest.fixture
def sample_tiles():
    return Path(__file__).parents[2] / "sample_tiles"


def test_figures_as_lines():
    value = {"kappa": 0.123456, "classes": {"road": {"f1": None}}, "bad": [], "hits": [{}, {}]}
    lines = ["kappa: 0.12346", "classes road f1: -", "bad: none", "hits: 2 entries"]
    assert list(summary(value)) == lines


@pytest.mark.parametrize("latitude", [0.0, 45.6, -66.0])
def test_a_box_around_a_point_has_its_size(latitude):
    west, south, east, north = box_around(4.0, latitude, 64.0)
    geod = Geod(ellps="WGS84")
    assert geod.inv(west, latitude, east, latitude)[2] == pytest.approx(64, rel=0.01)
    assert geod.inv(4, south, 4, north)[2] == pytest.approx(64, rel=0.01)
