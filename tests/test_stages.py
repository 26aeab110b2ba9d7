"""The benchmark of the parts of `make forez-map`: what it scales, adds up and tells."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
try:
    from benchmarks import stages
finally:
    sys.path.remove(str(ROOT))

SECONDS = {
    "labels-train": 8.0,
    "labels-test": 1.0,
    "base": 30.0,  # 20 of them in its loop of 100 steps
    "refinement": 12.0,  # 10 of them
    "map-test": 3.0,
    "evaluation": 2.0,
}


def test_loops_are_scaled_and_the_rest_is_what_no_step_took():
    parts = stages.parts_of(SECONDS, {"base": (20.0, 600), "refinement": (10.0, 500)}, 60.0)
    assert parts == {
        "labels": 9.0,
        "CNN": 10.0 + 6 * 20,
        "refinement": 2.0 + 5 * 10,
        "map": 3.0,
        "evaluation": 2.0,
        "rest": 4.0,
    }


def test_the_page_has_medians_and_the_ratios_within_rounds():
    parts = dict.fromkeys([*stages.PARTS, "rest"], 10.0)
    runs = [
        {
            "round": n,
            "kind": "avx2",
            "state": state,
            "predicted": "about 2 min, installation aside",
            "parts": {**parts, "CNN": slow * seconds},
        }
        for n, seconds in enumerate((20.0, 40.0, 30.0))
        for state, slow in (("idle", 1.0), ("busy", 1.5))
    ]
    machine = {"cores": 2, "cpu": "a processor"}
    report = {"command": "c", "machine": machine, "steps": 100, "runs": runs}
    lines = stages.markdown(report).splitlines()
    assert "| avx2, idle | 10 | 30 | 10 | 10 | 10 | 10 | 80 (70-90) | about 2 min |" in lines
    assert any(
        x.startswith("| avx2, busy / idle | 1.00 | 1.50 | 1.00 | 1.00 | 1.00 | 1.00 | 1.19")
        for x in lines
    )


@pytest.mark.parametrize(
    ("processor", "kinds"), [("EPYC avx512f avx512_bf16", 2), ("Xeon avx2", 1)]
)
def test_what_has_more_than_avx2_is_measured_without_it_too(monkeypatch, processor, kinds):
    monkeypatch.setattr(stages, "cpu_model", lambda: processor)
    assert len(stages.kinds()) == kinds
