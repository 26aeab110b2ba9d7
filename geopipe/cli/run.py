"""``geopipe run``: all steps of a workflow file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geopipe.cli.commands import Command
from geopipe.cli.map import SKIPPED
from geopipe.cli.options import AS_JSON, PATH
from geopipe.errors import ConfigError

if TYPE_CHECKING:
    from geopipe.workflow.run import WorkflowPlan, WorkflowResult


@click.command(cls=Command)
@click.argument("workflow", type=PATH)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for a key, e.g. train.scene=my.tif; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Only print which steps would run, and the time.")
@AS_JSON
def run(workflow: Path, settings: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Run all steps of a workflow file.

    These are labels, training, map, evaluation and report. WORKFLOW is a TOML file; start from
    workflows/new-scene.toml, where every key is explained. A step whose inputs and parameters did
    not change is skipped, and a run that was stopped goes on where it was.

    Example: geopipe run workflows/forez.toml
    """
    overrides = dict(_pair(s) for s in settings)
    from geopipe.workflow.run import plan_workflow, run_workflow
    from geopipe.workflow.schema import load_workflow

    loaded = load_workflow(workflow, overrides)
    if dry_run:
        _tell_plan(plan_workflow(loaded), as_json=as_json)
        return
    outcome = run_workflow(loaded)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "maps": [str(p) for p in outcome.maps],
                    "model": str(outcome.model),
                    "report": str(outcome.report),
                    "mean_iou": outcome.mean_iou,
                    "left_out": outcome.left_out,
                }
            )
        )
        _tell_left_out(outcome)
        return
    if outcome.mean_iou:
        curve = " -> ".join(f"{100 * x:.1f}" for x in outcome.mean_iou)
        click.echo(f"mean IoU on the test scene, step by step: {curve} %")
    for folder in outcome.maps:
        click.echo(f"map:    {folder / 'classes.tif'}")
    click.echo(f"model:  {outcome.model}")
    click.echo(f"report: {outcome.report}")
    _tell_left_out(outcome)


def _tell_left_out(outcome: "WorkflowResult") -> None:
    if outcome.left_out:
        total = len(outcome.maps) + len(outcome.left_out)
        click.echo(f"{len(outcome.maps)} of {total} scenes mapped", err=True)
        for path, why in outcome.left_out.items():
            click.echo(f"left out: {path}: {why}", err=True)
        click.get_current_context().exit(SKIPPED)


def _tell_plan(plan: "WorkflowPlan", *, as_json: bool) -> None:
    """Print what a run would do."""
    if as_json:
        steps = [{"name": name, "unchanged": unchanged} for name, unchanged in plan.steps]
        seconds = round(plan.estimate.total) if plan.estimate else None
        click.echo(json.dumps({"steps": steps, "seconds": seconds, "left_out": plan.left_out}))
        return
    for name, unchanged in plan.steps:
        click.echo(f"{name:24s} {'unchanged, skipped' if unchanged else 'to do'}")
    if plan.estimate:
        click.echo(plan.estimate.sentence())


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise ConfigError(f"--set {text}", "write it as KEY=VALUE, e.g. seed=3")
    return key, value
