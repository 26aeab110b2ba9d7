"""Commands; everything heavy is imported inside them, so that ``--help`` is quick."""

import io
import logging
import os
import sys
import traceback
import warnings
from contextlib import nullcontext
from typing import Any

import click

from geopipe import __version__
from geopipe.cli.ask import ask
from geopipe.cli.assess import assess
from geopipe.cli.chips import chips
from geopipe.cli.commands import Group
from geopipe.cli.compare import compare
from geopipe.cli.doctor import doctor
from geopipe.cli.evaluate import evaluate
from geopipe.cli.export import export
from geopipe.cli.foreign import foreign_lines
from geopipe.cli.index import index
from geopipe.cli.labels import labels
from geopipe.cli.map import map_
from geopipe.cli.options import with_consent
from geopipe.cli.patches import patches
from geopipe.cli.roads import roads
from geopipe.cli.run import run
from geopipe.cli.scene import scene
from geopipe.cli.seams import verify_seams
from geopipe.cli.train import train
from geopipe.cli.transfer import transfer
from geopipe.cli.verify import verify
from geopipe.cli.wfs import wfs
from geopipe.errors import GeopipeError
from geopipe.oserrors import failure

SECTIONS = {
    "Scene": ("scene wmts", "scene wms", "scene xyz", "scene arcgis", "scene stac"),
    "Labels": ("labels", "labels check", "labels align", "labels wfs"),
    "Train": ("train", "ask", "patches train", "chips train", "transfer", "run"),
    "Map": ("map", "roads", "chips classify", "verify", "verify-seams"),
    "Judge": (
        "evaluate",
        "compare",
        "assess plan",
        "assess report",
        "chips evaluate",
        "chips attention",
    ),
    "Search": ("index build", "index query", "index evaluate", "index heatmap"),
    "Other": ("export", "doctor"),
}


class Commands(Group):
    """Turns errors into one line and an exit code: 1 for an error, 2 for wrong usage."""

    sections = SECTIONS

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does; Ctrl-C while the words are read ends it as it does later."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(130)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a traceback only with -vv."""
        try:
            with nullcontext() if ctx.params.get("verbose", 0) >= 2 else foreign_lines():
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
        text = "out of memory - use smaller tiles or fewer workers"
    elif isinstance(e, OSError):
        reason, hint = failure(e)
        name = f"{os.fsdecode(e.filename)}: " if e.filename else ""
        text = f"{name}{reason}" + f" - {hint}" * bool(hint)
    elif type(e).__module__.startswith("pyproj"):
        text = f"PROJ: {e} - see geopipe doctor, or run again with -vv for where"
    else:
        text = f"unexpected {type(e).__name__}: {e} - run again with -vv for where"
    return _visible(" ".join(text.split()))


_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if c not in b"\n\t"}


def _visible(text: str) -> str:
    r"""Control characters as ``\xNN``: a file's words must not steer the terminal."""
    return text.translate(_CONTROLS)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _visible(super().formatMessage(record))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geopipe")
@click.option("-v", "--verbose", count=True, help="Say more on the way; -vv: tracebacks.")
def main(verbose: int) -> None:
    """Very-high-resolution satellite scenes in, building and road maps out.

    Inputs come first, in the order scene, labels or model; outputs follow -o. Each command explains
    itself: geopipe map --help
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show every name
            stream.reconfigure(errors="backslashreplace")
    # A raster without a place: where one is needed, the error says so.
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    # Alpha counts beside nodata as well: Scene reads it by itself.
    warnings.filterwarnings("ignore", "The dataset's nodata attribute is shadowing")
    already = logging.getLogger().handlers[:]
    logging.basicConfig(
        level=[logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)],
        stream=sys.stderr,
    )
    if already:  # in a program that has its own logging, that stays as it is
        return
    for handler in logging.getLogger().handlers:
        # A filter: libraries imported later (dask) set the levels of their loggers anew.
        handler.addFilter(lambda record: _is_worth_logging(record, verbose))
        handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))


def _is_worth_logging(record: logging.LogRecord, verbose: int) -> bool:
    """Our own lines; of a library's nothing, since what matters comes back as an error."""
    is_own_module = record.name.split(".")[0] in ("geopipe", "py")
    return is_own_module or (verbose >= 2 and record.levelno >= logging.WARNING)


COMMANDS = (
    scene,
    labels,
    train,
    ask,
    patches,
    chips,
    transfer,
    run,
    map_,
    roads,
    verify,
    verify_seams,
    evaluate,
    compare,
    assess,
    index,
    export,
    doctor,
)
labels.add_command(wfs)
for command in COMMANDS:
    main.add_command(command)
    if command not in (scene, doctor):  # they open no file of the user's
        with_consent(command)
