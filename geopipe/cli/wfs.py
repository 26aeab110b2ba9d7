"""``geopipe labels wfs``: vectors of a Web Feature Service."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, OVERWRITE, out_option


@click.command(cls=Command)
@click.argument("scene")
@click.argument("url")
@click.argument("layer", required=False)
@out_option("The GeoPackage to write.", "OUT.gpkg")
@click.option("--class", "class_name", help="The class of all features, as a column class.")
@click.option("--credit", help="Whom to name in all that is made  [default: as the service says]")
@OVERWRITE
@AS_JSON
def wfs(
    scene: str,
    url: str,
    layer: str | None,
    out: Path,
    class_name: str | None,
    credit: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Download the vectors of a WFS layer in a scene.

    Without LAYER, or with a wrong one, the layers are listed. All columns are kept; with --class
    the features are labels of that class.

    Example: geopipe labels wfs scene.tif https://data.geopf.fr/wfs/ows BDTOPO_V3:batiment
    --class building -o buildings.gpkg
    """
    from geopipe.labels.wfs import download_wfs
    from geopipe.raster import Scene

    place = Scene.open(scene).geobox
    done = download_wfs(
        url, layer, place, out, class_name=class_name, credit=credit, overwrite=overwrite
    )
    if as_json:
        facts = {"out": str(out), "layer": done.layer, "features": done.features}
        click.echo(json.dumps({**facts, "credit": done.credit}))
        return
    click.echo(f"{done.features} features of {done.layer}")
    if done.credit:
        click.echo(f"credit: {done.credit}")
    click.echo(out)
