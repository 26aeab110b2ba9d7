"""``geopipe verify``: is a map still what its scene and its model give?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, PATH, THREADS
from geopipe.errors import SceneError

if TYPE_CHECKING:
    from geopipe.mapping.verify import Verification


@click.command("verify", cls=Command)
@click.argument("map_folder", type=PATH, metavar="MAP")
@click.option(
    "--tiles",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Tiles that are drawn at random and computed again.",
)
@click.option(
    "--scene",
    "scene",
    multiple=True,
    metavar="SCENE",
    help="Where the scene is, if it was moved; of a mosaic once per file, the topmost first.",
)
@click.option("--model", type=PATH, help="Where the model is, if it was moved.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Draw the same tiles as before.")
@THREADS
@AS_JSON
def verify(
    map_folder: Path,
    tiles: int,
    scene: tuple[str, ...],
    model: Path | None,
    seed: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check that a map is what its scene and its model give.

    Tiles of the map in the folder MAP are drawn at random, computed again from the scene and the
    model whose hashes the map names, and compared pixel by pixel. Printed is the chance with which
    tampering with a share of the map would have been detected. The exit code is 1 where a tile
    differs.

    Example: geopipe verify outputs/town/map/town --tiles 50
    """
    from geopipe.mapping import Workers
    from geopipe.mapping.verify import verify_map

    result = verify_map(
        map_folder,
        tiles=tiles,
        scene=scene,
        model=model,
        seed=seed,
        workers=Workers(threads=threads),
    )
    click.echo(json.dumps(result.to_dict()) if as_json else "\n".join(_lines(result)))
    if not result.ok:
        names = sorted({d.raster for d in result.differences})
        places = {d.window for d in result.differences}
        raise SceneError(
            f"{len(places)} of {len(result.compared)} tiles are not what scene and model give, in "
            f"{', '.join(names)}",
            next(iter(result.notes), "the map was changed after it was made"),
        )


def _lines(result: "Verification") -> list[str]:
    lines = [
        f"{d.raster}: {d.pixels} pixels differ in the tile at rows {d.window.row}-"
        f"{d.window.bottom}, columns {d.window.col}-{d.window.right}"
        for d in result.differences
    ]
    count, names = len(result.compared), ", ".join(result.rasters)
    if result.ok:
        lines.append(f"{count} of {result.tiles} tiles compared, all equal: {names}")
    lines.append("Tampering would have been detected with a chance of at least:")
    lines.append(f"  {100 * result.pixel_chance:5.1f} %  one pixel")
    lines += [f"  {100 * c:5.1f} %  {100 * s:g} % of the map" for s, c in result.chances.items()]
    return lines + [f"note: {note}" for note in result.notes]
