"""Part c: the Forez chain, trained for the paper's steps or as many as there is time for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks.gpu.setting import ROOT, Figures, Setting
from benchmarks.gpu.tiles import NAMES, sample_tile
from geopipe.workflow.schema import Workflow, load_workflow
from geopipe.workflow.steps import run_step
from geopipe.workflow.workflow_steps import WorkflowRun

ROLES = dict(zip(NAMES, ("train", "enhance", "test"), strict=True))
"""Sample tile -> the table of the workflow that it is named in."""
TRAININGS = ("base", "refinement")
REFINEMENT_SHARE = 0.4
"""Of the time for training, at most."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a training costs: so many seconds at once and so many for each step."""

    fixed_s: float
    step_s: float

    def steps_in(self, seconds: float) -> int:
        """Steps that fit, one at least."""
        return max(1, int((seconds - self.fixed_s) / self.step_s))

    def seconds(self, steps: int) -> float:
        """What so many steps take."""
        return self.fixed_s + steps * self.step_s


def measure(setting: Setting, figures: Figures) -> None:
    """Labels, the pace of both trainings, then the chain with the steps that fit, up to its report.

    The steps are kept beside the models until the chain is through: one that was stopped goes on
    with its last checkpoint.
    """
    default_steps, steps_file = setting.amount.steps, setting.chain.with_suffix(".steps.json")
    figures.put(wanted=default_steps, aligned=workflow(setting, default_steps).train.align)
    if steps_file.is_file():
        steps = json.loads(steps_file.read_text())
        figures.put(steps=steps, goes_on=True)
    else:
        pace = _paces(setting, figures)
        steps = choose(default_steps, pace, setting.left_s() - setting.amount.reserve_s)
        figures.put(steps=steps, goes_on=False)
        steps_file.write_text(json.dumps(steps))
    chain = WorkflowRun(workflow(setting, steps))
    chain.check()
    seconds = {step.name: round(run_step(step, chain.records)[1], 1) for step in chain.steps()}
    evaluation = chain.evaluation()
    assert evaluation is not None  # the workflow has a test tile
    figures.put(mean_iou=[m.mean_iou for m in evaluation.steps], seconds=seconds)
    steps_file.unlink()


def workflow(setting: Setting, steps: dict[str, int]) -> Workflow:
    """workflows/forez.toml with these steps, on the device."""
    size = setting.amount
    setting.folder.mkdir(parents=True, exist_ok=True)
    changed = {
        **size.chain,
        "out": str(setting.chain),
        "device": setting.device,
        "schedule": "paper",
        **{f"{name}.steps": str(count) for name, count in steps.items()},
        **{
            f"{role}.scene": str(sample_tile(tile, size.tile_px, setting.folder))
            for tile, role in ROLES.items()
        },
    }
    return load_workflow(ROOT / "workflows" / "forez.toml", changed)


def choose(
    requested: dict[str, int], pace_by_part: dict[str, Pace], seconds: float
) -> dict[str, int]:
    """The steps of both trainings that fit into `seconds`, no more than are wanted."""
    refinement = min(
        requested["refinement"], pace_by_part["refinement"].steps_in(REFINEMENT_SHARE * seconds)
    )
    left = seconds - pace_by_part["refinement"].seconds(refinement)
    return {
        "base": min(requested["base"], pace_by_part["base"].steps_in(left)),
        "refinement": refinement,
    }


def _paces(setting: Setting, figures: Figures) -> dict[str, Pace]:
    """Of both trainings, from two short ones each; the labels are made on the way."""
    seconds_by_name: dict[str, list[float]] = {name: [] for name in TRAININGS}
    for count in setting.amount.pace:
        chain = WorkflowRun(workflow(setting, dict.fromkeys(TRAININGS, count)))
        chain.check()
        for step in chain.steps():
            if step.name.startswith("labels-") or step.name in TRAININGS:
                _, seconds = run_step(step, chain.records)
                if step.name in TRAININGS:
                    seconds_by_name[step.name].append(seconds)
        figures.put(pace_trainings=seconds_by_name)
    few_steps, many_steps = setting.amount.pace
    paces = {}
    for name, (short, long) in seconds_by_name.items():
        step_s = max((long - short) / (many_steps - few_steps), 1e-4)
        paces[name] = Pace(max(short - few_steps * step_s, 0.0), step_s)
    figures.put(pace={name: asdict(pace) for name, pace in paces.items()})
    return paces
