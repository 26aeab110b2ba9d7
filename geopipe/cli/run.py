"""``geopipe run``: all steps of a workflow file."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, PATH
from geopipe.errors import ConfigError


@click.command(cls=Command)
@click.argument("workflow", type=PATH)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for a key, e.g. train.scene=my.tif; may be repeated.",
)
@AS_JSON
def run(workflow: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Run all steps of a workflow file.

    These are labels, training, map, evaluation and report. WORKFLOW is a TOML file; start from
    workflows/new-scene.toml, where every key is explained. A step whose inputs and parameters did
    not change is skipped, and a run that was stopped goes on where it was.

    Example: geopipe run workflows/forez.toml
    """
    overrides = dict(_pair(s) for s in settings)
    from geopipe.workflow.run import run_workflow
    from geopipe.workflow.schema import load_workflow

    outcome = run_workflow(load_workflow(workflow, overrides))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "maps": [str(p) for p in outcome.maps],
                    "model": str(outcome.model),
                    "report": str(outcome.report),
                    "mean_iou": outcome.mean_iou,
                }
            )
        )
        return
    if outcome.mean_iou:
        curve = " -> ".join(f"{100 * x:.1f}" for x in outcome.mean_iou)
        click.echo(f"mean IoU on the test scene, step by step: {curve} %")
    for folder in outcome.maps:
        click.echo(f"map:    {folder / 'classes.tif'}")
    click.echo(f"model:  {outcome.model}")
    click.echo(f"report: {outcome.report}")


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise ConfigError(f"--set {text}", "write it as KEY=VALUE, e.g. seed=3")
    return key, value
