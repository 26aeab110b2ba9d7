"""``geopipe index query``: the chips of an index that look most like an image."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import (
    AS_JSON,
    DEVICE,
    HTML,
    OVERWRITE,
    PATH,
    WEIGHTS,
    out_option,
    parse_numbers,
)
from geopipe.errors import ChipIndexError

if TYPE_CHECKING:
    from geopipe.retrieve.query import Retriever, SearchResult

EXPAND = click.option(
    "--expand",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Query expansion: search again with the first N hits added to the query.",
)


@click.command(cls=Command)
@click.argument("folder", type=PATH, metavar="INDEX")
@click.argument("image", required=False)
@click.option(
    "--box",
    callback=parse_numbers,
    metavar="MINX,MINY,MAXX,MAXY",
    help="Instead of IMAGE: a place in one of the scenes of the index.",
)
@click.option(
    "--box-crs",
    type=click.Choice(["scene", "lonlat"]),
    default="scene",
    show_default=True,
    help="Coordinates of --box.",
)
@click.option("--scene", help="The scene of --box  [default: the one that shows most of it]")
@click.option(
    "--like",
    multiple=True,
    metavar="A",
    help="Search for more like this image or chip number; may be repeated.",
)
@click.option(
    "--unlike",
    multiple=True,
    metavar="B",
    help="Search for less like this image or chip number; may be repeated.",
)
@click.option("-k", type=click.IntRange(1), default=20, show_default=True, help="Number of hits.")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Hits that overlap a better one by a larger share are left out; 1: none is.",
)
@click.option("--with-self", is_flag=True, help="The chips of the query itself may be hits.")
@EXPAND
@click.option("--exact", is_flag=True, help="Compare all chips, without approximate search.")
@out_option("A GeoPackage of the hits, styled for QGIS.", "HITS.gpkg", required=False)
@HTML
@WEIGHTS
@DEVICE
@OVERWRITE
@AS_JSON
def query(
    folder: Path,
    image: str | None,
    box: tuple[float, float, float, float] | None,
    box_crs: str,
    scene: str | None,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    k: int,
    overlap: float,
    with_self: bool,
    expand: int,
    exact: bool,
    out: Path | None,
    page: Path | None,
    weights: str | None,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find the chips of an index that look most like an image.

    IMAGE is a file, or the number of a chip. --like and --unlike move the query towards and away
    from examples (Rocchio).

    Example: geopipe index query archive.index school.png -o hits.gpkg
    """
    from geopipe.files import check_new_file
    from geopipe.mapping import choose_device
    from geopipe.raster.geopackage import check_target
    from geopipe.report.retrieval import write_result
    from geopipe.retrieve.box import Box
    from geopipe.retrieve.hits import no_place, write_hits
    from geopipe.retrieve.query import Query, Retriever, SearchOptions

    if not (image or box or like):
        raise click.UsageError("Give IMAGE, --box or --like.")
    if not box and (scene or box_crs != "scene"):
        raise click.UsageError("--scene and --box-crs tell where --box lies: give --box.")
    files = [Path(name) for name in (image, scene) if name]
    if out:
        check_target(out, overwrite=overwrite, sources=files)
    if page:
        check_new_file(page, overwrite=overwrite, sources=[*files, *folder.glob("*")])
    query_spec = Query(image, Box(box, box_crs) if box else None, scene, like, unlike)
    retriever = Retriever.open(folder, weights, choose_device(device))
    result = retriever.query(query_spec, SearchOptions(k, overlap, with_self, expand, exact))
    if page:
        write_result(page, result, retriever)
    placed = sum(bool(h.row.crs) for h in result.hits)
    target = out if placed else None
    if target:
        write_hits(result, target)
    answer = _as_json(result, retriever, target, page)
    click.echo(json.dumps(answer) if as_json else _table(result))
    for path in (target, page) if not as_json else ():
        if path:
            click.echo(path)
    nothing_written = out and not placed and not page
    if out and placed < len(result.hits) and not nothing_written:
        lost, what = len(result.hits) - placed, "lacks hits" if placed else "is not written"
        text = f"note: {out} {what}: {lost} of {len(result.hits)} have no place on Earth"
        click.echo(text, err=True)
    if nothing_written:
        raise ChipIndexError(no_place(result), "show them on a page, with --html PAGE")


def _as_json(
    result: "SearchResult", retriever: "Retriever", out: Path | None, page: Path | None
) -> dict[str, Any]:
    """The result as JSON values."""
    hits = [
        {
            "rank": h.rank,
            "chip": h.number,
            "distance": h.distance,
            "similarity": h.similarity,
            "class": h.row.class_name,
            "source": h.row.source,
            "crs": h.row.crs,
            "window": [h.row.row, h.row.col, h.row.height, h.row.width],
            "corners": h.row.corners.tolist() if h.row.crs else None,
        }
        for h in result.hits
    ]
    searched = retriever.index.header.search
    return {
        "hits": hits,
        "chips": result.chips,
        "notes": list(result.notes),
        "search": searched and {"kind": searched.kind, "recall": searched.recall},
        "out": out and str(out),
        "html": page and str(page),
    }


def _table(result: "SearchResult") -> str:
    lines = [f"{'rank':>4s} {'chip':>8s} {'distance':>9s} {'alike':>6s}  {'class':16s} where"]
    for h in result.hits:
        place = f"{h.row.source} [{h.row.row}, {h.row.col}]" if h.row.crs else h.row.source
        lines.append(
            f"{h.rank:4d} {h.number:8d} {h.distance:9.4g} {h.similarity:6.3f}  "
            f"{h.row.class_name or '-':16s} {place}"
        )
    return "\n".join(lines)
