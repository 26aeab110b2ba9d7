"""``geopipe ask``: where accurate outlines would help a model most."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, DEVICE, METRES, OVERWRITE, PATH, out_option


@click.command(cls=Command)
@click.argument("class_map", metavar="MAP", type=PATH)
@click.argument("model", metavar="[MODEL]", type=PATH, required=False)
@out_option("The GeoPackage of windows to draw in.", "WINDOWS.gpkg")
@click.option(
    "--windows",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="Number of windows.",
)
@click.option(
    "--metres",
    type=METRES,
    default=100.0,
    show_default=True,
    help="A side of a window on the ground.",
)
@click.option(
    "--scene",
    multiple=True,
    help="The scene of the map, if it was moved; of a mosaic each file, the topmost first.",
)
@click.option(
    "--drawn",
    type=PATH,
    multiple=True,
    metavar="WINDOWS.gpkg",
    help="An earlier file, whose drawn windows are not asked for again; may be repeated.",
)
@DEVICE
@OVERWRITE
@AS_JSON
def ask(
    class_map: Path,
    model: Path | None,
    out: Path,
    windows: int,
    metres: float,
    scene: tuple[str, ...],
    drawn: tuple[Path, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Ask where accurate outlines would help a model most.

    MAP is the folder of `geopipe map`; MODEL is the one that made it, if it was moved. The windows
    are those of which the model is expected to have the largest area wrong. In QGIS, outline all
    objects of a window in the layer `outlines`, set its field `drawn`, and train on:

    geopipe train SCENE -o NEW --from MODEL --steps 0 --tile SCENE --truth WINDOWS.gpkg

    Example: geopipe ask map -o where-to-draw.gpkg
    """
    from geopipe.mapping.where_to_draw import DrawingPlan, ask_where_to_draw

    result = ask_where_to_draw(
        class_map,
        out,
        DrawingPlan(windows, metres),
        model=model,
        scene=scene,
        drawn=drawn,
        device=device,
        overwrite=overwrite,
    )
    if as_json:
        rows = [
            {"gain_m2": w.gain_m2, "uncertainty": w.uncertainty, "out_of_domain": w.out_of_domain}
            for w in result.windows
        ]
        click.echo(json.dumps({"out": str(out), "of": result.total, "windows": rows}))
        return
    expected = sum(w.gain_m2 for w in result.windows)
    click.echo(
        f"{len(result.windows)} of {result.total} windows of {metres:g} m, in which about "
        f"{expected:,.0f} m2 may be wrong"
    )
    click.echo(out)
