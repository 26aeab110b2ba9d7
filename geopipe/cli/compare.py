"""``geopipe compare``: a map against OpenStreetMap, or against a map of another date."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import (
    ALL_ARE,
    AREA,
    AS_JSON,
    LAYER,
    MAX_SHIFT,
    OVERWRITE,
    PATH,
    classes_option,
    out_option,
)


@click.command(cls=Command)
@click.argument("class_map", metavar="MAP", type=PATH)
@click.argument("reference", metavar="OSM", type=PATH)
@out_option("The GeoPackage of changes, styled for QGIS.", "CHANGES.gpkg")
@click.option(
    "--josm",
    type=PATH,
    metavar="CHANGES.osm",
    help="The same as OSM data for JOSM, which refuses to upload it.",
)
@AREA
@click.option(
    "--fdr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Highest expected share of wrong ones among what is only in the image.",
)
@click.option(
    "--truth",
    type=PATH,
    help="True buildings of a part of the map, on which probabilities are calibrated.",
)
@click.option(
    "--truth-area",
    type=PATH,
    help="Polygons in which --truth is complete  [default: the box around it]",
)
@click.option(
    "--align/--no-align",
    default=True,
    show_default=True,
    help="Move OSM to where the map has its objects before comparing.",
)
@MAX_SHIFT
@classes_option("buildings-roads")
@LAYER
@ALL_ARE
@OVERWRITE
@AS_JSON
def compare(
    class_map: Path,
    reference: Path,
    out: Path,
    josm: Path | None,
    area: Path | None,
    fdr: float,
    truth: Path | None,
    truth_area: Path | None,
    align: bool,
    max_shift: float,
    classes: str,
    layer: str | None,
    all_are: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare a map with OpenStreetMap or an older map.

    MAP is a class map, its features.gpkg, or lines of `geopipe roads`. OSM is a file of vectors as
    for `geopipe labels`, or a map of an earlier date. OSM is first moved to where the map has its
    objects. Then each building agrees, is moved, has changed shape, is split or merged, or is only
    on one side; roads are cut where that changes. Of what is only in the image, the most probable
    is reported, as much as --fdr allows.

    Example: geopipe compare map/features.gpkg osm.gpkg -o changes.gpkg --josm changes.osm
    """
    from geopipe.changes.change_file import check_change_targets, write_changes
    from geopipe.changes.compare import CompareOptions
    from geopipe.changes.compare import compare as compare_files
    from geopipe.errors import ConfigError

    if truth_area and not truth:
        raise ConfigError("`truth_area` limits a truth", "give its `truth` too")
    sources = [p for p in (class_map, reference, area, truth, truth_area) if p]
    check_change_targets(out, josm, overwrite=overwrite, sources=sources)
    options = CompareOptions(fdr=fdr, max_shift=max_shift if align else 0.0, classes=classes)
    changes = compare_files(
        class_map,
        reference,
        options,
        area=area,
        layer=layer,
        all_are=all_are,
        truth=truth,
        truth_area=truth_area,
    )
    write_changes(changes, out, josm, reference=reference)
    if as_json:
        click.echo(json.dumps({"out": str(out), **changes.to_dict()}))
        return
    for note in changes.notes:
        click.echo(f"note: {note}", err=True)
    for name, counts in changes.counts().items():
        unit = "" if name == "buildings" else " km"
        for status, number in counts.items():
            click.echo(f"{name:10s} {status:28s} {number:10g}{unit}")
    click.echo(out)
    if josm:
        click.echo(josm)
