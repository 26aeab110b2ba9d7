"""``geopipe evaluate``: a map against ground truth."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import ALL_ARE, AREA, AS_JSON, LAYER, PATH, classes_option


@click.command(cls=Command)
@click.argument("class_map", metavar="MAP", type=PATH)
@click.argument("truth", type=PATH)
@classes_option(otherwise="the names in MAP")
@AREA
@LAYER
@ALL_ARE
@AS_JSON
def evaluate(
    class_map: Path,
    truth: Path,
    classes: str | None,
    area: Path | None,
    layer: str | None,
    all_are: str | None,
    as_json: bool,
) -> None:
    """Compare a map with ground truth: accuracy, IoU, F1, kappa.

    TRUTH is a raster of class ids on any grid, or vectors as for `geopipe labels`. The confusion
    matrix and the figures of each class are printed. Where MAP is a file of polygons, such as
    features.gpkg, its buildings are compared with those of TRUTH one by one: precision, recall, F1,
    how far outlines lie apart (PoLiS, boundary F1), vertices and right angles. Files of lines,
    as `geopipe roads` writes them, are compared by relaxed F1 and APLS.

    Example: geopipe evaluate map/classes.tif truth.gpkg
    """
    from geopipe.classes import load_scheme
    from geopipe.evaluation.evaluate import evaluate as compare

    scheme = load_scheme(classes) if classes else None
    metrics = compare(class_map, truth, scheme=scheme, area=area, layer=layer, all_are=all_are)
    click.echo(json.dumps(metrics.to_dict()) if as_json else metrics.to_markdown().rstrip())
