"""Ask an analyst about places of a target, decide between two models, and learn from the answers.

The questions lie in a GeoPackage that is filled in with QGIS; see `geopipe.learn.ask`.
"""

import json
import logging
import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from geopipe import __version__
from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.stac_item import write_model_item
from geopipe.errors import CheckpointError, LabelError, OutputError
from geopipe.files import atomic_file, atomic_files, check_new_file
from geopipe.learn.ask import (
    Choice,
    Decision,
    Head,
    Questions,
    decide,
    draw_disagreements,
    keep_answers,
    rank_by_gain,
    refit,
    write_questions,
)
from geopipe.learn.ask.answers import Answers, gathered
from geopipe.learn.ask.question_sheet import lay_out
from geopipe.learn.ask.questions import Role
from geopipe.learn.patches import Embeddings, PatchGrid, embed, patch_net
from geopipe.learn.patches.model import PatchSource, source_digest
from geopipe.learn.transfer.cells import TransferCells, transfer_cells
from geopipe.learn.transfer.rounds import TransferSettings
from geopipe.nets import SegmentationModel
from geopipe.raster.geopackage import GEOPACKAGE_ERRORS, check_target
from geopipe.workflow.transfer import transfer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskResult:
    """The questions that were written."""

    path: Path
    questions: Questions
    adapted: Path | None
    """The adapted model, if there is one."""
    decision: Decision | None
    """By the answers that were there before."""
    sheet: Path | None
    """The raster with an image chip of each question, of chips."""


@dataclass(frozen=True)
class LearnResult:
    """What the answers made."""

    model: Path
    decision: Decision | None
    """None where there was no adapted model to decide about."""
    answers: int
    by_class: dict[str, int]


@dataclass(frozen=True, eq=False)
class _Target:
    """The target as a model that is transferred sees it."""

    path: Path
    model: Checkpoint
    cells: TransferCells
    settings: TransferSettings

    @classmethod
    def open(
        cls, path: Path, source: PatchSource, target: PatchSource, settings: TransferSettings
    ) -> "_Target":
        model = Checkpoint.load(path)
        cells = transfer_cells(model, source, target, settings.max_samples, settings.selection.seed)
        return cls(path, model, cells, settings)

    @property
    def digest(self) -> str:
        return source_digest(self.cells.target)

    def seen(self, model: Checkpoint, path: Path, patches: PatchGrid) -> Embeddings:
        """What a model sees in cells, in the memory of `settings.cache`."""
        model.net.to(self.settings.device)
        cache, device = self.settings.cache, self.settings.device
        return embed(model, file_hash(path), patches, cache=cache, device=device)


@dataclass(frozen=True, eq=False)
class _Pair:
    """What two models say of the target; without an adapted one they agree."""

    old: Embeddings
    adapted: Embeddings | None
    usable: np.ndarray
    """(n,) int64: target cells with an image"""
    classes: np.ndarray
    """(n,) class ids by the old model"""
    others: np.ndarray
    """(n,) class ids by the adapted model"""

    @classmethod
    def of(cls, view: _Target, adapted: Path | None) -> "_Pair":
        old = view.seen(view.model, view.path, view.cells.target)
        usable = np.flatnonzero(old.valid)
        classes = _classes(view.model, old)[usable]
        if adapted is None:
            return cls(old, None, usable, classes, classes)
        model = _other_model(adapted, view.model)
        new = view.seen(model, adapted, view.cells.target)
        return cls(old, new, usable, classes, _classes(model, new)[usable])

    @property
    def disagreements(self) -> int:
        return int((self.classes != self.others).sum())

    def features(self, of_adapted: bool) -> np.ndarray:
        """(n, d) float32, by the old or the adapted model."""
        seen = self.adapted if of_adapted and self.adapted else self.old
        return np.asarray(seen.features[self.usable])


def ask_target(
    model_path: Path,
    source: PatchSource,
    target: PatchSource,
    out: Path,
    settings: TransferSettings,
    count: int,
    *,
    adapted: Path | None = None,
    answers: Sequence[Path] = (),
    overwrite: bool = False,
) -> AskResult:
    """Write `count` places of the target to fill in to the GeoPackage `out`.

    First, and until the answers decide, they are places where the old and the adapted model
    disagree, drawn at random and spread over classes and space. Then they are those with the
    largest expected gain for the model that was kept.

    Args:
        model_path: The model that is transferred.
        source: What it was trained on.
        target: Images of the new domain.
        out: The questions; of chips a raster of their images lies beside, of the same name.
        settings: How the adapted model is made, where it is not given; and its cells and cache.
        count: Places to ask about.
        adapted: An adapted model; by default it is made, and lies beside `out`.
        answers: Files of questions that were asked and answered before, all of them.
        overwrite: Replace `out`.

    Raises:
        LabelError: Answers do not serve, or no place is left to ask about.
        CheckpointError: Questions are of other models.
    """
    check_target(out, overwrite=overwrite, sources=[model_path, *answers])
    if any(Path(p).is_dir() for p in target.paths):
        check_new_file(out.with_suffix(".tif"), overwrite=overwrite)
    keep_answers(out)
    view = _Target.open(model_path, source, target, settings)
    given = gathered(answers, model_path, view.digest, view.cells.target)
    adapted = given.adapted(adapted) if given.files else adapted
    if adapted is None and not given.files:
        adapted = _adapted_model(model_path, source, target, out, settings, overwrite=overwrite)
    pair = _Pair.of(view, adapted)
    decision = _decision(given, view, adapted, len(pair.usable), pair.disagreements)
    before = np.flatnonzero(np.isin(pair.usable, given.places))
    positions, seed = view.cells.target.positions[pair.usable], settings.selection.seed
    role: Role = "decide"
    places = np.empty(0, np.int64)
    if decision and decision.choice is Choice.UNDECIDED:
        places = draw_disagreements(pair.classes, pair.others, positions, count, seed, before)
    if not len(places):
        role, kept = "learn", _kept(decision, model_path, adapted)
        features = pair.features(kept == adapted)
        head = _head(_refitted(view, kept, given))
        places, _ = rank_by_gain(features, head.probabilities(features), count, seed, before)
    questions = Questions(
        role,
        file_hash(model_path),
        file_hash(adapted) if adapted else None,
        _relative(adapted, out) if adapted else None,
        view.digest,
        tuple((c.name, c.color) for c in view.model.scheme.classes),
        len(pair.usable),
        pair.disagreements,
        given.question_count,
        seed,
        f"geopipe {__version__}",
        tuple((int(i), int(r), int(c)) for i, r, c in positions[places]),
        tuple(pair.old.digests[pair.usable[places]].tolist()),
    )
    sheet = _write(out, questions, view, pair.usable[places])
    return AskResult(out, questions, adapted, decision, sheet)


def learn_answers(
    model_path: Path,
    source: PatchSource,
    target: PatchSource,
    out: Path,
    settings: TransferSettings,
    answers: Sequence[Path],
    *,
    adapted: Path | None = None,
    overwrite: bool = False,
) -> LearnResult:
    """Keep the better of two models by the answers, fit its last layer to them, and save it.

    Beside `out` lie, of the same name and ``.json``, the decision and what was learnt from. While
    the answers do not decide, the old model is kept. Raises as `ask_target`.
    """
    check_new_file(out, overwrite=overwrite, sources=[model_path, *answers])
    view = _Target.open(model_path, source, target, settings)
    given = gathered(answers, model_path, view.digest, view.cells.target)
    if not given.ids.size:
        raise LabelError(
            f"no question of {', '.join(str(p) for p in answers)} is answered",
            "choose the class of some places in QGIS, and save the layer",
        )
    if adapted := given.adapted(adapted):
        check_new_file(out, overwrite=overwrite, sources=[adapted])
    first = given.files[0].questions
    decision = _decision(given, view, adapted, first.cells, first.disagreements)
    kept = _kept(decision, model_path, adapted)
    names = view.model.scheme.names
    by_class = {n: int((given.ids == i).sum()) for i, n in enumerate(names)}
    if max(by_class.values()) == len(given.ids):
        log.warning(
            "all %d answers are of one class, %s: the other classes stay as the source taught them",
            len(given.ids),
            names[int(given.ids[0])],
        )
    model = _refitted(view, kept, given)
    note = {"by_class": by_class, "kept": kept.name, "kept_sha256": file_hash(kept)}
    replace(model, provenance={**model.provenance, "answers": note}).save(out)
    write_model_item(out)
    report = {"decision": decision.to_dict() if decision else None, **note}
    with atomic_file(out.with_name(out.name + ".json")) as part:
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return LearnResult(out, decision, len(given.ids), by_class)


def _adapted_model(
    model_path: Path,
    source: PatchSource,
    target: PatchSource,
    out: Path,
    settings: TransferSettings,
    *,
    overwrite: bool,
) -> Path | None:
    """The model trained on pseudo-labels, whatever the evidence: the answers will tell."""
    path = out.with_name(f"{out.stem}.adapted.safetensors")
    if path.exists() and not overwrite:
        hint = "if a run that was stopped made it, give it as `adapted`; else move it away"
        raise OutputError(f"{path} exists already", hint)
    forced = replace(settings, force=True)
    try:
        transfer(model_path, source, target, path, forced, overwrite=overwrite)
    except LabelError as e:
        log.warning("there is no adapted model to decide about: %s", e.message)
        return None
    return path


def _other_model(path: Path, model: Checkpoint) -> Checkpoint:
    other = Checkpoint.load(path)
    if other.scheme.names != model.scheme.names or other.gsd != model.gsd:
        raise CheckpointError(
            f"{path} has other classes or another GSD than the model that is transferred",
            "give a model that `geopipe transfer` made of it",
        )
    if patch_net(other).stride != patch_net(model).stride:
        raise CheckpointError(
            f"{path} looks at cells of {patch_net(other).stride} px, the other model at "
            f"{patch_net(model).stride}",
            "give a model that `geopipe transfer` made of it",
        )
    return other


def _classes(model: Checkpoint, seen: Embeddings) -> np.ndarray:
    return np.asarray(seen.summed(patch_net(model).weights).argmax(1))


def _decision(
    given: Answers, view: _Target, adapted: Path | None, cells: int, disagreements: int
) -> Decision | None:
    """By the answers to questions of the role ``decide``; None without an adapted model."""
    if adapted is None:
        return None
    outcomes = np.empty(0, np.int64)
    if given.deciding.any():
        patches = view.cells.target.subset(given.indices[given.deciding])
        other = _other_model(adapted, view.model)
        old, new = (
            _classes(model, view.seen(model, path, patches))
            for model, path in ((view.model, view.path), (other, adapted))
        )
        truth = given.ids[given.deciding]
        outcomes = (new == truth).astype(np.int64) - (old == truth)
    return decide(outcomes, max(disagreements, len(outcomes)), disagreements / max(cells, 1))


def _kept(decision: Decision | None, old: Path, adapted: Path | None) -> Path:
    if decision and adapted and decision.choice is Choice.ADAPTED:
        return adapted
    return old


def _head(model: Checkpoint) -> Head:
    layer = patch_net(model).head
    return Head(layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy())


def _refitted(view: _Target, kept: Path, given: Answers) -> Checkpoint:
    """The kept model with its last layer fitted to source and answers."""
    model = Checkpoint.load(kept)
    if not given.ids.size:
        return model
    train = view.cells.source.subset(~view.cells.test)
    source = view.seen(model, kept, train)
    answers = view.seen(model, kept, view.cells.target.subset(given.indices))
    head = refit(_head(model), (source.features, train.ids), (answers.features, given.ids))
    net = deepcopy(patch_net(model)).to("cpu")
    with torch.no_grad():
        net.head.weight.copy_(torch.from_numpy(head.weight))
        net.head.bias.copy_(torch.from_numpy(head.bias))
    provenance = {"transferred_from": file_hash(kept)}
    return model.with_net(SegmentationModel(net, model.net.postprocessor), provenance)


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.resolve(), out.resolve().parent)


def _write(out: Path, questions: Questions, view: _Target, indices: np.ndarray) -> Path | None:
    """The questions and, of chips, the sheet with their images."""
    patches = view.cells.target.subset(indices)
    layout = lay_out(patches, max(patch_net(view.model).sizes))
    if layout.sheet is None:
        write_questions(out, questions, layout.shapes, layout.crs, view.model.scheme)
        return None
    sheet = out.with_suffix(".tif")
    with atomic_files([out, sheet], *GEOPACKAGE_ERRORS) as (table, image):
        layout.write_sheet(image)
        write_questions(table, questions, layout.shapes, None, view.model.scheme)
    return sheet
