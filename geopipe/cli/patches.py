"""geopipe patches: models that map by patches."""

import json
from pathlib import Path

import click

from geopipe.cli.options import AS_JSON, BANDS, NODATA, OVERWRITE, PATH

SKIP_BAD = click.option("--skip-bad", is_flag=True, help="Leave out chips that cannot be read.")
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N")
CACHE = click.option("--cache", type=PATH, help="A folder in which features are kept.")
LABELS = click.option(
    "--labels", type=PATH, help="Of the only labelled scene: vectors or a class raster."
)
MASKS = click.option(
    "--masks", type=PATH, help="A folder with an image of ids for each labelled chip."
)
UNLABELLED = click.option(
    "--unlabelled",
    type=click.IntRange(0, 255),
    default=255,
    show_default=True,
    help="Id of pixels without a class in the masks.",
)
SCHEME = "A class scheme: land-cover, a TOML file  [default: the names of the folders]"


@click.group()
def patches() -> None:
    """Models that map by patches: land cover, from chips or labelled scenes."""


@patches.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("out", type=PATH)
@click.option(
    "--gsd",
    type=click.FloatRange(0, min_open=True),
    required=True,
    metavar="METRES",
    help="Of a pixel that the net sees; chips are taken to have it.",
)
@click.option("--classes", help=SCHEME)
@LABELS
@MASKS
@UNLABELLED
@click.option(
    "--backbone",
    default="efficientnet_lite0",
    show_default=True,
    help="efficientnet_lite0, resnet50, vgg16... (docs/backbones.md)",
)
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    help="A file of the backbone's weights; auto: its package or hub.",
)
@click.option(
    "--sizes",
    default="56,112,224",
    show_default=True,
    metavar="N,N,N",
    help="Patches around a cell, px.",
)
@click.option("--size-weights", metavar="X,X,X", help="Of their probabilities  [default: alike]")
@click.option("--cell", type=click.IntRange(4), help="Pixels a side  [default: smallest patch]")
@click.option(
    "--side",
    type=click.IntRange(32),
    default=128,
    show_default=True,
    help="Pixels that each patch is resized to.",
)
@click.option("--no-segments", is_flag=True, help="Map whole cells, not segments of the image.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True)
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Of the last layer.")
@click.option(
    "--backbone-lr",
    type=float,
    default=2e-4,
    show_default=True,
    help="Of the pretrained part; 0 freezes it.",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0.05, 0.9),
    default=0.2,
    show_default=True,
    help="Share of the images that the model is judged by.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@SKIP_BAD
@DEVICE
@CACHE
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def train(
    sources: tuple[str, ...],
    out: Path,
    gsd: float,
    classes: str | None,
    labels: Path | None,
    masks: Path | None,
    unlabelled: int,
    backbone: str,
    weights: str,
    sizes: str,
    size_weights: str | None,
    cell: int | None,
    side: int,
    no_segments: bool,
    steps: int,
    lr: float,
    backbone_lr: float,
    hold_out: float,
    seed: int,
    skip_bad: bool,
    device: str,
    cache: Path | None,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Train the model OUT on SOURCE: folders of chips, a folder per class, or a labelled scene.

    `geopipe map SCENE OUT FOLDER` maps with it.
    """
    from geopipe.classes import load_scheme
    from geopipe.learn.patches import PatchPlan
    from geopipe.learn.patches import model as work
    from geopipe.mapping import choose_device

    patch_sizes = tuple(int(n) for n in numbers(sizes, int))
    design = work.PatchModelSpec(
        backbone,
        weights,
        patch_sizes,
        cell or min(patch_sizes),
        side,
        gsd,
        numbers(size_weights, float) if size_weights else None,
        not no_segments,
    )
    plan = PatchPlan(steps, lr=lr, backbone_lr=backbone_lr, seed=seed)
    training = work.PatchTraining(design, plan, hold_out, choose_device(device), cache)
    source = work.PatchSource(sources, labels, masks, unlabelled, skip_bad, bands, nodata)
    scheme = load_scheme(classes) if classes else source.scheme()
    evaluation = work.train_patch_model(source, scheme, training, out, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({"model": str(out), "held_out": evaluation.to_dict()}))
        return
    click.echo(f"held out: {evaluation.summed.pixels} cells")
    for name, m in (
        *((f"patches of {n} px", m) for n, m in evaluation.sizes.items()),
        ("all sizes", evaluation.summed),
    ):
        accuracy = f"overall accuracy {100 * m.overall_accuracy:.1f} %"
        click.echo(f"{name:18s} {accuracy}, kappa {m.kappa:.3f}")
    click.echo(f"model: {out}")


def numbers(text: str, kind: type[int] | type[float]) -> tuple[float, ...]:
    """``56,112`` as numbers; UsageError otherwise."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as e:
        raise click.UsageError(f"{text}: give numbers, e.g. 56,112,224") from e
