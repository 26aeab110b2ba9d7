"""geopipe chips: scene classification, one class for each chip."""

import json
from pathlib import Path
from typing import Any

import click

from geopipe.cli.chip_options import chip_training, learning_options
from geopipe.cli.commands import Group
from geopipe.cli.options import (
    AS_JSON,
    BANDS,
    DEVICE,
    METRES,
    NODATA,
    OVERWRITE,
    PATH,
    SKIP_BAD,
    out_option,
)


@click.group(cls=Group)
def chips() -> None:
    """Classify whole chips (scene classification).

    Example: geopipe chips train chips/ -o scenes.safetensors
    """


@chips.command()
@click.argument("folder", metavar="DIR", type=PATH)
@out_option("The file of the model to write.", "MODEL")
@click.option(
    "--chip",
    type=click.IntRange(2),
    metavar="PX",
    help="Pixels a side of a chip of a scene  [default: the median side of the chips]",
)
@click.option(
    "--step",
    type=click.IntRange(1),
    metavar="PX",
    help="Pixels between chips of a scene  [default: the side of a chip]",
)
@click.option(
    "--gsd",
    type=METRES,
    metavar="METRES",
    help="Ground sample distance of the chips  [default: as they are georeferenced, if they are]",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    show_default=True,
    help="Share of each class that the model is tested on.",
)
@learning_options
def train(
    folder: Path,
    out: Path,
    chip: int | None,
    step: int | None,
    gsd: float | None,
    hold_out: float,
    as_json: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a classifier on chips, a folder for each class.

    DIR holds a folder of images for each class; the names of the folders are the classes.

    Example: geopipe chips train chips/ -o scenes.safetensors --hold-out 0.2
    """
    from geopipe.learn.chips import model as work

    training = chip_training(options, chip=chip, step=step, gsd=gsd)
    model, evaluation = work.train_chip_model(
        folder, training, out, hold_out=hold_out, overwrite=overwrite
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "model": str(out),
                    "classes": list(model.scheme.names),
                    "held_out": evaluation and evaluation.to_dict(),
                }
            )
        )
        return
    if evaluation:
        accuracy = f"overall accuracy {100 * evaluation.overall_accuracy:.1f} %"
        click.echo(f"held out: {evaluation.pixels} chips, {accuracy}, kappa {evaluation.kappa:.3f}")
    click.echo(f"model: {out} ({len(model.scheme)} classes)")


@chips.command()
@click.argument("model", type=PATH)
@click.argument("source", metavar="DIR|SCENE")
@out_option("The folder of the table or map.", "FOLDER")
@click.option(
    "--step",
    type=click.IntRange(1),
    metavar="PX",
    help="Of a scene: pixels between chips  [default: as in the training]",
)
@click.option(
    "--gsd",
    type=METRES,
    metavar="METRES",
    help="Of a scene: ground sample distance of the training chips  [default: the model's]",
)
@SKIP_BAD
@DEVICE
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def classify(
    model: Path,
    source: str,
    out: Path,
    step: int | None,
    gsd: float | None,
    skip_bad: bool,
    device: str,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Classify a folder of chips, or a scene chip by chip.

    FOLDER gets a table of the chips in DIR, chips.csv and chips.parquet, or a map of SCENE with the
    outlines of its chips, chips.gpkg.

    Example: geopipe chips classify scenes.safetensors scene.tif -o map
    """
    from geopipe.mapping import Engine, choose_device
    from geopipe.raster import Scene
    from geopipe.workflow import classify_chips as work
    from geopipe.workflow.bundle import MapOptions

    if Path(source).is_dir():
        if step or gsd or bands or nodata is not None:
            raise click.UsageError("--step, --gsd, --bands and --nodata are for a scene.")
        table = work.classify_chips(
            model,
            Path(source),
            out,
            skip_bad=skip_bad,
            device=choose_device(device),
            overwrite=overwrite,
        )
        outputs = {"table": str(out / work.CSV), "geoparquet": str(out / work.PARQUET)}
    else:
        options = MapOptions(Engine(device, skip_bad=skip_bad), overwrite=overwrite)
        _, table = work.classify_scene(
            model, Scene.open(source, bands, nodata), out, options, gsd=gsd, step=step
        )
        outputs = {"map": str(out / "classes.tif"), "chips": str(out / work.FOOTPRINTS)}
    counts = table["class"].value_counts().to_dict()
    if as_json:
        click.echo(json.dumps({**outputs, "classes": counts}))
        return
    for name, count in counts.items():
        click.echo(f"{name:24s} {count:8d} chips")
    for what, path in outputs.items():
        click.echo(f"{what}: {path}")


@chips.command()
@click.argument("folder", metavar="DIR", type=PATH)
@out_option("The folder of the evaluation.", "FOLDER")
@click.option("--folds", type=click.IntRange(2), help="Folds of the cross-validation  [default: 5]")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Random splits instead, with this share of each class for training.",
)
@click.option(
    "--repeats", type=click.IntRange(1), help="With --share: number of splits  [default: 5]"
)
@click.option(
    "--tsne/--no-tsne",
    default=True,
    show_default=True,
    help="Draw the features by t-SNE; with a center loss a model without it is trained too.",
)
@learning_options
def evaluate(
    folder: Path,
    out: Path,
    folds: int | None,
    share: float | None,
    repeats: int | None,
    tsne: bool,
    as_json: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Cross-validate a kind of model on labelled chips.

    DIR holds a folder of images for each class. FOLDER gets evaluation.json and .md,
    predictions.csv and figures.

    Example: geopipe chips evaluate chips/ -o evaluation --folds 5
    """
    from geopipe.learn.chips import cross_validation as work

    if folds and share:
        raise click.UsageError("Give --folds or --share, not both.")
    if repeats and not share:
        raise click.UsageError("--repeats is for --share.")
    protocol = work.Protocol(
        0 if share else folds or 5, share or 0.8, repeats or 5, options["seed"], tsne
    )
    evaluation = work.evaluate_chips(
        folder, chip_training(options), protocol, out, overwrite=overwrite
    )
    (mean, deviation), (kappa, _) = (
        evaluation.mean_std("overall_accuracy"),
        evaluation.mean_std("kappa"),
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(out),
                    "overall_accuracy": mean,
                    "deviation": deviation,
                    "kappa": kappa,
                    "folds": [m.overall_accuracy for m in evaluation.folds],
                }
            )
        )
        return
    accuracy_text = f"{100 * mean:.2f} ± {100 * deviation:.2f} %"
    click.echo(
        f"overall accuracy {accuracy_text} over {len(evaluation.folds)} splits, kappa {kappa:.3f}"
    )
    click.echo(f"report: {out / 'evaluation.md'}")


@chips.command()
@click.argument("model", type=PATH)
@click.argument("images", metavar="CHIP...", nargs=-1, required=True, type=PATH)
@out_option("The folder of the attention maps.", "FOLDER")
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Show this class  [default: the predicted class of each chip]",
)
@SKIP_BAD
@DEVICE
@OVERWRITE
@AS_JSON
def attention(
    model: Path,
    images: tuple[Path, ...],
    out: Path,
    class_name: str | None,
    skip_bad: bool,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw where in a chip the model sees its class (Grad-CAM).

    CHIP is an image or a folder of images. FOLDER gets a PNG of each chip, a GeoTIFF where the chip
    is georeferenced, and attention.csv.

    Example: geopipe chips attention scenes.safetensors chips/airport -o attention
    """
    from geopipe.learn.chips.attention_maps import attention_maps
    from geopipe.mapping import choose_device

    made = attention_maps(
        model,
        images,
        out,
        class_name=class_name,
        device=choose_device(device),
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    for one in made:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "chip": one.chip,
                        "class": one.class_name,
                        "probability": one.probability,
                        "picture": str(one.overlay),
                        "raster": one.raster and str(one.raster),
                    }
                )
            )
        else:
            click.echo(f"{one.class_name:24s} {one.probability:6.3f}  {one.overlay}")
