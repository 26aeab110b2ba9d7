"""Transfer a patch model to a new place or sensor without labels of it (Tong et al. 2020)."""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.classes import IGNORE
from geopipe.errors import ConfigError, LabelError
from geopipe.learn.patches import (
    PatchGrid,
    PatchPlan,
    PatchRaster,
    SceneRaster,
    embed,
    patch_net,
    train_patches,
)
from geopipe.learn.patches.model import PatchSource, key_of, source_digest
from geopipe.learn.patches.rasters import read_patch
from geopipe.learn.transfer import (
    AbstainThresholds,
    Evidence,
    SampleStatus,
    Selection,
    SourceSamples,
    TargetSamples,
    TransferPlan,
    estimate_gain,
    select,
)
from geopipe.learn.transfer.pseudo_labels import write_pseudo_labels
from geopipe.report.contact_sheet import ContactSheet, Neighbour, Row, thumbnail, write_sheet

log = logging.getLogger(__name__)

_SHOWN = 8
"""Kept and refused patches of a class on the contact sheet."""
_NEAR = 4
TUNING = PatchPlan(steps=150, lr=3e-4, backbone_lr=1e-4)
"""Stage 3: lower rates than a first training."""


@dataclass(frozen=True)
class TransferSettings:
    """How to transfer."""

    selection: TransferPlan = field(default_factory=TransferPlan)
    thresholds: AbstainThresholds = field(default_factory=AbstainThresholds)
    plan: PatchPlan = TUNING
    rounds: int = 1
    mix: float = 0.5
    """Share of the patches of stage 3 that are the source's; 0: none."""
    most: int = 6000
    """Cells that are looked at on each side, by lot where there are more."""
    force: bool = False
    """Train although the evidence for a gain is weak."""
    device: str = "cpu"
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.mix < 1 and self.rounds >= 1 and self.most >= 1):
            raise ConfigError(
                f"mix={self.mix:g}, rounds={self.rounds}, most={self.most}: mix is from 0 to below "
                "1, at least one round and one cell"
            )


@dataclass(frozen=True)
class Round:
    """What was chosen in a round, and what speaks for training on it."""

    selected: Selection
    evidence: Evidence
    target: PatchGrid
    """The cells that were looked at, in the order of `chosen`."""

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "samples": self.selected.table(names),
            "evidence": self.evidence.to_dict(),
        }


@dataclass(frozen=True)
class TransferResult:
    """What a transfer made."""

    model: Path
    sheet: Path
    pseudo_labels: tuple[Path, ...]
    rounds: tuple[Round, ...]
    trained: int
    """Rounds after which the model was trained; 0: it is the source model."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the last round was not trained on; empty where it was."""
        return self.rounds[-1].evidence.reasons if self.trained < len(self.rounds) else ()


def transfer(
    model_path: Path,
    source: PatchSource,
    target: PatchSource,
    out: Path,
    options: TransferSettings,
    *,
    overwrite: bool = False,
) -> TransferResult:
    """Train the model on target samples that it labelled itself, or keep it, and save it as `out`.

    Beside `out` lie, of the same name, ``.html`` (contact sheet), ``.json`` (counts and evidence)
    and, of scenes, the pseudo-labels as rasters: those that were trained on last. The source is
    read as in the model's training. Where the evidence for a gain is weak, `out` is the source
    model and the outcome says why. Raises LabelError when no sample is kept and training is forced.
    """
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already", "give another name or --overwrite")
    model = Checkpoint.load(model_path)
    net = patch_net(model)
    source = _as_trained(source, model)
    known = PatchGrid.of(source.rasters(model.scheme, model.gsd, labelled=True), net.stride)
    known = known.subset(known.ids != IGNORE)
    if missing := known.missing(model.scheme):
        raise LabelError(
            f"no source cell is of class {', '.join(missing)}", "give source images that have it"
        )
    learnt, held = _split(model, known, max(net.sizes))
    known, held = known.subset(learnt | held), held[learnt | held]
    drawn = _at_random(known.ids, options.most, options.selection.seed)
    known, held = known.subset(drawn), held[drawn]
    there = PatchGrid.of(target.rasters(model.scheme, model.gsd, labelled=False), net.stride)
    there = there.subset(_at_random(there.ids, options.most, options.selection.seed))
    if len(there) < options.thresholds.samples:
        log.warning(
            "the target is small: %d cells of %d px at %g m; give more or larger images",
            len(there),
            net.stride,
            model.gsd,
        )
    rounds: list[Round] = []
    paths = [model_path]
    try:
        for number in range(1, options.rounds + 1):
            found = _embed(model, paths[-1], known, held, there, options)
            rounds.append(found)
            if found.evidence.reasons and not options.force:
                break
            for reason in found.evidence.reasons:
                log.warning("round %d goes on all the same: %s", number, reason)
            fresh = out.with_name(f"{out.stem}.round{number}{out.suffix}")
            model = tuned_on(model, paths[-1], known.subset(~held), found, fresh, options)
            paths.append(fresh)
    finally:
        for fresh in paths[1:]:
            fresh.unlink(missing_ok=True)
    trained = len(paths) - 1
    told = rounds[max(trained, 1) - 1]
    sheet = _write_sheet(out, model, told, known, trained=trained > 0)
    pseudo = write_pseudo_labels(out, told.target, told.selected, model.scheme)
    outcome = TransferResult(out, sheet, pseudo, tuple(rounds), trained)
    _finish(outcome, model, options)
    return outcome


def _embed(
    model: Checkpoint,
    path: Path,
    known: PatchGrid,
    held: np.ndarray,
    there: PatchGrid,
    options: TransferSettings,
) -> Round:
    """Stages 1 and 2, and the evidence."""
    model.net.to(options.device)
    digest = file_hash(path)
    ours, theirs = (
        embed(model, digest, cells, cache=options.cache, device=options.device)
        for cells in (known, there)
    )
    cells = there.subset(theirs.valid)
    weights = patch_net(model).weights
    source = SourceSamples(
        ours.features,
        ours.summed(weights),
        known.ids,
        held,
        images=known.at[:, 0],
        digests=ours.digests,
        names=model.scheme.names,
    )
    target = TargetSamples(
        theirs.features[theirs.valid],
        theirs.summed(weights)[theirs.valid],
        cells.at,
        theirs.digests[theirs.valid],
    )
    chosen = select(source, target, options.selection, options.device)
    evidence = estimate_gain(
        source, target, chosen, options.selection, options.thresholds, options.device
    )
    return Round(chosen, evidence, cells)


def tuned_on(
    model: Checkpoint,
    path: Path,
    known: PatchGrid,
    found: Round,
    out: Path,
    options: TransferSettings,
) -> Checkpoint:
    """Stage 3: the model trained on the kept samples, and on the share `mix` of source ones."""
    kept = found.selected.selected
    if not len(kept):
        raise LabelError(
            "no target sample is kept, so there is nothing to train on",
            "lower --threshold or --agreement",
        )
    cells = found.target.subset(kept).labelled(found.selected.labels[kept])
    if options.mix:
        cells = cells.joined(known.subset(_mixed_in(cells, known, options)))
    key = key_of(file_hash(path), asdict(options.plan), cells.at, cells.ids, source_digest(cells))
    tuned, _ = train_patches(
        model,
        cells,
        options.plan,
        out=out,
        key=key,
        device=options.device,
        known={"transferred_from": file_hash(path), "kept": len(kept), "mix": options.mix},
    )
    return tuned


def _mixed_in(cells: PatchGrid, known: PatchGrid, options: TransferSettings) -> np.ndarray:
    """Source cells of each class, such that their share of the class's cells is `mix`.

    A class without kept cells gets as many as the others have in the mean, so that it is not
    forgotten.
    """
    rng = np.random.default_rng(options.selection.seed)
    typical = len(cells) / max(len(cells.by_class), 1)
    drawn = []
    for class_id, mine in sorted(known.by_class.items()):
        here = len(cells.by_class.get(class_id, ())) or typical
        count = math.ceil(here * options.mix / (1 - options.mix))
        drawn.append(rng.permutation(mine)[:count])
    return np.concatenate(drawn)


def _as_trained(source: PatchSource, model: Checkpoint) -> PatchSource:
    """The source, its bands and holes as the model's training read them."""
    made = model.provenance
    bands = source.bands or tuple(made.get("bands") or ()) or None
    return replace(
        source, bands=bands, nodata=made.get("nodata") if source.nodata is None else source.nodata
    )


def _split(model: Checkpoint, known: PatchGrid, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: the cells that the model's training learnt from, and those that it held out.

    Of another source a share as large is held out.
    """
    made = model.provenance
    if made.get("source") != source_digest(known):
        log.warning("the model was not trained on this source; a fifth of it is held out")
    share, seed = made.get("hold_out", 0.2), made.get("hold_out_seed", 0)
    return known.split(share, seed, largest)


def _at_random(ids: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Indices of at most `most` cells, of each class its share by turns."""
    if len(ids) <= most:
        return np.arange(len(ids))
    rng = np.random.default_rng(seed)
    lot = rng.permutation(len(ids))
    turn = np.empty(len(ids), np.int64)
    for class_id in np.unique(ids):
        mine = lot[ids[lot] == class_id]
        turn[mine] = np.arange(len(mine))
    return np.sort(lot[np.argsort(turn[lot], kind="stable")][:most])


def _write_sheet(
    out: Path, model: Checkpoint, found: Round, known: PatchGrid, *, trained: bool
) -> Path:
    verdict = "The model was trained on them"
    if not trained:
        verdict = f"No training: {out.name} is the old model"
    verdict += ", because:" if not trained else ", although:" if found.evidence.reasons else "."
    chosen, size = found.selected, sorted(patch_net(model).sizes)[len(patch_net(model).sizes) // 2]

    def rows() -> Iterator[Row]:
        for i in thumbnail(chosen, _SHOWN).tolist():
            near = zip(
                chosen.neighbours.indices[i, :_NEAR].tolist(),
                chosen.neighbours.distances[i, :_NEAR].tolist(),
                strict=True,
            )
            plane = found.target.planes[found.target.at[i, 0]]
            yield Row(
                _picture(found.target, i, size),
                int(chosen.labels[i]),
                float(chosen.confidence[i]),
                SampleStatus(int(chosen.statuses[i])),
                tuple(
                    Neighbour(_picture(known, j, size), int(known.ids[j]), far)
                    for j, far in near
                    if j >= 0
                ),
                _place(plane, found.target, i),
            )

    return write_sheet(
        out.with_name(out.name + ".html"),
        ContactSheet(
            f"Pseudo-labels for {out.name}",
            model.scheme,
            tuple(rows()),
            chosen.counts(),
            f"{len(chosen.selected)} of {len(chosen.labels)} target patches are kept. {verdict}",
            found.evidence.reasons,
        ),
        _SHOWN,
        _NEAR,
    )


def _place(plane: PatchRaster, cells: PatchGrid, index: int) -> str:
    """Where a cell is: the middle of it in its scene's CRS, or its chip."""
    path = Path(plane.path)
    if not isinstance(plane, SceneRaster):
        return "/".join(path.parts[-2:])
    geobox, window = plane.grid.geobox(plane.scene.geobox), cells.window(index, cells.cell)
    middle = window.col + window.width / 2, window.row + window.height / 2
    digits = 5 if geobox.crs and geobox.crs.geographic else 0
    return f"{path.name}: " + ", ".join(f"{v:.{digits}f}" for v in geobox.affine * middle)


def _picture(cells: PatchGrid, index: int, size: int) -> np.ndarray:
    """The patch of `size` px around a cell (3, size, size) uint8."""
    image, _ = read_patch(cells.planes[cells.at[index, 0]], cells.window(index, size))
    return image.clamp(0, 255).round().numpy().astype(np.uint8)


def _finish(outcome: TransferResult, model: Checkpoint, options: TransferSettings) -> None:
    """The model under its own name, what is known of it beside it."""
    out, names = outcome.model, model.scheme.names
    model.net.to("cpu")
    told = {
        "rounds": [r.to_dict(names) for r in outcome.rounds],
        "trained": outcome.trained,
        "abstained": list(outcome.reasons),
        "choice": options.selection.to_dict(),
    }
    note = {"transfer": {"trained": outcome.trained, "abstained": list(outcome.reasons)}}
    replace(model, provenance={**model.provenance, **note}).save(out)
    beside = out.with_name(out.name + ".json")
    part = beside.with_name(beside.name + ".part")
    part.write_text(json.dumps(told, indent=1) + "\n")
    part.replace(beside)
