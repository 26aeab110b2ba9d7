"""geopipe index: chips by likeness."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.options import AS_JSON, BANDS, NODATA, OVERWRITE, PATH

if TYPE_CHECKING:
    from geopipe.mapping import Workers
    from geopipe.retrieve import EmbeddingModel
    from geopipe.retrieve.query import Retriever, SearchResult

DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N")
WEIGHTS = click.option(
    "--weights", metavar="FILE", help="The model's weights  [default: where they were]"
)
WORKERS = click.option(
    "--workers",
    type=int,
    default=0,
    show_default=True,
    help="Local processes; 0: threads of this one.",
)
THREADS = click.option("--threads", type=int, help="Pieces at once  [default: the cores]")
SCHEDULER = click.option(
    "--scheduler", metavar="tcp://HOST:PORT", help="A dask cluster instead of --workers."
)
HTML = click.option("--html", "page", type=PATH, help="Write a page that holds all it shows.")
METRES = click.FloatRange(0, min_open=True)
EXPAND = click.option(
    "--expand",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Ask again, with the first N hits added to the query.",
)


def _numbers(
    _: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as e:
        raise click.BadParameter("give numbers with commas between them") from e
    if option.name == "box" and len(numbers) != 4:
        raise click.BadParameter("give minx,miny,maxx,maxy")
    return numbers


@click.group()
def index() -> None:
    """Find what looks like an image, in folders of chips and in scenes."""


@index.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "-o",
    "--out",
    "folder",
    type=PATH,
    required=True,
    metavar="INDEX",
    help="The folder of the index; chips are added to one that is there.",
)
@click.option(
    "--size",
    type=METRES,
    default=64.0,
    show_default=True,
    help="Of scenes: metres a side of a chip.",
)
@click.option("--step", type=METRES, help="Metres between chips  [default: half of --size]")
@click.option(
    "--valid",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least share of valid pixels of a chip.",
)
@click.option(
    "--backbone",
    help="efficientnet_lite0, vgg16... (docs/backbones.md)  "
    "[default: the index's, or efficientnet_lite0]",
)
@WEIGHTS
@click.option("--feature", help="pooled, c5, pool5, fc6, fc7...  [default: pooled]")
@click.option(
    "--pooling",
    type=click.Choice(["flat", "mean", "max", "gem"]),
    help="Of a feature that is a map  [default: flat, all of it]",
)
@click.option(
    "--norm",
    type=click.Choice(["gauss", "l2", "none"]),
    help="How vectors are normalised  [default: gauss]",
)
@click.option(
    "--side",
    type=click.IntRange(32),
    help="Pixels that chips are resized to  [default: the net's own]",
)
@click.option(
    "--rotations",
    type=click.Choice(["1", "4", "8"]),
    help="Views averaged: quarter rotations, mirrored  [default: 1]",
)
@click.option(
    "--scales",
    callback=_numbers,
    metavar="X,X",
    help="Views at several shares of --side averaged  [default: 1]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Of vectors on disk  [default: float32]",
)
@click.option(
    "--search",
    type=click.Choice(["auto", "exact", "ivf", "hnsw", "pq"]),
    default="auto",
    show_default=True,
    help="auto: exact below 200 000 chips, then ivf.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be read.")
@click.option("--keep-duplicates", is_flag=True, help="Keep equal chips of several places.")
@click.option("--cache", type=PATH, help="A folder in which vectors are kept.")
@WORKERS
@THREADS
@SCHEDULER
@DEVICE
@BANDS
@NODATA
@AS_JSON
def build(
    sources: tuple[str, ...],
    folder: Path,
    size: float,
    step: float | None,
    valid: float,
    dtype: str | None,
    search: str,
    skip_bad: bool,
    keep_duplicates: bool,
    cache: Path | None,
    workers: int,
    threads: int | None,
    scheduler: str | None,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Add chips to INDEX: folders of images (folders in them are classes), and scenes cut here.

    The same command goes on with a build that stopped. Equal chips are kept once.
    """
    from geopipe.retrieve.build import BuildPlan, ChipGrid, build_index

    plan = BuildPlan(
        ChipGrid(size, step or size / 2, valid, bands, nodata),
        dtype,
        search,
        skip_bad,
        keep_duplicates,
        cache,
        _workers(workers, threads, scheduler),
    )
    built = build_index(sources, folder, _model(folder, **model), plan)
    if as_json:
        click.echo(json.dumps({"index": str(folder), **asdict(built)}))
        return
    for text in built.bad:
        click.echo(f"left out: {text}", err=True)
    click.echo(f"{built.added} chips added, {built.chips} in the index")
    for count, text in (
        (built.duplicates, "equal to one that is there"),
        (built.known, "there already"),
        (built.blank, "with too few valid pixels"),
        (len(built.bad), "unreadable"),
    ):
        if count:
            click.echo(f"left out: {count} {text}")
    recall = "" if built.recall is None else f", recall at 10 against exact {built.recall:.3f}"
    click.echo(f"search: {built.search}{recall}")
    click.echo(f"sha256: {built.digest}")
    click.echo(f"index: {folder}")


def _model(
    folder: Path,
    *,
    backbone: str | None,
    weights: str | None,
    device: str,
    rotations: str | None,
    **options: Any,
) -> "EmbeddingModel":
    """The model of the index that is there, or of a new one, with what was given in its place."""
    from geopipe.mapping import choose_device
    from geopipe.retrieve import EmbeddingConfig, EmbeddingModel
    from geopipe.retrieve.header import NAME, Header

    model = EmbeddingModel(EmbeddingConfig(backbone or "efficientnet_lite0"), "auto")
    if (folder / NAME).exists():
        model = EmbeddingModel.from_identity(Header.read(folder).model)
    options |= {"backbone": backbone, "rotations": int(rotations) if rotations else None}
    selected = {k: v for k, v in options.items() if v is not None}
    config = EmbeddingConfig.from_dict({**model.config.to_dict(), **selected})
    return EmbeddingModel(config, weights or model.weights, device=choose_device(device))


def _workers(count: int, threads: int | None, scheduler: str | None) -> "Workers":
    from geopipe.mapping import Workers

    return Workers(count, scheduler, threads)


@index.command()
@click.argument("folder", type=PATH, metavar="INDEX")
@click.argument("image", required=False)
@click.option(
    "--box",
    callback=_numbers,
    metavar="MINX,MINY,MAXX,MAXY",
    help="Instead of IMAGE: a place in one of the index's scenes.",
)
@click.option(
    "--box-crs",
    type=click.Choice(["scene", "lonlat"]),
    default="scene",
    show_default=True,
    help="What --box is in.",
)
@click.option("--scene", help="The scene of --box  [default: the one that shows most of it]")
@click.option(
    "--like",
    multiple=True,
    metavar="A",
    help="More like this: an image or a chip's number; may be repeated.",
)
@click.option("--unlike", multiple=True, metavar="B", help="Less like this.")
@click.option("-k", type=click.IntRange(1), default=20, show_default=True, help="Hits.")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Hits that share more with a better one are left out; 1: none.",
)
@click.option("--with-self", is_flag=True, help="What was asked with may be a hit.")
@EXPAND
@click.option("--exact", is_flag=True, help="Without the approximate search.")
@click.option("-o", "--out", type=PATH, help="A GeoPackage of the hits, styled for QGIS.")
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
    """The K chips of INDEX that are most like IMAGE: a file, or the number of a chip.

    --like and --unlike move the question towards and away from examples (Rocchio).
    """
    from geopipe.mapping import choose_device
    from geopipe.raster.geopackage import check_target
    from geopipe.report.retrieval import write_result
    from geopipe.retrieve.box import Box
    from geopipe.retrieve.hits import write_hits
    from geopipe.retrieve.query import Query, Retriever, SearchOptions

    if not (image or box or like):
        raise click.UsageError("give IMAGE, --box or --like")
    if not box and (scene or box_crs != "scene"):
        raise click.UsageError("--scene and --box-crs say what --box is in: give --box")
    if out:
        check_target(out, overwrite=overwrite)
    _page_target(page, overwrite=overwrite)
    search_query = Query(image, Box(box, box_crs) if box else None, scene, like, unlike)
    retriever = Retriever.open(folder, weights, choose_device(device))
    result = retriever.query(search_query, SearchOptions(k, overlap, with_self, expand, exact))
    if out:
        write_hits(result, out)
    if page:
        write_result(page, result, retriever)
    click.echo(
        json.dumps(_query_settings(result, retriever, out, page)) if as_json else _table(result)
    )
    for path in (out, page) if not as_json else ():
        if path:
            click.echo(path)


def _page_target(page: Path | None, *, overwrite: bool) -> None:
    from geopipe.errors import ConfigError

    if page and page.exists() and not overwrite:
        raise ConfigError(f"{page} exists already", "give another name or --overwrite")
    if page and not page.parent.is_dir():
        raise ConfigError(f"there is no folder {page.parent}", "make it first")


def _query_settings(
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
        "search": searched and {"kind": searched["kind"], "recall": searched["recall"]},
        "out": out and str(out),
        "html": page and str(page),
    }


def _table(result: "SearchResult") -> str:
    lines = [f"{'rank':>4s} {'chip':>8s} {'distance':>9s} {'alike':>6s}  {'class':16s} where"]
    for h in result.hits:
        location = f"{h.row.source} [{h.row.row}, {h.row.col}]" if h.row.crs else h.row.source
        lines.append(
            f"{h.rank:4d} {h.number:8d} {h.distance:9.4g} {h.similarity:6.3f}  "
            f"{h.row.class_name or '-':16s} {location}"
        )
    return "\n".join(lines)


@index.command()
@click.argument("folder", type=PATH, metavar="INDEX")
@click.option(
    "--queries", type=click.IntRange(1), help="So many chips ask, drawn by lot  [default: all]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@HTML
@OVERWRITE
@AS_JSON
def evaluate(
    folder: Path, queries: int | None, seed: int, page: Path | None, overwrite: bool, as_json: bool
) -> None:
    """mAP, ANMRR, precision and recall of INDEX, where its chips lie in folders of classes.

    Every chip asks for all others, itself excluded.
    """
    from geopipe.report.retrieval import table_of, write_evaluation
    from geopipe.retrieve.evaluate import evaluate_index

    _page_target(page, overwrite=overwrite)
    evaluation = evaluate_index(folder, queries, seed)
    if page:
        write_evaluation(page, evaluation)
    if as_json:
        click.echo(json.dumps({**evaluation.to_dict(), "html": page and str(page)}))
        return
    for text in evaluation.warnings():
        click.echo(f"warning: {text}", err=True)
    for name, *values in table_of(evaluation.metrics):
        click.echo(f"{name:24s}" + "".join(f"{value:>17s}" for value in values))
    if page:
        click.echo(page)


@index.command()
@click.argument("folder", type=PATH, metavar="INDEX")
@click.argument("image")
@click.argument("scene")
@click.argument("out", type=PATH)
@click.option("--size", type=METRES, help="Metres a side of a chip  [default: the index's]")
@click.option("--step", type=METRES, help="Metres a side of a pixel of OUT  [default: size / 4]")
@click.option(
    "--valid",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least share of valid pixels of a chip.",
)
@click.option("--uint8", "as_bytes", is_flag=True, help="250 x similarity, not float32.")
@WEIGHTS
@WORKERS
@THREADS
@SCHEDULER
@DEVICE
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def heatmap(
    folder: Path,
    image: str,
    scene: str,
    out: Path,
    size: float | None,
    step: float | None,
    valid: float,
    as_bytes: bool,
    weights: str | None,
    workers: int,
    threads: int | None,
    scheduler: str | None,
    device: str,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """How like IMAGE (a file, or the number of a chip of INDEX) each place of SCENE is.

    OUT is a Cloud Optimized GeoTIFF: correlation of the features, 1 is the same.
    """
    from geopipe.mapping import choose_device
    from geopipe.retrieve.heatmap import heatmap as make
    from geopipe.retrieve.query import Retriever
    from geopipe.retrieve.sources import ChipGrid

    retriever = Retriever.open(folder, weights, choose_device(device))
    sizes = [s.cut[0] for s in retriever.index.header.scenes]
    metres = size or (sizes[-1] if sizes else None)
    if metres is None:
        raise click.UsageError("the index has no scene: give --size, metres a side of a chip")
    chip_grid = ChipGrid(metres, step or metres / 4, valid, bands, nodata)
    written = make(
        retriever,
        image,
        scene,
        out,
        chip_grid,
        _workers(workers, threads, scheduler),
        as_bytes=as_bytes,
        overwrite=overwrite,
    )
    if as_json:
        click.echo(json.dumps({"out": str(out), **written}))
        return
    click.echo(
        f"similarity {written['lowest']:.3f} to {written['highest']:.3f}, highest at "
        f"{written['x']:.10g},{written['y']:.10g} ({written['crs']})"
    )
    click.echo(out)
