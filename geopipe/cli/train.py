"""``geopipe train``: a segmentation model from a scene and its labels."""

import json
from pathlib import Path
from typing import Literal, get_args

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import (
    ALL_ARE,
    AREA,
    AS_JSON,
    BANDS,
    DEVICE,
    FETCH,
    IGNORE_BUFFER,
    LAYER,
    MAX_SHIFT,
    METRES,
    NODATA,
    OVERWRITE,
    PATH,
    SEED,
    classes_option,
    out_option,
)
from geopipe.networks import DISPLAY_NAMES, InitialWeights

_CLASSES = "buildings-roads"


def _gsd(context: click.Context, option: click.Parameter, text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        metres = float(text)
    except ValueError as e:
        raise click.BadParameter("give metres, or auto") from e
    return METRES.convert(metres, option, context)


def _start(_: click.Context, __: click.Parameter, text: str | None) -> InitialWeights | Path:
    if text is None or text in get_args(InitialWeights):
        return text or "auto"  # type: ignore[return-value]
    return Path(text)


def _classes(start: InitialWeights | Path) -> str:
    """The scheme of the model to go on from, where it is one that ships with geopipe."""
    if not isinstance(start, Path):
        return _CLASSES
    from geopipe.checkpoint import Checkpoint
    from geopipe.checkpoint.starter import model_path
    from geopipe.classes import load_scheme, shipped_schemes

    own = Checkpoint.load(model_path(start)).scheme
    known = own.name in shipped_schemes() and load_scheme(own.name).names == own.names
    return own.name if known else _CLASSES


@click.command(cls=Command)
@click.argument("scene")
@click.argument("labels", type=PATH, required=False)
@out_option("The file of the model to write.", "MODEL")
@FETCH
@click.option("--tile", metavar="TILE", help="A small scene with accurate labels, for outlines.")
@click.option("--truth", type=PATH, metavar="TRUTH", help="The accurate labels of --tile.")
@click.option(
    "--also",
    type=(str, PATH),
    multiple=True,
    metavar="SCENE LABELS",
    help="Another scene to train on, with its labels; may be repeated.",
)
@click.option(
    "--from",
    "start",
    callback=_start,
    metavar="MODEL",
    help="Go on from this model: its base network and its weights; classes are matched by name. "
    "imagenet: weights of ImageNet  [default: the starter model where it suits a lite-unet]",
)
@classes_option(otherwise=f"those of --from, where geopipe has them by name, or {_CLASSES}")
@click.option(
    "--gsd",
    callback=_gsd,
    default="auto",
    show_default=True,
    metavar="METRES",
    help="Ground sample distance of the networks; auto: that of --from, or as suits the scene.",
)
@click.option(
    "--net",
    type=click.Choice(["auto", *DISPLAY_NAMES]),
    default="auto",
    show_default=True,
    help="The base network; auto: that of --from, or the best on real scenes.",
)
@click.option(
    "--refinement",
    type=click.Choice(["auto", "rnn", "finetune"]),
    default="auto",
    show_default=True,
    help="What --tile trains: a recurrent network, or the base network once more.",
)
@click.option(
    "--steps",
    type=click.IntRange(0),
    help="Training steps of the base network; 0 with --from keeps it as it is  "
    "[default: by network and schedule]",
)
@click.option(
    "--refinement-steps",
    type=click.IntRange(1),
    help="Training steps of the refinement  [default: by its kind and schedule]",
)
@click.option(
    "--schedule",
    type=click.Choice(["short", "paper"]),
    default="short",
    show_default=True,
    help="How cnn and rnn are trained: short, for a CPU, or as in the paper.",
)
@SEED
@click.option(
    "--align/--no-align",
    default=True,
    show_default=True,
    help="Move vector LABELS to where the image shows them, first.",
)
@MAX_SHIFT
@AREA
@LAYER
@ALL_ARE
@IGNORE_BUFFER
@BANDS
@NODATA
@DEVICE
@OVERWRITE
@AS_JSON
def train(
    scene: str,
    labels: Path | None,
    out: Path,
    fetch: bool,
    tile: str | None,
    truth: Path | None,
    also: tuple[tuple[str, Path], ...],
    start: InitialWeights | Path,
    classes: str | None,
    gsd: float | Literal["auto"],
    net: str,
    refinement: str,
    steps: int | None,
    refinement_steps: int | None,
    schedule: str,
    seed: int,
    align: bool,
    max_shift: float,
    area: Path | None,
    layer: str | None,
    all_are: str | None,
    ignore_buffer: float,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a segmentation model on a scene and its labels.

    LABELS are those of `geopipe labels` and may have errors. With a small TILE and its accurate
    labels TRUTH a second training sharpens the outlines. --bands and --nodata tell how SCENE and
    TILE are read; --layer, --area, --ignore-buffer and --align are for LABELS, --all-are for LABELS
    and TRUTH; all hold for --also too. The same command goes on with a training that stopped, from
    the folder MODEL.work.

    TRUTH may be a file of `geopipe ask` in which outlines were drawn, with SCENE as TILE; then
    LABELS may be left out with --steps 0.

    Example: geopipe train scene.tif osm.gpkg -o model.safetensors
    """
    if labels is None and truth and tile == scene and steps == 0:
        labels, align, fetch = truth, False, False  # the base network learns nothing from them
    elif (labels is None) != fetch:
        raise click.UsageError("Give LABELS, or --fetch without LABELS.")
    if (tile is None) != (truth is None):
        raise click.UsageError("Give --tile and --truth, its labels, together.")
    if refinement_steps and not tile:
        raise click.UsageError("--refinement-steps is for --tile.")
    from geopipe.files import check_new_file

    sources = [Path(p) for p in (scene, labels, tile, truth, *sum(also, ())) if p]
    sources += [start] if isinstance(start, Path) else []
    check_new_file(out, overwrite=overwrite, sources=sources)
    from geopipe.labels.source import is_raster
    from geopipe.workflow.schema import FETCH as BY_NAME
    from geopipe.workflow.schema import LabelledScene
    from geopipe.workflow.train import TrainingSettings, train_model

    noisy, *others = (
        LabelledScene(
            scene=image,
            labels=vectors,
            bands=bands,
            nodata=nodata,
            layer=layer,
            all_are=all_are,
            area=area,
            align=align,
            max_shift=max_shift,
            ignore_buffer=ignore_buffer,
        )
        for image, vectors in ((scene, labels or Path(BY_NAME)), *also)
    )
    accurate = None
    if tile and truth:
        accurate = LabelledScene(
            scene=tile,
            labels=truth,
            all_are=None if is_raster(truth) else all_are,
            bands=bands,
            nodata=nodata,
        )
    settings = TrainingSettings(
        classes or _classes(start),
        gsd,
        net,  # type: ignore[arg-type]  # click has checked it
        steps,
        refinement,  # type: ignore[arg-type]
        refinement_steps,
        schedule=schedule,  # type: ignore[arg-type]
        seed=seed,
        device=device,
        start=start,
    )
    model = train_model(noisy, out, settings, accurate=accurate, also=others, overwrite=overwrite)
    if as_json:
        names = list(model.scheme.names)
        click.echo(json.dumps({"model": str(out), "classes": names, "gsd": model.gsd}))
        return
    click.echo(f"model: {out}")
