"""geopipe index: search chips by image (retrieval)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.commands import Group
from geopipe.cli.options import (
    AS_JSON,
    BANDS,
    CACHE,
    DEVICE,
    HTML,
    METRES,
    NODATA,
    OVERWRITE,
    PATH,
    SCHEDULER,
    SEED,
    SKIP_BAD,
    THREADS,
    WEIGHTS,
    WORKERS,
    out_option,
    parse_numbers,
)
from geopipe.cli.query import query

if TYPE_CHECKING:
    from geopipe.mapping import Workers
    from geopipe.retrieve import EmbeddingModel

VALID = click.option(
    "--valid",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="The least share of valid pixels of a chip.",
)


@click.group(cls=Group)
def index() -> None:
    """Search chips and scenes for what looks like an image.

    Example: geopipe index build archive/ -o archive.index
    """


@index.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@out_option("The folder of the index; chips are added to one that exists.", "INDEX")
@click.option(
    "--size",
    type=METRES,
    default=64.0,
    show_default=True,
    metavar="METRES",
    help="Of scenes: side of a chip.",
)
@click.option(
    "--step",
    type=METRES,
    metavar="METRES",
    help="Of scenes: distance between chips  [default: half of --size]",
)
@VALID
@click.option(
    "--backbone",
    help="The backbone: efficientnet_lite0, vgg16... (docs/backbones.md)  "
    "[default: the index's, or efficientnet_lite0]",
)
@WEIGHTS
@click.option(
    "--feature",
    help="The layer that embeddings are made of: pooled, c5, pool5, fc6, fc7...  [default: pooled]",
)
@click.option(
    "--pooling",
    type=click.Choice(["flat", "mean", "max", "gem"]),
    help="How a feature map becomes a vector  [default: flat, all of it]",
)
@click.option(
    "--norm",
    type=click.Choice(["gauss", "l2", "none"]),
    help="How embeddings are normalised  [default: gauss]",
)
@click.option(
    "--side",
    type=click.IntRange(32, 4096),
    metavar="PX",
    help="Pixels a side that chips are resized to  [default: the network's own]",
)
@click.option(
    "--rotations",
    type=click.Choice(["1", "4", "8"]),
    help="Views that are averaged: quarter rotations, then mirrored ones  [default: 1]",
)
@click.option(
    "--scales",
    callback=parse_numbers,
    metavar="X,X",
    help="Views at these shares of --side are averaged  [default: 1]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Type of the embeddings on disk  [default: float32]",
)
@click.option(
    "--search",
    type=click.Choice(["auto", "exact", "ivf", "hnsw", "pq"]),
    default="auto",
    show_default=True,
    help="Kind of search; auto: exact below 200 000 chips, then ivf.",
)
@SKIP_BAD
@click.option("--keep-duplicates", is_flag=True, help="Keep equal chips of several places.")
@CACHE
@WORKERS
@THREADS
@SCHEDULER
@DEVICE
@BANDS
@NODATA
@AS_JSON
def build(
    sources: tuple[str, ...],
    out: Path,
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
    """Build an index of chips, or add chips to one.

    SOURCE is a folder of images, whose folders are classes, or a scene, which is cut into chips.
    Equal chips are kept once. The same command goes on with a build that stopped.

    Example: geopipe index build archive/ scene.tif -o archive.index
    """
    from geopipe.retrieve.build import BuildPlan, ChipGrid, build_index

    plan = BuildPlan(
        ChipGrid(size, step or size / 2, valid, bands, nodata),
        dtype,  # type: ignore[arg-type]  # click has checked it
        search,
        skip_bad,
        keep_duplicates,
        cache,
        _workers(workers, threads, scheduler),
    )
    built = build_index(sources, out, _model(out, **model), plan)
    if as_json:
        click.echo(json.dumps({"index": str(out), **asdict(built)}))
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
    click.echo(f"index: {out}")


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


index.add_command(query)


@index.command()
@click.argument("folder", type=PATH, metavar="INDEX")
@click.option(
    "--queries",
    type=click.IntRange(1),
    metavar="N",
    help="Query with N random chips only  [default: all]",
)
@SEED
@HTML
@OVERWRITE
@AS_JSON
def evaluate(
    folder: Path, queries: int | None, seed: int, page: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Measure how well an index finds chips of the same class.

    mAP, ANMRR, precision and recall, where the chips lie in folders of classes. Every chip is a
    query for all others, itself excluded.

    Example: geopipe index evaluate archive.index --html page.html
    """
    from geopipe.files import check_new_file
    from geopipe.report.retrieval import table_of, write_evaluation
    from geopipe.retrieve.evaluate import evaluate_index

    if page:
        check_new_file(page, overwrite=overwrite, sources=folder.glob("*"))
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
@out_option("The GeoTIFF to write.", "OUT.tif")
@click.option(
    "--size", type=METRES, metavar="METRES", help="Side of a chip  [default: the index's]"
)
@click.option(
    "--step",
    type=METRES,
    metavar="METRES",
    help="Side of a pixel of the output  [default: size / 4]",
)
@VALID
@click.option("--uint8", "as_bytes", is_flag=True, help="Write 250 x similarity, not float32.")
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
    """Map how similar each place of a scene is to an image.

    IMAGE is a file, or the number of a chip of INDEX. The output is a Cloud Optimized GeoTIFF of
    the correlation of the embeddings; 1 is the same.

    Example: geopipe index heatmap archive.index school.png scene.tif -o similar.tif
    """
    from geopipe.files import check_new_file
    from geopipe.mapping import choose_device
    from geopipe.retrieve.heatmap import heatmap as make
    from geopipe.retrieve.query import Retriever
    from geopipe.retrieve.sources import ChipGrid

    check_new_file(out, overwrite=overwrite, sources=[Path(scene), Path(image)])
    retriever = Retriever.open(folder, weights, choose_device(device))
    sizes = [s.cut[0] for s in retriever.index.header.scenes]
    metres = size or (sizes[-1] if sizes else None)
    if metres is None:
        raise click.UsageError("The index has no scene: give --size, metres a side of a chip.")
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
