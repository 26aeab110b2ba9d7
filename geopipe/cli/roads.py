"""``geopipe roads``: centre-lines of the roads in a map."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, OVERWRITE, PATH, classes_option, out_option


@click.command(cls=Command)
@click.argument("class_map", metavar="MAP", type=PATH)
@out_option("The GeoPackage to write.", "ROADS.gpkg")
@click.option(
    "--probability",
    "scores",
    type=PATH,
    help="The scores.tif or confidence.tif of MAP  [default: the one beside MAP]",
)
@click.option("--graphml", type=PATH, help="Also write a graph for osmnx and networkx.")
@classes_option(otherwise="the names in MAP")
@click.option("--class", "class_name", default="road", show_default=True, help="Name of the class.")
@click.option(
    "--max-gap",
    type=float,
    default=20.0,
    show_default=True,
    metavar="METRES",
    help="Bridge gaps up to this length; half of it where no scores allow them.",
)
@click.option(
    "--min-score",
    type=float,
    default=0.2,
    show_default=True,
    help="Mean probability of road that a gap must have.",
)
@click.option(
    "--min-length",
    type=float,
    default=20.0,
    show_default=True,
    metavar="METRES",
    help="Leave out connected roads that are shorter together.",
)
@click.option(
    "--max-width",
    type=float,
    default=40.0,
    show_default=True,
    metavar="METRES",
    help="Areas wider than this both ways have no centre-line.",
)
@click.option(
    "--tolerance",
    type=float,
    metavar="METRES",
    help="Farthest that smoothing moves a line  [default: 0.75 px + 0.5 m]",
)
@OVERWRITE
@AS_JSON
def roads(
    class_map: Path,
    out: Path,
    scores: Path | None,
    graphml: Path | None,
    classes: str | None,
    class_name: str,
    max_gap: float,
    min_score: float,
    min_length: float,
    max_width: float,
    tolerance: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw the centre-lines of the roads of a map.

    The lines form one connected network with the width of each road. Gaps are bridged where the
    probability of road allows it.

    Example: geopipe roads map/classes.tif -o roads.gpkg --graphml roads.graphml
    """
    from geopipe.classes import load_scheme
    from geopipe.vectors.road_layer import check_road_targets, write_roads
    from geopipe.vectors.roads import RoadOptions, find_roads

    sources = [p for p in (class_map, scores) if p]
    check_road_targets(out, graphml, overwrite=overwrite, sources=sources)
    options = RoadOptions(class_name, max_gap, min_score, min_length, max_width, tolerance)
    scheme = load_scheme(classes) if classes else None
    network = find_roads(class_map, scores, options, scheme=scheme)
    counts = write_roads(network, out, graphml)
    if as_json:
        files = {"out": str(out)} | ({"graphml": str(graphml)} if graphml else {})
        click.echo(json.dumps({**files, **counts}))
        return
    click.echo(
        f"{counts['lines']} lines, {counts['km']:g} km, {counts['components']} connected networks, "
        f"{counts['dead_ends']} dead ends, {counts['bridged_gaps']} gaps bridged"
    )
    click.echo(out)
    if graphml:
        click.echo(graphml)
