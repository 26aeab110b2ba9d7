"""``geopipe scene``: imagery of web services as scenes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.commands import Group
from geopipe.cli.options import AS_JSON, METRES, OVERWRITE, out_option

if TYPE_CHECKING:
    from geopipe.imagery.plan import Plan

OUT = out_option("The scene to write, a Cloud Optimized GeoTIFF.", "SCENE.tif")
BOUNDS = click.option(
    "--bounds",
    type=float,
    nargs=4,
    required=True,
    metavar="W S E N",
    help="West, south, east and north of the scene, in degrees.",
)
GSD = click.option(
    "--gsd",
    type=METRES,
    required=True,
    metavar="METRES",
    help="Ground sample distance: pixels are not larger, or by a tenth at most.",
)
FORMAT = click.option(
    "--format",
    "form",
    metavar="TYPE",
    help="Format of the images  [default: the best lossless one]",
)
CRS = click.option("--crs", metavar="EPSG:N", help="CRS of the scene  [default: the UTM zone]")
CREDIT = click.option(
    "--credit",
    help="Whom to name in the scene and in all maps of it  [default: as the service says]",
)
RATE = click.option(
    "--rate",
    type=click.FloatRange(0.01, 100),
    default=10.0,
    show_default=True,
    metavar="N",
    help="Requests per second at most.",
)
MAX_REQUESTS = click.option(
    "--max-requests",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Refuse a scene that takes more requests.",
)


def _shared(command: Any) -> Any:
    """The options that all services have."""
    for option in reversed((CREDIT, RATE, MAX_REQUESTS, OVERWRITE, AS_JSON)):
        command = option(command)
    return command


@click.group(cls=Group)
def scene() -> None:
    """Download imagery of a web service as a scene.

    Pixels stay as the service has them. A download that was stopped goes on with the same command,
    from the folder SCENE.tif.tiles. Look at the service's terms of use first.

    Example: geopipe scene wmts https://data.geopf.fr/wmts ORTHOIMAGERY.ORTHOPHOTOS
    --bounds 4.04 45.59 4.10 45.62 --gsd 0.5 -o scene.tif
    """


@scene.command()
@click.argument("url")
@click.argument("layer", required=False)
@OUT
@BOUNDS
@GSD
@click.option(
    "--matrix-set", metavar="NAME", help="Grid of the tiles  [default: the best for --gsd]"
)
@FORMAT
@_shared
def wmts(
    url: str, layer: str | None, matrix_set: str | None, gsd: float, form: str | None, **shared: Any
) -> None:
    """Download the tiles of a WMTS layer.

    URL is the service or the document of its capabilities. Without LAYER, or with a wrong one, the
    layers are listed; with a * in it the last one that fits is taken. The scene has the grid and
    the pixels of the level whose pixels are not larger than --gsd.

    Example: geopipe scene wmts https://data.geopf.fr/wmts ORTHOIMAGERY.ORTHOPHOTOS
    --bounds 4.04 45.59 4.10 45.62 --gsd 0.5 -o scene.tif
    """
    from geopipe.imagery.wmts import plan_wmts

    _run(
        lambda client, bounds, limits: plan_wmts(
            client, url, layer, bounds, gsd, limits, matrix_set=matrix_set, form=form
        ),
        **shared,
    )


@scene.command()
@click.argument("url")
@click.argument("layer", required=False)
@OUT
@BOUNDS
@GSD
@CRS
@FORMAT
@_shared
def wms(
    url: str, layer: str | None, gsd: float, crs: str | None, form: str | None, **shared: Any
) -> None:
    """Download images of a WMS layer.

    The service draws them with pixels of --gsd on a grid of whole multiples of it. Without LAYER,
    or with a wrong one, the layers are listed; with a * in it the last one that fits is taken.

    Example: geopipe scene wms https://data.geopf.fr/wms-r ORTHOIMAGERY.ORTHOPHOTOS
    --bounds 4.04 45.59 4.10 45.62 --gsd 0.5 --crs EPSG:2154 -o scene.tif
    """
    from geopipe.imagery.wms import plan_wms

    _run(
        lambda client, bounds, limits: plan_wms(
            client, url, layer, bounds, gsd, limits, crs=crs, form=form
        ),
        **shared,
    )


@scene.command()
@click.argument("url")
@OUT
@BOUNDS
@GSD
@click.option("--tms", is_flag=True, help="Rows are counted from the south, as in TMS.")
@click.option(
    "--tile-px",
    type=click.IntRange(64, 4096),
    default=256,
    show_default=True,
    metavar="PX",
    help="Pixels a side of a tile of the service.",
)
@click.option(
    "--max-zoom",
    type=click.IntRange(0, 24),
    default=24,
    metavar="Z",
    help="The last zoom level that the service has.",
)
@_shared
def xyz(url: str, gsd: float, tms: bool, tile_px: int, max_zoom: int, **shared: Any) -> None:
    """Download XYZ or TMS tiles.

    URL has {z}, {x} and {y}, or {-y} for rows counted from the south. A tile that is missing is
    without data. Such services do not say whom to credit: give --credit.

    Example: geopipe scene xyz https://tiles.example.org/{z}/{x}/{y}.png
    --bounds 4.04 45.59 4.10 45.62 --gsd 0.5 --credit "Example" -o scene.tif
    """
    from geopipe.imagery.xyz import plan_xyz

    _run(
        lambda client, bounds, limits: plan_xyz(
            client, url, bounds, gsd, limits, tms=tms, tile_px=tile_px, deepest=max_zoom
        ),
        **shared,
    )


@scene.command()
@click.argument("url")
@click.argument("layer", required=False)
@OUT
@BOUNDS
@GSD
@FORMAT
@_shared
def arcgis(url: str, layer: str | None, gsd: float, form: str | None, **shared: Any) -> None:
    """Download images of an ArcGIS service.

    URL ends in /ImageServer or /MapServer. An image service is asked for its own pixels where they
    suit --gsd, else it resamples; of a cached map the tiles are taken. LAYER are numbers of the
    layers of a map, such as 0,2. --format is ArcGIS' word: png32, jpg, tiff.

    Example: geopipe scene arcgis https://host/arcgis/rest/services/Ortho/ImageServer
    --bounds 4.04 45.59 4.10 45.62 --gsd 0.5 -o scene.tif
    """
    from geopipe.imagery.arcgis import plan_arcgis

    _run(
        lambda client, bounds, limits: plan_arcgis(
            client, url, layer, bounds, gsd, limits, form=form
        ),
        **shared,
    )


@scene.command()
@click.argument("url")
@OUT
@BOUNDS
@click.option("--collection", required=True, metavar="ID", help="The collection to search.")
@click.option(
    "--date", "when", metavar="DATE", help="A day, or two with a / between  [default: any time]"
)
@click.option("--asset", metavar="KEY", help="The image of an item  [default: visual]")
@_shared
def stac(url: str, collection: str, when: str | None, asset: str | None, **shared: Any) -> None:
    """Download images of a STAC search.

    Of the items within the bounds the newest are taken, as many as cover them; only the windows of
    their GeoTIFFs that are needed are read. The scene has the pixels of the newest one. Choose a
    single day to know when the image was taken.

    Example: geopipe scene stac https://earth-search.aws.element84.com/v1 --collection naip
    --bounds -104.99 39.73 -104.97 39.75 --date 2021-01-01/2021-12-31 --asset image -o scene.tif
    """
    from geopipe.imagery.stac import plan_stac

    _run(
        lambda client, bounds, limits: plan_stac(
            client, url, collection, bounds, limits, when=when, asset=asset
        ),
        **shared,
    )


def _run(
    plan: "Callable[..., Plan]",
    *,
    out: Path,
    bounds: tuple[float, float, float, float],
    credit: str | None,
    rate: float,
    max_requests: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Ask the service what it has, download, and print what came."""
    from geopipe.files import check_new_file
    from geopipe.imagery.download import download
    from geopipe.imagery.plan import DownloadLimits, check_bounds
    from geopipe.web import Client

    check_new_file(out, overwrite=overwrite)
    wanted = check_bounds(bounds)
    planned = plan(Client(rate=rate), wanted, DownloadLimits(max_requests))
    done = download(planned, out, credit=credit, overwrite=overwrite)
    if as_json:
        facts = {"height": done.shape[0], "width": done.shape[1], "requests": done.tile_requests}
        click.echo(
            json.dumps(
                {"out": str(out), **facts, "empty": done.empty, "credit": done.credit, **done.about}
            )
        )
        return
    for name, value in done.about.items():
        click.echo(f"{name}: {value}")
    click.echo(f"size: {done.shape[1]} x {done.shape[0]} px, {done.tile_requests} requests")
    if done.empty:
        total = done.tile_requests
        click.echo(f"warning: {done.empty} of {total} requests are without data", err=True)
    if done.credit:
        click.echo(f"credit: {done.credit}")
    else:
        click.echo("warning: the service does not say whom to credit: give --credit", err=True)
    click.echo(out)
