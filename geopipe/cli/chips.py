"""geopipe chips: what whole chips show."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.options import AS_JSON, BANDS, NODATA, OVERWRITE, PATH
from geopipe.cli.patches import CACHE, DEVICE, SKIP_BAD

if TYPE_CHECKING:
    from geopipe.learn.chips.model import ChipTraining

OUT = click.option("--out", type=PATH, required=True, help="What is made.")
_LEARNING = (
    click.option(
        "--model",
        default="finetune:efficientnet_lite0",
        show_default=True,
        help="finetune:NET, fusion:A+B (features: googlenet.im+alexnet.c5) or ddrl-am",
    ),
    click.option(
        "--weights",
        multiple=True,
        default=("auto",),
        show_default=True,
        help="Of the nets: a file, or auto for package or hub; NET=FILE for one of two.",
    ),
    click.option(
        "--frozen",
        is_flag=True,
        help="Leave the nets as they are: logistic regression on their features, without "
        "epochs, rates and turned chips.",
    ),
    click.option("--epochs", type=click.IntRange(1), default=10, show_default=True),
    click.option("--batch", type=click.IntRange(1), default=32, show_default=True),
    click.option("--lr", type=float, default=1e-3, show_default=True, help="Of new layers."),
    click.option(
        "--pretrained-lr",
        type=float,
        default=1e-4,
        show_default=True,
        help="Of the pretrained parts; 0 freezes them.",
    ),
    click.option(
        "--center-loss",
        type=click.FloatRange(0),
        help="Weight of the center loss  [default: 0.5 for ddrl-am, else 0]",
    ),
    click.option(
        "--attention",
        type=click.Choice(["predicted", "true"]),
        default="predicted",
        show_default=True,
        help="Whose attention map; true: to show what it flatters.",
    ),
    click.option("--flat", is_flag=True, help="ddrl-am: classify all values, not their means."),
    click.option("--no-augment", is_flag=True, help="Show chips as they are, not turned."),
    click.option(
        "--side",
        type=click.IntRange(64),
        default=224,
        show_default=True,
        help="Pixels that each chip is resized to.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    SKIP_BAD,
    DEVICE,
    CACHE,
    OVERWRITE,
    AS_JSON,
)


def _learning(command: Any) -> Any:
    """The options of how a model learns."""
    for option in reversed(_LEARNING):
        command = option(command)
    return command


@click.group()
def scenes() -> None:
    """Scene classification: what whole chips show, and the chips of a scene."""


@scenes.command()
@click.argument("folder", metavar="DIR", type=PATH)
@OUT
@click.option(
    "--chip",
    type=click.IntRange(2),
    help="Pixels of a chip of a scene  [default: the median side of DIR's]",
)
@click.option("--step", type=click.IntRange(1), help="Pixels to the next chip  [default: a chip]")
@click.option(
    "--gsd",
    type=click.FloatRange(0, min_open=True),
    metavar="METRES",
    help="Of a pixel of the chips  [default: by their place, if any]",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    show_default=True,
    help="Share of each class that the model is judged by.",
)
@_learning
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
    """Train a scene classifier on the chips in DIR, a folder for each class."""
    from geopipe.learn.chips import model as work

    training = _training(options, chip=chip, step=step, gsd=gsd)
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


@scenes.command()
@click.argument("model", type=PATH)
@click.argument("source", metavar="DIR|SCENE")
@OUT
@click.option("--step", type=click.IntRange(1), help="Of a scene: pixels to the next chip.")
@click.option(
    "--gsd",
    type=click.FloatRange(0, min_open=True),
    metavar="METRES",
    help="Of a scene: metres per pixel of the training chips  [default: what the model knows]",
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
    """Classify the chips in DIR into a table, or those of a grid over SCENE into a map.

    OUT, a folder: chips.csv and chips.parquet; of a scene the map and chips.gpkg, its chips.
    """
    from geopipe.mapping import Engine, choose_device
    from geopipe.raster import Scene
    from geopipe.workflow import classify_chips as work
    from geopipe.workflow.bundle import MapOptions

    if Path(source).is_dir():
        if step or gsd or bands or nodata is not None:
            raise click.UsageError("--step, --gsd, --bands and --nodata are for a scene")
        chips = work.classify_chips(
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
        _, chips = work.classify_scene(
            model, Scene.open(source, bands, nodata), out, options, gsd=gsd, step=step
        )
        outputs = {"map": str(out / "classes.tif"), "chips": str(out / work.FOOTPRINTS)}
    counts = chips["class"].value_counts().to_dict()
    if as_json:
        click.echo(json.dumps({**outputs, "classes": counts}))
        return
    for name, count in counts.items():
        click.echo(f"{name:24s} {count:8d} chips")
    for what, path in outputs.items():
        click.echo(f"{what}: {path}")


@scenes.command()
@click.argument("folder", metavar="DIR", type=PATH)
@OUT
@click.option("--folds", type=click.IntRange(2), help="Cross-validation  [default: 5]")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Random splits instead, which learn from this share of each class.",
)
@click.option("--repeats", type=click.IntRange(1), help="Random splits  [default: 5]")
@click.option(
    "--tsne/--no-tsne",
    default=True,
    show_default=True,
    help="Draw features; with a center loss one without is trained too.",
)
@_learning
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
    """Judge a kind of model on the chips in DIR that it did not learn from.

    OUT, a folder: evaluation.json and .md, predictions.csv, figures.
    """
    from geopipe.learn.chips import cross_validation as work

    if folds and share:
        raise click.UsageError("--folds or --share, not both")
    if repeats and not share:
        raise click.UsageError("--repeats is for --share")
    protocol = work.Protocol(
        0 if share else folds or 5, share or 0.8, repeats or 5, options["seed"], tsne
    )
    evaluation = work.evaluate_chips(folder, _training(options), protocol, out, overwrite=overwrite)
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


@scenes.command()
@click.argument("model", type=PATH)
@click.argument("chips", metavar="CHIP...", nargs=-1, required=True, type=PATH)
@OUT
@click.option("--class", "class_name", help="Whose map  [default: that of the predicted class]")
@SKIP_BAD
@DEVICE
@OVERWRITE
@AS_JSON
def heat(
    model: Path,
    chips: tuple[Path, ...],
    out: Path,
    class_name: str | None,
    skip_bad: bool,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show where in each CHIP (files or folders) the model sees the class: Grad-CAM.

    OUT, a folder: a PNG over each chip, a GeoTIFF where the chip has a place, and heat.csv.
    """
    from geopipe.learn.chips.attention_maps import attention_maps
    from geopipe.mapping import choose_device

    written = attention_maps(
        model,
        chips,
        out,
        class_name=class_name,
        device=choose_device(device),
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    for attention in written:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "chip": attention.chip,
                        "class": attention.class_name,
                        "probability": attention.probability,
                        "picture": str(attention.overlay),
                        "raster": attention.raster and str(attention.raster),
                    }
                )
            )
        else:
            click.echo(
                f"{attention.class_name:24s} {attention.probability:6.3f}  {attention.overlay}"
            )


def _training(options: dict[str, Any], **design: Any) -> "ChipTraining":
    """What the options of `_learning` say."""
    from geopipe.learn.chips import ChipTrainingPlan
    from geopipe.learn.chips.model import ChipModelSpec, ChipTraining
    from geopipe.mapping import choose_device

    model_spec = ChipModelSpec(
        options["model"], tuple(options["weights"]), options["side"], flat=options["flat"], **design
    )
    center = options["center_loss"]
    if center is None:
        center = 0.5 if model_spec.model_spec.kind == "ddrl-am" else 0.0
    plan = ChipTrainingPlan(
        options["epochs"],
        options["batch"],
        options["lr"],
        options["pretrained_lr"],
        augment=not options["no_augment"],
        center=center,
        attention=options["attention"],
        seed=options["seed"],
    )
    return ChipTraining(
        model_spec,
        plan,
        options["frozen"],
        options["skip_bad"],
        choose_device(options["device"]),
        options["cache"],
    )
