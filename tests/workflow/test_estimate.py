"""What a workflow will take, told before."""

import re
import shutil

import pytest
import torch

from geopipe.classes import load_scheme
from geopipe.learn.base_network import BaseNetworkPlan
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.learn.pace import seconds_per_step
from geopipe.learn.refinement import RefinementPlan
from geopipe.workflow import estimate as module
from geopipe.workflow.estimate import TimeEstimate, Work, estimate
from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import load_workflow

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEME = load_scheme("buildings")
TINY = {"batch": 2, "patch": 16, "precision": "float32"}


@pytest.fixture
def pace(monkeypatch):
    """Half a second for a step of the base network, a fifth for one of what sharpens it."""

    def seconds(plan, scheme, bands, net="cnn"):
        return 0.5 if isinstance(plan, BaseNetworkPlan) else 0.2

    monkeypatch.setattr(module, "seconds_per_step", seconds)
    monkeypatch.setattr("geopipe.workflow.workflow_steps._ANNOUNCED_FROM_S", 1.0)
    monkeypatch.setattr("geopipe.workflow.workflow_steps._MIN_MEASURED_STEPS", 1)
    monkeypatch.setattr(module, "_seconds_per_mpx", lambda *_: 2.0)


@pytest.mark.parametrize("sharpen", [RefinementPlan(steps=100), FineTuningPlan(steps=100)])
def test_parts_are_steps_areas_and_pixels_by_their_pace(pace, sharpen):
    found = estimate(Work(BaseNetworkPlan.of(steps=60), sharpen, 4.0, 3.0), SCHEME)
    assert found.base_network == pytest.approx(30)
    assert found.sharpening == pytest.approx(20)
    assert found.mapping == pytest.approx(8)
    assert found.labels == pytest.approx(3 * module._STEPS_PER_KM2 * 0.5)
    parts = (found.base_network, found.sharpening, found.mapping, found.labels, found.rest)
    assert found.total == pytest.approx(sum(parts))


def test_labels_that_stay_and_a_tile_that_is_missing_cost_nothing(pace):
    found = estimate(Work(BaseNetworkPlan.of(), None, 1.0), SCHEME)
    assert found.labels == found.sharpening == 0
    assert "sharpening" not in found.sentence()
    assert "labels" not in found.sentence()


@pytest.mark.parametrize(
    ("base", "sharpening", "setting"), [(200, 100, "base"), (50, 100, "refinement")]
)
def test_the_setting_that_is_named_is_that_of_the_longest_part(base, sharpening, setting):
    told = TimeEstimate(10, base, sharpening, 10).sentence()
    assert f"({setting}.steps in a workflow)" in told
    assert f"{torch.get_num_threads()} threads" in told


@pytest.mark.parametrize(
    "plan", [BaseNetworkPlan(**TINY), RefinementPlan(**TINY, iterations=2), FineTuningPlan(**TINY)]
)
def test_a_step_of_each_training_is_measured_by_taking_it(plan):
    before = torch.random.get_rng_state()
    seconds = seconds_per_step(plan, SCHEME, 4)
    assert 0 < seconds < 60
    assert torch.equal(torch.random.get_rng_state(), before), "a measurement must not move the seed"


def test_a_few_steps_are_taken_without_a_measurement(drawn, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("measured")

    monkeypatch.setattr("geopipe.workflow.workflow_steps.estimate", never)
    folder = shutil.copytree(drawn, tmp_path / "tiles")
    run_workflow(load_workflow(folder / "tiny.toml"))


def test_a_short_run_says_nothing(drawn, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("geopipe.workflow.workflow_steps._MIN_MEASURED_STEPS", 1)
    monkeypatch.setattr(
        "geopipe.workflow.workflow_steps.estimate", lambda *_: TimeEstimate(0, 5, 5, 1)
    )
    folder = shutil.copytree(drawn, tmp_path / "tiles")
    run_workflow(load_workflow(folder / "tiny.toml"))
    assert "this takes" not in capsys.readouterr().err


def test_a_workflow_tells_once_what_it_will_take(drawn, tmp_path, capsys, pace):
    import shutil

    folder = shutil.copytree(drawn, tmp_path / "tiles")
    said = []
    for _ in range(2):
        run_workflow(load_workflow(folder / "tiny.toml"))
        lines = capsys.readouterr().err.splitlines()
        said.append([line for line in lines if "this takes about" in line])
    assert len(said[0]) == 1
    assert re.search(r"base network \d+ s, sharpening \d+ s", said[0][0])
    assert said[1] == []
