"""Options that several commands share."""

import re
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
CLASSES = "A class scheme that ships (buildings-roads, buildings, land-cover) or a TOML file."
_UNITS = {"": 1.0, "MB": 1.0, "GB": 1000.0, "MIB": 1.048576, "GIB": 1073.741824, "M": 1.0, "G": 1e3}


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
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([a-zA-Z]*)", text.strip())
    if not match or match[2].upper() not in _UNITS or not float(match[1]):
        raise click.BadParameter("give a size, e.g. 4GB or 800MB")
    return max(1, int(float(match[1]) * _UNITS[match[2].upper()]))


BANDS = click.option(
    "--bands",
    callback=_bands,
    metavar="N,N,N",
    help="Bands to read, 1-based  [default: red, green, blue]",
)
NODATA = click.option(
    "--nodata", type=float, help="Value of holes that the file does not declare, e.g. 255."
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RAM = click.option(
    "--ram",
    "ram_mb",
    callback=_megabytes,
    metavar="4GB",
    help="Memory that all processes here may take together.",
)
VRAM = click.option(
    "--vram", "vram_mb", callback=_megabytes, metavar="6GB", help="Memory of the GPU to stay below."
)
