"""Commands; everything heavy is imported inside them, so that ``--help`` is quick."""

import json
import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from geopipe import __version__
from geopipe.cli.assess import assess
from geopipe.cli.chips import scenes
from geopipe.cli.doctor import doctor
from geopipe.cli.index import index
from geopipe.cli.labels import labels
from geopipe.cli.map import map_
from geopipe.cli.options import AS_JSON, CLASSES, PATH
from geopipe.cli.patches import patches
from geopipe.cli.roads import roads
from geopipe.cli.seams import verify_seams
from geopipe.cli.transfer import transfer
from geopipe.errors import ConfigError, GeopipeError


class Commands(click.Group):
    """Turns errors into one line and an exit code: 1 for an error, 2 for wrong usage."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a traceback only with -vv."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as e:
            if ctx.params.get("verbose", 0) >= 2:
                traceback.print_exc()
            click.echo(f"error: {_one_line(e)}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(130)


def _one_line(e: BaseException) -> str:
    if isinstance(e, GeopipeError):
        text = f"{e.message} - {e.hint}" if e.hint else e.message
    elif isinstance(e, MemoryError):
        text = "out of memory - use a smaller --core or fewer workers"
    elif isinstance(e, OSError):
        text = str(e)
    else:
        text = f"unexpected {type(e).__name__}: {e} - run again with -vv for where"
    return " ".join(text.split())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geopipe")
@click.option("-v", "--verbose", count=True, help="More words; -vv: tracebacks.")
def main(verbose: int) -> None:
    """Very-high-resolution satellite scenes in, building and road maps out."""
    # A raster without a place: where one is needed, the error says so.
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    already = logging.getLogger().handlers[:]
    logging.basicConfig(
        level=[logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)],
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    if already:  # in a program that has its own logging, that stays as it is
        return
    for handler in logging.getLogger().handlers:
        # A filter: libraries imported later (dask) set the levels of their loggers anew.
        handler.addFilter(lambda record: _is_worth_logging(record, verbose))


def _is_worth_logging(record: logging.LogRecord, verbose: int) -> bool:
    """Our own lines; of a library's nothing, since what matters comes back as an error."""
    is_own_module = record.name.split(".")[0] in ("geopipe", "py")
    return is_own_module or (verbose >= 2 and record.levelno >= logging.WARNING)


@main.command()
@click.argument("class_map", metavar="MAP", type=PATH)
@click.argument("truth", type=PATH)
@click.option("--classes", help=CLASSES + "  [default: the names in MAP]")
@click.option("--area", type=PATH, help="Polygons to which the comparison is limited.")
@click.option("--layer", help="One layer of a GeoPackage  [default: all]")
@AS_JSON
def evaluate(
    class_map: Path,
    truth: Path,
    classes: str | None,
    area: Path | None,
    layer: str | None,
    as_json: bool,
) -> None:
    """Compare MAP with TRUTH (a raster or vectors): accuracy, IoU, F1, kappa, confusion matrix."""
    from geopipe.classes import load_scheme
    from geopipe.evaluation.evaluate import evaluate as compare

    scheme = load_scheme(classes) if classes else None
    metrics = compare(class_map, truth, scheme=scheme, area=area, layer=layer)
    click.echo(json.dumps(metrics.to_dict()) if as_json else metrics.to_markdown().rstrip())


@main.command()
@click.argument("workflow", type=PATH)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for a key, e.g. train.scene=my.tif",
)
@AS_JSON
def run(workflow: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Run every step of WORKFLOW (a TOML file) whose inputs or parameters changed."""
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


for command in (
    labels,
    map_,
    roads,
    verify_seams,
    doctor,
    assess,
    patches,
    transfer,
    scenes,
    index,
):
    main.add_command(command)
