"""geopipe transfer."""

import json
from pathlib import Path

import click

from geopipe.cli.options import AS_JSON, BANDS, NODATA, OVERWRITE, PATH
from geopipe.cli.patches import CACHE, DEVICE, LABELS, MASKS, SKIP_BAD, UNLABELLED


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="DIR|SCENE",
    help="What the model was trained on.",
)
@LABELS
@MASKS
@UNLABELLED
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    metavar="DIR|SCENE",
    help="Where the model is to go; no label of it is looked at.",
)
@click.option("--out", type=PATH, required=True, help="The new model.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="Least probability of a pseudo-label.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Source samples that are asked to confirm it.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    help="Least share of them that do.",
)
@click.option(
    "--entropy",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    help="Most entropy of their classes, of log(classes).",
)
@click.option(
    "--cap",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Most samples of a class.",
)
@click.option(
    "--mix",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of source patches in the training.",
)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True)
@click.option(
    "--most",
    type=click.IntRange(1),
    default=6000,
    show_default=True,
    help="Cells that are looked at on each side.",
)
@click.option("--force", is_flag=True, help="Train although little speaks for a gain.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@SKIP_BAD
@DEVICE
@CACHE
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def transfer(
    model: Path,
    sources: tuple[str, ...],
    labels: Path | None,
    masks: Path | None,
    unlabelled: int,
    targets: tuple[str, ...],
    out: Path,
    threshold: float,
    neighbours: int,
    agreement: float,
    entropy: float,
    cap: int,
    mix: float,
    rounds: int,
    steps: int,
    most: int,
    force: bool,
    seed: int,
    skip_bad: bool,
    device: str,
    cache: Path | None,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Carry MODEL, of `geopipe patches train`, to images without labels.

    --labels, --masks and --unlabelled are of the source, which is read as the training read it;
    --bands and --nodata are of the target.

    Target patches that it is sure of, and whose nearest source samples are of the same class, are
    learnt from. Beside OUT lie a contact sheet (.html), the evidence (.json) and, of scenes, the
    pseudo-labels (.tif). Where little speaks for a gain, OUT has the weights of MODEL.
    """
    from dataclasses import replace

    from geopipe.learn.patches.model import PatchSource
    from geopipe.learn.transfer import TransferPlan
    from geopipe.mapping import choose_device
    from geopipe.workflow import transfer as work

    options = work.TransferSettings(
        TransferPlan(threshold, neighbours, agreement, entropy, cap=cap, seed=seed),
        plan=replace(work.TUNING, steps=steps, seed=seed),
        rounds=rounds,
        mix=mix,
        max_patches=most,
        force=force,
        device=choose_device(device),
        cache=cache,
    )
    outcome = work.transfer(
        model,
        PatchSource(sources, labels, masks, unlabelled, skip_bad),
        PatchSource(targets, skip_bad=skip_bad, bands=bands, nodata=nodata),
        out,
        options,
        overwrite=overwrite,
    )
    last = outcome.rounds[-1]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "model": str(outcome.model),
                    "sheet": str(outcome.sheet),
                    "trained": outcome.trained,
                    "pseudo_labels": [str(p) for p in outcome.pseudo_labels],
                    "evidence": last.evidence.to_dict(),
                    "reasons": list(outcome.reasons),
                }
            )
        )
        return
    click.echo(f"{len(last.selected.selected)} of {len(last.selected.labels)} target cells kept")
    click.echo(f"estimated gain, points: {last.evidence.gain}")
    for reason in outcome.reasons:
        click.echo(f"abstains: {reason}")
    suffix = "" if outcome.trained else " (weights as they were; --force trains all the same)"
    click.echo(f"model:  {outcome.model}{suffix}")
    click.echo(f"sheet:  {outcome.sheet}")
    for path in outcome.pseudo_labels:
        click.echo(f"labels: {path}")
