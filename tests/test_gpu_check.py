"""The check for a GPU, run small on a CPU: all parts do their work, and none can harm another."""

import importlib
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.gpu import __main__ as command
    from benchmarks.gpu.chain import Pace, choose, measure
    from benchmarks.gpu.page import NONE, markdown
    from benchmarks.gpu.parts import PARTS, Part, run_part
    from benchmarks.gpu.setting import SIZES, Figures, Setting
finally:
    sys.path.remove(str(ROOT))

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(900)]
SCHEMA = json.loads((ROOT / "benchmarks/gpu/schema.json").read_text())
TINY = SIZES["tiny"]


def in_this_process(letter, part, setting):
    """As `run_part`, whose processes are tested below, but that nothing is imported anew."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    figures = Figures(setting.folder / f"{letter}.json")
    importlib.import_module(part.module).measure(replace(setting, limit_s=1e9), figures)
    return {
        "title": part.title,
        "limit_s": part.limit_s,
        "seconds": 1.0,
        "status": "done",
        "figures": json.loads(figures.path.read_text()),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, JSON) of all parts."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run_part", in_this_process)
        patch.setattr("benchmarks.gpu.roofs.LEAST_S", 0.02)
        code = command.main(["--size", "tiny", "--device", "cpu", "--folder", str(folder)])
    assert code == 0
    return folder, json.loads((folder / "results" / "gpu.json").read_text())


def test_all_parts_are_done_and_the_json_keeps_to_its_schema(made):
    folder, told = made
    jsonschema.validate(told, SCHEMA)
    assert {letter: part["status"] for letter, part in told["parts"].items()} == dict.fromkeys(
        "abcde", "done"
    )
    assert str(folder) not in json.dumps(told)
    page = (folder / "results" / "README.md").read_text()
    assert page == markdown(told)
    assert "**A CPU: no figures of a GPU.**" in page
    for words in ("geopipe map | 640 |", "finetune:alexnet", "base 3 of 3", "target-all: 56 "):
        assert words in page


def test_a_device_agrees_with_itself(made):
    found = made[1]["parts"]["a"]["figures"]
    assert found["model"] == "part c"
    for steps in found["agreement"].values():
        for agreement in steps.values():
            assert agreement["pixels"] == TINY.tile_px**2
            assert agreement["changed"] == agreement["max_difference"] == 0
    assert found["seams"]["ok"]
    assert found["seams"]["pixels"] == TINY.tile_px**2


def test_all_ways_of_mapping_give_one_map(made):
    found = made[1]["parts"]["b"]["figures"]
    runs = {(run["name"], run["px"]): run for run in found["runs"]}
    small, large = TINY.variant_px, TINY.scene_px
    names = ("geopipe map", "geopipe, one tile at a time", "rasterio loop")
    assert {("nets alone", small), *((name, small) for name in names)} < set(runs)
    assert {("geopipe map", large), ("rasterio loop", large)} < set(runs)
    alike = [run["equal"] for (name, _), run in runs.items() if name in names[1:]]
    assert len(alike) == 3
    assert min(alike) > 1 - 1e-5
    assert found["left_out"]["geopipe, TF32"] == "the device is a CPU"
    # 0.5 m: a quarter of the net's own pixels, and the halo; counted as by hand within a third.
    hand = (39 + coarse_gflop_per_mpx()) / 4
    assert hand < found["work"]["float32"]["gflop_per_mpx"] < 1.7 * hand


def coarse_gflop_per_mpx():
    """Of the base network, per megapixel of its own grid, from its layers; a stride of 4."""
    layers = 3 * 64 * 144 + 64 * 128 * 9 + 128 * 128 * 9 + 128 * 3 * 81 + 3 * 3 * 64
    return 2 * layers / 16 / 1e3


def test_the_chain_is_trained_for_the_steps_that_fit(made):
    folder, told = made
    found = told["parts"]["c"]["figures"]
    assert found["steps"] == found["wanted"] == TINY.steps
    assert not found["goes_on"]
    assert len(found["mean_iou"]) == 6
    assert {"labels-train", "base", "refinement", "evaluation"} < set(found["seconds"])
    record = json.loads((folder / "forez-tiny" / "base.json").read_text())
    assert record["steps"] == [3]
    assert not list(folder.glob("*.steps.json")), "the chain is through"


def test_a_chain_that_was_stopped_goes_on_with_its_steps(made, monkeypatch):
    folder, told = made
    kept = folder / "forez-tiny.steps.json"
    kept.write_text(json.dumps(TINY.steps))
    monkeypatch.setattr("benchmarks.gpu.chain._paces", lambda *_: pytest.fail("timed anew"))
    figures = Figures(folder / "again.json")
    measure(Setting("cpu", "tiny", folder, 1.0, sys.executable), figures)
    assert figures.result["goes_on"]
    assert figures.result["mean_iou"] == told["parts"]["c"]["figures"]["mean_iou"]
    assert not kept.exists()


@given(
    st.integers(1, 30_000),
    st.integers(1, 3000),
    st.floats(5, 2000),
    st.floats(0.0, 9),
    st.floats(1e-3, 1),
)
def test_chosen_steps_fit_and_are_as_many_as_do(coarse, refinement, seconds, fixed, step):
    pace = {"base": Pace(fixed, step), "refinement": Pace(fixed, step / 3)}
    steps = choose({"base": coarse, "refinement": refinement}, pace, seconds)
    assert 1 <= steps["base"] <= coarse
    assert 1 <= steps["refinement"] <= refinement
    taken = sum(pace[name].seconds(count) for name, count in steps.items())
    assert taken <= seconds + 1e-6 or 1 in steps.values()
    if steps["base"] < coarse:
        assert taken + step > seconds - 1e-6


# -- Parts that do not end well


@pytest.fixture
def odd_parts(tmp_path, monkeypatch):
    """``odd_parts(letter=source)``: parts of these sources instead of geopipe's."""

    def write(limit_s=200.0, **sources):
        for name, source in sources.items():
            body = "\n    ".join(source.splitlines())
            text = f"import os, subprocess, sys, time\ndef measure(setting, figures):\n    {body}\n"
            (tmp_path / f"odd_{name}.py").write_text(text)
        found = {name: Part(f"odd_{name}", f"part {name}", limit_s) for name in sources}
        monkeypatch.setattr(command, "PARTS", found)
        return found

    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return write


@pytest.fixture
def setting(tmp_path):
    return Setting("cpu", "tiny", tmp_path / "folder", 1.0, sys.executable)


SLEEPING = """\
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
figures.put(child=child.pid)
time.sleep(600)"""


def ended(pid):
    """Whether a process ends soon; one that has may wait for whoever inherited it."""
    for _ in range(600):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_a_part_that_hangs_is_stopped_with_its_children_and_named(odd_parts, setting):
    part = odd_parts(limit_s=3.0, a=SLEEPING)["a"]
    done = run_part("a", part, setting)
    assert (done["status"], done["reason"]) == ("stopped", "its limit of 3 s")
    if done["figures"]:  # a machine that is busy has not come so far
        assert ended(done["figures"]["child"])


def test_a_part_that_fails_keeps_its_figures_and_does_not_stop_the_others(odd_parts, tmp_path):
    odd_parts(
        a="figures.put(found=1)\nraise ValueError('no luck')",
        b="os._exit(3)",
        c="figures.put()",
        d="from benchmarks.gpu.setting import SkippedError\nraise SkippedError('no data')",
        e=f"open({str(tmp_path / 'never')!r}, 'w')",
    )
    words = ["--size", "tiny", "--device", "cpu", "--folder", str(tmp_path / "o"), "--skip", "e"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "markdown", lambda told: "")
        assert command.main(words) == 1
    told = json.loads((tmp_path / "o" / "results" / "gpu.json").read_text())
    ends = {letter: (p["status"], p.get("reason")) for letter, p in told["parts"].items()}
    assert ends == {
        "a": ("failed", "ValueError: no luck"),
        "b": ("failed", "its process ended with 3"),
        "c": ("done", None),
        "d": ("skipped", "no data"),
        "e": ("skipped", "not asked for"),
    }
    assert told["parts"]["a"]["figures"] == {"found": 1}
    assert told["command"].endswith("--device cpu --skip e")
    assert not (tmp_path / "never").exists()


def test_only_the_parts_that_are_asked_for_run_each_within_its_limit(monkeypatch, tmp_path):
    limits = {}

    def note(letter, part, setting):
        limits[letter] = part.limit_s
        return {
            "title": part.title,
            "limit_s": part.limit_s,
            "seconds": 0.0,
            "status": "stopped",
            "reason": "its limit",
            "figures": None,
        }

    monkeypatch.setattr(command, "run_part", note)
    words = ["--device", "cpu", "--folder", str(tmp_path), "--only", "b", "d", "--limit", "b=9.5"]
    assert command.main(words) == 1
    assert limits == {"b": 9.5, "d": PARTS["d"].limit_s}
    told = json.loads((tmp_path / "results" / "gpu.json").read_text())
    jsonschema.validate(told, SCHEMA)
    assert "Stopped (its limit): 0 of 9.5 s." in markdown(told)


def test_all_limits_together_are_eight_minutes():
    assert sum(part.limit_s for part in PARTS.values()) <= 8 * 60 - 10, "it starts, and writes"


@pytest.mark.parametrize("words", [["--limit", "x=3"], ["--limit", "a=soon"], ["--only", "f"]])
def test_a_wrong_word_is_refused(words, capsys):
    with pytest.raises(SystemExit) as e:
        command.main(words)
    assert e.value.code == 2
    assert words[1].split("=")[0] in capsys.readouterr().err


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no device cuda:0: 0 GPU.*--size tiny --device cpu"):
        command.main([])


def test_a_gpu_is_named_with_its_memory(monkeypatch):
    told = SimpleNamespace(
        name="GPU 9", total_memory=8e9, multi_processor_count=3, major=9, minor=0
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: told)
    facts = {"command": "python -m benchmarks.gpu --size full", "size": "full", "parts": {}}
    facts |= command.facts("cuda:0")
    jsonschema.validate(facts, SCHEMA)
    assert facts["device"] == {
        "kind": "cuda",
        "name": "GPU 9",
        "memory_gb": 8.0,
        "processors": 3,
        "capability": "9.0",
    }
    assert "## GPU 9\n\n`python -m benchmarks.gpu --size full`; 8.0 GB; " in markdown(facts)


def test_the_page_is_what_its_json_says_and_without_one_it_has_no_figures():
    folder = ROOT / "docs" / "results" / "gpu"
    json_file = folder / "gpu.json"
    told = json.loads(json_file.read_text()) if json_file.is_file() else None
    assert (folder / "README.md").read_text() == markdown(told)
    if told:
        jsonschema.validate(told, SCHEMA)
        assert told["device"]["kind"] == "cuda"
    assert NONE in markdown(None)
