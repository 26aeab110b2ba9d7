"""geopipe patches: models that classify patches."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Group
from geopipe.cli.options import (
    AS_JSON,
    BANDS,
    CACHE,
    DEVICE,
    LABELS,
    MASKS,
    METRES,
    NODATA,
    OVERWRITE,
    SEED,
    SKIP_BAD,
    UNLABELLED,
    classes_option,
    out_option,
)


@click.group(cls=Group)
def patches() -> None:
    """Train models that classify patches, as for land cover.

    Example: geopipe patches train chips/ --gsd 4 -o landcover.safetensors
    """


@patches.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@out_option("The file of the model to write.", "MODEL")
@click.option(
    "--gsd",
    type=METRES,
    required=True,
    metavar="METRES",
    help="Ground sample distance of the network; chips are taken to have it.",
)
@classes_option(otherwise="the names of the folders")
@LABELS
@MASKS
@UNLABELLED
@click.option(
    "--backbone",
    default="efficientnet_lite0",
    show_default=True,
    help="The backbone: efficientnet_lite0, dinov2_vits14, resnet50..., or two joined by + "
    "(docs/backbones.md)",
)
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    help="A file of the backbone's weights; auto: its package or hub. Joined backbones take one "
    "each, joined by +.",
)
@click.option(
    "--sizes",
    default="56,112,224",
    show_default=True,
    metavar="N,N,N",
    help="Pixels a side of the patches around a cell.",
)
@click.option(
    "--size-weights",
    metavar="X,X,X",
    help="Weights of their probabilities  [default: all the same]",
)
@click.option(
    "--cell",
    type=click.IntRange(4),
    metavar="PX",
    help="Pixels a side of a cell of the map  [default: the smallest patch]",
)
@click.option(
    "--side",
    type=click.IntRange(32, 4096),
    default=128,
    show_default=True,
    metavar="PX",
    help="Pixels a side that each patch is resized to.",
)
@click.option("--no-segments", is_flag=True, help="Map whole cells, not segments of the image.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Training steps.",
)
@click.option(
    "--lr", type=float, default=1e-3, show_default=True, help="Learning rate of the last layer."
)
@click.option(
    "--backbone-lr",
    type=float,
    help="Learning rate of the pretrained part; 0 freezes it, and the last layer is fitted by "
    "logistic regression  [default: 0.0002; 0 for dinov2_vits14 and concatenations]",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0.05, 0.9),
    default=0.2,
    show_default=True,
    help="Share of the images that the model is tested on.",
)
@SEED
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
    backbone_lr: float | None,
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
    """Train a patch classifier on chips or on a labelled scene.

    SOURCE is a folder of chips with a folder per class, a folder of chips with --masks, or a scene
    with --labels. `geopipe map SCENE MODEL -o FOLDER` maps with the model.

    Example: geopipe patches train chips/ --gsd 4 -o landcover.safetensors
    """
    from geopipe.classes import load_scheme
    from geopipe.learn.patches import PatchPlan
    from geopipe.learn.patches import model as work
    from geopipe.mapping import choose_device
    from geopipe.nets.backbones import backbone as named_backbone

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
    if backbone_lr is None:
        backbone_lr = 0.0 if named_backbone(backbone).frozen else PatchPlan.backbone_lr
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
        raise click.UsageError(f"{text}: give numbers, e.g. 56,112,224.") from e
