"""Run a workflow: labels, base network, refinement, map, evaluation, report."""

import logging
from dataclasses import dataclass
from pathlib import Path

from geopipe.raster.inputs import LeftOut
from geopipe.raster.remote import consent
from geopipe.workflow.estimate import TimeEstimate
from geopipe.workflow.schema import Workflow
from geopipe.workflow.sources import (
    readable_scenes,
)
from geopipe.workflow.steps import is_current
from geopipe.workflow.workflow_report import write_workflow_report
from geopipe.workflow.workflow_steps import WorkflowRun

log = logging.getLogger(__name__)


_BASE_ALONE = "the map comes from the base network alone, so its outlines are less exact"


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """What a workflow leaves behind."""

    maps: tuple[Path, ...]
    """Folders, one per mapped scene."""
    model: Path
    report: Path
    mean_iou: tuple[float, ...]
    """On the test scene after 0, 1... iterations; empty without one."""
    left_out: LeftOut
    """Scenes that could not be read, with `skip_bad`, and why."""


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """What a workflow would do."""

    steps: tuple[tuple[str, bool], ...]
    """Name, and whether nothing changed, so that the step is skipped."""
    left_out: LeftOut
    estimate: TimeEstimate | None
    """None where no network is still to be trained on the CPU."""


def plan_workflow(workflow: Workflow) -> WorkflowPlan:
    """What `run_workflow` would do; nothing is written. Raises what it raises before its steps."""
    with consent(workflow.remote):
        readable, left_out = readable_scenes(workflow)
        chain = WorkflowRun(readable)
        chain.check_inputs()
        chain.check_labels()
        steps = [(s.name, is_current(s, chain.records)) for s in chain.steps()]
        return WorkflowPlan(tuple(steps), left_out, chain.expected_time(chain.steps()))


def run_workflow(workflow: Workflow) -> WorkflowResult:
    """Run every step of `workflow` whose inputs, parameters or outputs changed."""
    with consent(workflow.remote):
        return _run(workflow)


def _run(workflow: Workflow) -> WorkflowResult:
    workflow, left_out = readable_scenes(workflow)
    chain = WorkflowRun(workflow)
    chain.check()
    if not workflow.enhance:
        log.warning("no [enhance] tile with accurate labels: %s", _BASE_ALONE)
    chain.run(chain.steps())
    evaluation = chain.evaluation()
    report = write_workflow_report(chain, evaluation)
    return WorkflowResult(
        tuple(dict.fromkeys(chain.map_folder(c) for c in workflow.map_scenes())),
        chain.model,
        report,
        tuple(m.mean_iou for m in evaluation.steps) if evaluation else (),
        left_out,
    )


def train_workflow(workflow: Workflow) -> Path:
    """Run the steps of `workflow` up to its model, and return the model's file."""
    chain = WorkflowRun(workflow)
    chain.check()
    if not workflow.enhance:
        log.warning("no tile with accurate labels: %s", _BASE_ALONE)
    chain.run(chain.training_steps())
    return chain.model
