"""Transfer a patch model to a new place or sensor without labels of it (Tong et al. 2020)."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.stac_item import model_item_path, write_model_item
from geopipe.errors import ConfigError, LabelError
from geopipe.files import atomic_file, check_new_file
from geopipe.learn.patches import (
    PatchGrid,
    PatchPlan,
    PatchRaster,
    SceneRaster,
    embed,
    is_frozen,
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
    standardized,
)
from geopipe.learn.transfer.alignment import FeatureAlignment
from geopipe.learn.transfer.cells import transfer_cells
from geopipe.learn.transfer.draw import source_share
from geopipe.learn.transfer.pseudo_labels import write_pseudo_labels
from geopipe.nets.backbones import JOIN
from geopipe.report.contact_sheet import ContactSheet, Neighbour, Row, select_rows, write_sheet

log = logging.getLogger(__name__)

_MAX_SHEET_ROWS = 8
"""Kept and refused patches of a class on the contact sheet."""
_MAX_NEIGHBOURS = 4
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
    max_samples: int = 6000
    """Cells that are looked at on each side, by lot where there are more."""
    method: Literal["auto", "align", "pseudo-labels"] = "auto"
    """"auto": the frozen features of several networks are aligned, those of one are kept as they
    are, and any other model learns from pseudo-labels."""
    force: bool = False
    """Train although the evidence for a gain is weak."""
    device: str = "cpu"
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.mix < 1 and self.rounds >= 1 and self.max_samples >= 1):
            raise ConfigError(
                f"mix={self.mix:g}, rounds={self.rounds}, max_samples={self.max_samples}: mix is "
                "from 0 to below 1, at least one round and one cell"
            )


@dataclass(frozen=True)
class Round:
    """What was chosen in a round, and what speaks for training on it."""

    selected: Selection
    evidence: Evidence
    target: PatchGrid
    """The cells that were looked at, in the order of `chosen`."""
    alignment: FeatureAlignment | None = None
    """Of the target's features to the source's."""

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
    check_new_file(out, overwrite=overwrite)
    model = Checkpoint.load(model_path)
    cells = transfer_cells(model, source, target, options.max_samples, options.selection.seed)
    source_patches, test, target_patches = cells.source, cells.test, cells.target
    if len(target_patches) < options.thresholds.samples:
        log.warning(
            "the target is small: %d cells of %d px at %g m; give more or larger images",
            len(target_patches),
            patch_net(model).stride,
            model.gsd,
        )
    rounds: list[Round] = []
    paths = [model_path]
    try:
        for number in range(1, options.rounds + 1):
            result = _embed(model, paths[-1], source_patches, test, target_patches, options)
            if options.method == "auto" and is_frozen(model) and not _is_joined(model):
                reasons = (*result.evidence.reasons, _UNSAFE)
                result = replace(result, evidence=replace(result.evidence, reasons=reasons))
            rounds.append(result)
            if result.evidence.reasons and not options.force:
                break
            for reason in result.evidence.reasons:
                log.warning("round %d goes on all the same: %s", number, reason)
            round_path = out.with_name(f"{out.stem}.round{number}{out.suffix}")
            paths.append(round_path)
            if result.alignment and _aligns(model, options):
                model = result.alignment.applied(model)
                model.save(round_path)
                break  # it has nothing to learn from a second time
            source_train = source_patches.subset(~test)
            model = train_round(model, paths[-2], source_train, result, round_path, options)
    finally:
        for round_path in paths[1:]:
            round_path.unlink(missing_ok=True)
            model_item_path(round_path).unlink(missing_ok=True)
    trained = len(paths) - 1
    final_round = rounds[max(trained, 1) - 1]
    sheet = _write_sheet(out, model, final_round, source_patches, trained=trained > 0)
    pseudo = write_pseudo_labels(out, final_round.target, final_round.selected, model.scheme)
    outcome = TransferResult(out, sheet, pseudo, tuple(rounds), trained)
    _save_result(outcome, model, options)
    return outcome


_UNSAFE = (
    "No method was found that never loses on the frozen features of one network: alignment loses "
    "up to 6.9 points where the target has few classes, pseudo-labels up to 12.6."
)
"""Measured in docs/results/gid/frozen.md."""


def _is_joined(model: Checkpoint) -> bool:
    """Whether the features are of several networks."""
    return JOIN in patch_net(model).backbone.spec.name


def _aligns(model: Checkpoint, options: TransferSettings) -> bool:
    return is_frozen(model) if options.method == "auto" else options.method == "align"


def _embed(
    model: Checkpoint,
    path: Path,
    source_patches: PatchGrid,
    test: np.ndarray,
    target_patches: PatchGrid,
    options: TransferSettings,
) -> Round:
    """Stages 1 and 2, and the evidence."""
    model.net.to(options.device)
    digest = file_hash(path)
    source_embeddings, target_embeddings = (
        embed(model, digest, patches, cache=options.cache, device=options.device)
        for patches in (source_patches, target_patches)
    )
    patches = target_patches.subset(target_embeddings.valid)
    weights = patch_net(model).weights
    source = SourceSamples(
        source_embeddings.features,
        source_embeddings.summed(weights),
        source_patches.ids,
        test,
        images=source_patches.positions[:, 0],
        digests=source_embeddings.digests,
        names=model.scheme.names,
    )
    target = TargetSamples(
        target_embeddings.features[target_embeddings.valid],
        target_embeddings.summed(weights)[target_embeddings.valid],
        patches.positions,
        target_embeddings.digests[target_embeddings.valid],
    )
    alignment = FeatureAlignment.of(source, target)
    source, target = standardized(source, target)
    selection = select(source, target, options.selection, options.device)
    evidence = estimate_gain(
        source, target, selection, options.selection, options.thresholds, options.device
    )
    return Round(selection, evidence, patches, alignment)


def train_round(
    model: Checkpoint,
    path: Path,
    source_patches: PatchGrid,
    result: Round,
    out: Path,
    options: TransferSettings,
) -> Checkpoint:
    """Stage 3: the model trained on the kept samples, and on the share `mix` of source ones.

    A backbone that was frozen in the model's first training stays so.
    """
    selected = result.selected.selected
    if not len(selected):
        raise LabelError(
            "no target sample is kept, so there is nothing to train on",
            "lower `threshold` or `agreement`",
        )
    patches = result.target.subset(selected).labelled(result.selected.labels[selected])
    if options.mix:
        patches = patches.joined(
            source_patches.subset(
                source_share(patches, source_patches, options.mix, options.selection.seed)
            )
        )
    plan = replace(options.plan, backbone_lr=0.0) if is_frozen(model) else options.plan
    key = key_of(
        file_hash(path),
        asdict(plan),
        patches.positions,
        patches.ids,
        source_digest(patches),
    )
    trained, _ = train_patches(
        model,
        patches,
        plan,
        out=out,
        key=key,
        device=options.device,
        provenance={"transferred_from": file_hash(path), "kept": len(selected), "mix": options.mix},
    )
    return trained


def _write_sheet(
    out: Path, model: Checkpoint, result: Round, source_patches: PatchGrid, *, trained: bool
) -> Path:
    status = "The model was trained on them"
    if not trained:
        status = f"No training: {out.name} is the old model"
    status += ", because:" if not trained else ", although:" if result.evidence.reasons else "."
    selection, size = (
        result.selected,
        sorted(patch_net(model).sizes)[len(patch_net(model).sizes) // 2],
    )

    def rows() -> Iterator[Row]:
        for i in select_rows(selection, _MAX_SHEET_ROWS).tolist():
            neighbours = zip(
                selection.neighbours.indices[i, :_MAX_NEIGHBOURS].tolist(),
                selection.neighbours.distances[i, :_MAX_NEIGHBOURS].tolist(),
                strict=True,
            )
            raster = result.target.rasters[result.target.positions[i, 0]]
            yield Row(
                _patch_image(result.target, i, size),
                int(selection.labels[i]),
                float(selection.confidence[i]),
                SampleStatus(int(selection.statuses[i])),
                tuple(
                    Neighbour(
                        _patch_image(source_patches, j, size), int(source_patches.ids[j]), distance
                    )
                    for j, distance in neighbours
                    if j >= 0
                ),
                _location(raster, result.target, i),
            )

    return write_sheet(
        out.with_name(out.name + ".html"),
        ContactSheet(
            f"Pseudo-labels for {out.name}",
            model.scheme,
            tuple(rows()),
            selection.counts(),
            f"{len(selection.selected)} of {len(selection.labels)} target patches are kept. "
            f"{status}",
            result.evidence.reasons,
        ),
        _MAX_SHEET_ROWS,
        _MAX_NEIGHBOURS,
    )


def _location(raster: PatchRaster, patches: PatchGrid, index: int) -> str:
    """Where a cell is: the middle of it in its scene's CRS, or its chip."""
    path = Path(raster.path)
    if not isinstance(raster, SceneRaster):
        return "/".join(path.parts[-2:])
    geobox, window = raster.grid.geobox(raster.scene.geobox), patches.window(index, patches.cell)
    center = window.col + window.width / 2, window.row + window.height / 2
    digits = 5 if geobox.crs and geobox.crs.geographic else 0
    return f"{path.name}: " + ", ".join(f"{v:.{digits}f}" for v in geobox.affine * center)


def _patch_image(patches: PatchGrid, index: int, size: int) -> np.ndarray:
    """The patch of `size` px around a cell (3, size, size) uint8."""
    image, _ = read_patch(patches.rasters[patches.positions[index, 0]], patches.window(index, size))
    return image.clamp(0, 255).round().numpy().astype(np.uint8)


def _save_result(outcome: TransferResult, model: Checkpoint, options: TransferSettings) -> None:
    """The model under its own name, what is known of it beside it."""
    out, names = outcome.model, model.scheme.names
    model.net.to("cpu")
    report = {
        "rounds": [r.to_dict(names) for r in outcome.rounds],
        "trained": outcome.trained,
        "method": "align" if _aligns(model, options) else "pseudo-labels",
        "abstained": list(outcome.reasons),
        "choice": options.selection.to_dict(),
    }
    note = {"transfer": {"trained": outcome.trained, "abstained": list(outcome.reasons)}}
    replace(model, provenance={**model.provenance, **note}).save(out)
    write_model_item(out)
    report_path = out.with_name(out.name + ".json")
    with atomic_file(report_path) as part:
        part.write_text(json.dumps(report, indent=1) + "\n")
