"""Transfer a patch model to a new place or sensor without labels of it (Tong et al. 2020)."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.stac_item import model_item_path, write_model_item
from geopipe.files import atomic_file, check_new_file
from geopipe.learn.patches import patch_net
from geopipe.learn.patches.model import PatchSource
from geopipe.learn.transfer.cells import transfer_cells
from geopipe.learn.transfer.pseudo_labels import write_pseudo_labels
from geopipe.learn.transfer.rounds import (
    Round,
    TransferSettings,
    aligns,
    select_round,
    train_round,
)
from geopipe.report.transfer_sheet import write_transfer_sheet

log = logging.getLogger(__name__)


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
    check_new_file(out, overwrite=overwrite, sources=[model_path])
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
            result = select_round(model, paths[-1], source_patches, test, target_patches, options)
            rounds.append(result)
            if result.evidence.reasons and not options.force:
                break
            for reason in result.evidence.reasons:
                log.warning("round %d goes on all the same: %s", number, reason)
            round_path = out.with_name(f"{out.stem}.round{number}{out.suffix}")
            paths.append(round_path)
            if result.alignment and aligns(model, options):
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
    sheet = write_transfer_sheet(out, model, final_round, source_patches, trained=trained > 0)
    pseudo = write_pseudo_labels(out, final_round.target, final_round.selected, model.scheme)
    outcome = TransferResult(out, sheet, pseudo, tuple(rounds), trained)
    _save_result(outcome, model, options)
    return outcome


def _save_result(outcome: TransferResult, model: Checkpoint, options: TransferSettings) -> None:
    """The model under its own name, what is known of it beside it."""
    out, names = outcome.model, model.scheme.names
    model.net.to("cpu")
    report = {
        "rounds": [r.to_dict(names) for r in outcome.rounds],
        "trained": outcome.trained,
        "method": "align" if aligns(model, options) else "pseudo-labels",
        "abstained": list(outcome.reasons),
        "choice": options.selection.to_dict(),
    }
    note = {"transfer": {"trained": outcome.trained, "abstained": list(outcome.reasons)}}
    replace(model, provenance={**model.provenance, **note}).save(out)
    write_model_item(out)
    report_path = out.with_name(out.name + ".json")
    with atomic_file(report_path) as part:
        part.write_text(json.dumps(report, indent=1) + "\n")
