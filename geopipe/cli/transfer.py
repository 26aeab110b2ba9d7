"""geopipe transfer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import (
    AS_JSON,
    BANDS,
    CACHE,
    DEVICE,
    LABELS,
    MASKS,
    NODATA,
    OVERWRITE,
    PATH,
    SEED,
    SKIP_BAD,
    UNLABELLED,
    out_option,
)

if TYPE_CHECKING:
    from geopipe.learn.ask import Decision
    from geopipe.workflow.ask_target import AskResult, LearnResult
    from geopipe.workflow.transfer import TransferResult

SHARE = click.FloatRange(0, 1)


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="DIR|SCENE",
    help="What the model was trained on; may be repeated.",
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
    help="Images of the new domain, whose labels are not read; may be repeated.",
)
@out_option("The file of the new model to write; with --ask, of the questions (.gpkg).", "FILE")
@click.option(
    "--ask",
    type=click.IntRange(1),
    metavar="N",
    help="Write N places of the target to look at, instead of a model.",
)
@click.option(
    "--answers",
    type=PATH,
    multiple=True,
    metavar="QUESTIONS.gpkg",
    help="Questions of --ask that are filled in; may be repeated.",
)
@click.option(
    "--adapted",
    type=PATH,
    metavar="MODEL",
    help="With --ask: an adapted model that there is already  [default: it is made]",
)
@click.option(
    "--threshold",
    type=SHARE,
    default=0.8,
    show_default=True,
    help="The least probability of a pseudo-label.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Number of nearest source samples that a pseudo-label is compared with.",
)
@click.option(
    "--agreement",
    type=SHARE,
    default=0.6,
    show_default=True,
    help="The least share of them that have its class.",
)
@click.option(
    "--entropy",
    type=SHARE,
    default=0.6,
    show_default=True,
    help="The largest entropy of their classes, as a share of log(number of classes).",
)
@click.option(
    "--cap",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="The largest number of pseudo-labels of a class.",
)
@click.option(
    "--mix",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of source patches in a training batch.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Rounds of pseudo-labels and training.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=150, show_default=True, help="Training steps."
)
@click.option(
    "--max-samples",
    type=click.IntRange(1),
    default=6000,
    show_default=True,
    help="The largest number of cells that are read of source and target.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "align", "pseudo-labels"]),
    default="auto",
    show_default=True,
    help="How: align the target's features to the source's, or learn from pseudo-labels; auto: "
    "align the frozen features of several networks, keep those of one.",
)
@click.option("--force", is_flag=True, help="Train even where the evidence for a gain is weak.")
@SEED
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
    ask: int | None,
    answers: tuple[Path, ...],
    adapted: Path | None,
    threshold: float,
    neighbours: int,
    agreement: float,
    entropy: float,
    cap: int,
    mix: float,
    rounds: int,
    steps: int,
    max_samples: int,
    method: Literal["auto", "align", "pseudo-labels"],
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
    """Adapt a patch classifier to images without labels.

    MODEL is one of `geopipe patches train`. If its backbone is several frozen networks, the
    target's features are aligned to the source's (--method align): a quarter of the way, every
    predicted class with equal weight. A model of one frozen network is kept as it is. Any other is
    trained on target patches whose class it is sure of and whose nearest source samples have that
    class (pseudo-labels, unsupervised domain adaptation). Beside the new model lie a contact sheet
    (.html), the evidence (.json) and, of scenes, the pseudo-labels (.tif). Where the evidence for a
    gain is weak, the new model has the weights of MODEL.

    --ask 40 -o questions.gpkg asks about places of the target instead, where MODEL and the adapted
    model disagree: fill in their field `truth` in QGIS. --answers questions.gpkg -o new.safetensors
    then keeps the better of the two models and learns from the answers; with --ask as well, it asks
    about further places.

    --labels, --masks and --unlabelled tell about the source, which is read as in the training;
    --bands and --nodata tell about the target.

    Example: geopipe transfer old.safetensors --source chips/ --target new.tif -o new.safetensors
    """
    if adapted and not (ask or answers):
        raise click.UsageError("--adapted is for --ask and --answers.")
    from dataclasses import replace

    from geopipe.learn.patches.model import PatchSource
    from geopipe.learn.transfer import TransferPlan
    from geopipe.learn.transfer.rounds import TUNING, TransferSettings
    from geopipe.mapping import choose_device
    from geopipe.workflow import transfer as work

    options = TransferSettings(
        TransferPlan(threshold, neighbours, agreement, entropy, cap=cap, seed=seed),
        plan=replace(TUNING, steps=steps, seed=seed),
        rounds=rounds,
        mix=mix,
        max_samples=max_samples,
        method=method,
        force=force,
        device=choose_device(device),
        cache=cache,
    )
    source = PatchSource(sources, labels, masks, unlabelled, skip_bad)
    target = PatchSource(targets, skip_bad=skip_bad, bands=bands, nodata=nodata)
    if ask:
        from geopipe.workflow.ask_target import ask_target

        _tell_asked(
            ask_target(
                model,
                source,
                target,
                out,
                options,
                ask,
                adapted=adapted,
                answers=answers,
                overwrite=overwrite,
            ),
            as_json=as_json,
        )
        return
    if answers:
        from geopipe.workflow.ask_target import learn_answers

        learnt = learn_answers(
            model, source, target, out, options, answers, adapted=adapted, overwrite=overwrite
        )
        _tell_learnt(learnt, as_json=as_json)
        return
    outcome = work.transfer(model, source, target, out, options, overwrite=overwrite)
    _print_transferred(outcome, as_json=as_json)


def _print_transferred(outcome: "TransferResult", *, as_json: bool) -> None:
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
    click.echo(f"estimated gain, points: {last.evidence.gain.as_range}")
    for reason in outcome.reasons:
        click.echo(f"abstains: {reason}")
    suffix = "" if outcome.trained else " (weights as they were; --force trains all the same)"
    click.echo(f"model:  {outcome.model}{suffix}")
    click.echo(f"sheet:  {outcome.sheet}")
    for path in outcome.pseudo_labels:
        click.echo(f"labels: {path}")


def _tell_asked(result: "AskResult", *, as_json: bool) -> None:
    questions = result.questions
    if as_json:
        paths = {"adapted": result.adapted, "sheet": result.sheet}
        click.echo(
            json.dumps(
                {
                    "out": str(result.path),
                    "questions": len(questions.positions),
                    "role": questions.role,
                    "cells": questions.cells,
                    "disagreements": questions.disagreements,
                    "decision": _decision(result.decision),
                    **{key: path and str(path) for key, path in paths.items()},
                }
            )
        )
        return
    click.echo(
        f"the models disagree on {questions.disagreements} of {questions.cells} target cells"
    )
    if result.decision and (result.decision.used or questions.role == "learn"):
        click.echo(result.decision.sentence())
    elif result.decision:
        click.echo(f"about {result.decision.more} answers are expected to decide which is better")
    purpose = {
        "decide": "where the models disagree, to decide which one is better",
        "learn": "to learn from, ranked by the expected gain",
    }[questions.role]
    click.echo(f"{len(questions.positions)} places {purpose}")
    click.echo(result.path)
    if result.sheet:
        click.echo(f"images: {result.sheet}")
    if result.adapted:
        click.echo(f"adapted model: {result.adapted}")


def _tell_learnt(learnt: "LearnResult", *, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "model": str(learnt.model),
                    "answers": learnt.answers,
                    "by_class": learnt.by_class,
                    "decision": _decision(learnt.decision),
                }
            )
        )
        return
    if learnt.decision:
        click.echo(learnt.decision.sentence())
    counts = ", ".join(f"{n} {name}" for name, n in learnt.by_class.items() if n)
    click.echo(f"learnt from {learnt.answers} answers: {counts}")
    click.echo(f"model:  {learnt.model}")


def _decision(decision: "Decision | None") -> dict[str, object] | None:
    return decision.to_dict() if decision else None
