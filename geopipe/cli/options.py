"""The options that several commands share: one word for one thing."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from geopipe.limits import parse_megabytes

PATH = click.Path(path_type=Path)


class _ModelPath(click.Path):
    """The file of a model; ``starter`` is the one that comes with geopipe."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from geopipe.checkpoint.starter import model_path

        return model_path(Path(os.fsdecode(super().convert(value, param, ctx))))


MODEL_PATH = _ModelPath(path_type=Path)
METRES = click.FloatRange(0, min_open=True)
_SCHEMES = "A class scheme that ships (buildings-roads, buildings, land-cover) or a TOML file."

Decorator = Callable[[Any], Any]


def _bands(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as e:
        raise click.BadParameter("give band numbers, e.g. 3,2,1") from e


def _megabytes(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_megabytes(text)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e


def parse_numbers(
    _: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    """``1,2.5`` as numbers, of a box four."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as e:
        raise click.BadParameter("give numbers with commas between them") from e
    if option.name == "box" and len(numbers) != 4:
        raise click.BadParameter("give minx,miny,maxx,maxy")
    return numbers


# -- outputs


def out_option(what: str, metavar: str, *, required: bool = True) -> Decorator:
    """``-o/--out``: where the command writes `what`."""
    return click.option(
        "-o", "--out", "out", type=PATH, required=required, metavar=metavar, help=what
    )


OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

# -- images


def _consent(_: click.Context, __: click.Parameter, allowed: bool) -> None:
    if allowed or "geopipe.raster.remote" in sys.modules:
        from geopipe.raster.remote import allow_remote

        allow_remote(allowed)


def with_consent(command: click.Command) -> None:
    """Give `command`, or each command of a group, the option --allow-remote."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_consent(inner)
        return
    command.params.append(
        click.Option(
            ["--allow-remote"],
            is_flag=True,
            expose_value=False,
            callback=_consent,
            help="Let a local VRT refer to files on a network.",
        )
    )


BANDS = click.option(
    "--bands",
    callback=_bands,
    metavar="N,N,N",
    help="Bands to read, 1-based  [default: red, green, blue]",
)
NODATA = click.option(
    "--nodata", type=float, help="Value of pixels without data that the file does not declare."
)
SKIP_BAD = click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")

# -- labels


def classes_option(default: str | None = None, otherwise: str = "") -> Decorator:
    """``--classes``; `otherwise` says which they are where there is no `default`."""
    return click.option(
        "--classes",
        default=default,
        show_default=bool(default),
        help=_SCHEMES + (f"  [default: {otherwise}]" if otherwise else ""),
    )


FETCH = click.option(
    "--fetch",
    is_flag=True,
    help="Take OpenStreetMap from the Overpass API, once per scene; then give no LABELS.",
)
LAYER = click.option("--layer", help="One layer of a GeoPackage of labels  [default: all]")
ALL_ARE = click.option(
    "--all-are",
    metavar="CLASS",
    help="The class of every feature, for vectors that do not say it: --all-are building",
)
AREA = click.option("--area", type=PATH, help="Polygons; what lies outside of them is ignored.")
MAX_SHIFT = click.option(
    "--max-shift",
    type=click.FloatRange(1, 30),
    default=8.0,
    show_default=True,
    metavar="METRES",
    help="The largest shift of labels that is looked for and corrected.",
)
IGNORE_BUFFER = click.option(
    "--ignore-buffer",
    type=click.FloatRange(0, 50),
    default=0.0,
    show_default=True,
    metavar="METRES",
    help="Pixels this near to the border of two classes are ignored (255).",
)
LABELS = click.option(
    "--labels", type=PATH, help="Labels of a single labelled scene: vectors or a class raster."
)
MASKS = click.option(
    "--masks", type=PATH, help="A folder with an image of class ids for each labelled chip."
)
UNLABELLED = click.option(
    "--unlabelled",
    type=click.IntRange(0, 255),
    default=255,
    show_default=True,
    help="Id of pixels without a class in the masks.",
)

# -- training

SEED = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the random numbers: equal seeds give equal results.",
)
CACHE = click.option("--cache", type=PATH, help="A folder in which computed features are kept.")

# -- retrieval

WEIGHTS = click.option(
    "--weights", metavar="FILE", help="Weights of the model  [default: from where they were]"
)
HTML = click.option(
    "--html", "page", type=PATH, metavar="PAGE", help="Write a page with all results and images."
)

# -- the machine

DEVICE = click.option(
    "--device", default="auto", show_default=True, help="Where networks run: auto, cpu or cuda:N."
)
WORKERS = click.option(
    "--workers",
    type=int,
    default=0,
    show_default=True,
    help="Local processes; 0: threads of this one.",
)
THREADS = click.option(
    "--threads", type=int, help="Tiles computed at once  [default: the cores; 3 on a GPU]"
)
SCHEDULER = click.option(
    "--scheduler", metavar="tcp://HOST:PORT", help="A dask cluster instead of --workers."
)
RAM = click.option(
    "--ram",
    "ram_mb",
    callback=_megabytes,
    metavar="4GB",
    help="Memory that all processes on this machine may take together.",
)
VRAM = click.option(
    "--vram", "vram_mb", callback=_megabytes, metavar="6GB", help="Memory of the GPU to stay below."
)


def tile_size_option(what: str, *, multiple: bool = False) -> Decorator:
    """``--tile-size``: pixels a side of a tile when mapping."""
    name = "tile_sizes" if multiple else "tile_size"
    return click.option("--tile-size", name, type=int, multiple=multiple, metavar="PX", help=what)
