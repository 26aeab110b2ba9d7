"""A round of a transfer: what is chosen of the target, the evidence for it, and the training."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.errors import ConfigError, LabelError
from geopipe.learn.patches import PatchGrid, PatchPlan, embed, is_frozen, patch_net, train_patches
from geopipe.learn.patches.model import key_of, source_digest
from geopipe.learn.transfer.alignment import FeatureAlignment
from geopipe.learn.transfer.draw import source_share
from geopipe.learn.transfer.evidence import AbstainThresholds, Evidence
from geopipe.learn.transfer.gain import estimate_gain
from geopipe.learn.transfer.plan import TransferPlan
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples, standardized
from geopipe.learn.transfer.selection import Selection, select
from geopipe.nets.backbones import JOIN

TUNING = PatchPlan(steps=150, lr=3e-4, backbone_lr=1e-4)
"""Stage 3: lower rates than a first training."""
_UNSAFE = (
    "No method was found that never loses on the frozen features of one network: alignment loses "
    "up to 6.9 points where the target has few classes, pseudo-labels up to 12.6."
)
"""Measured in docs/results/gid/frozen.md."""


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
    """Cells that are looked at on each side, a random sample where there are more."""
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
    """The cells that were looked at, in the order of `selected`."""
    alignment: FeatureAlignment | None = None
    """Of the target's features to the source's."""

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "samples": self.selected.table(names),
            "evidence": self.evidence.to_dict(),
        }


def select_round(
    model: Checkpoint,
    path: Path,
    source_patches: PatchGrid,
    test: np.ndarray,
    target_patches: PatchGrid,
    options: TransferSettings,
) -> Round:
    """Stages 1 and 2 of the model in the file `path`, and the evidence for a gain.

    `test`: (source cells,) bool, held out from its training.
    """
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
    if options.method == "auto" and is_frozen(model) and not _is_joined(model):
        evidence = replace(evidence, reasons=(*evidence.reasons, _UNSAFE))
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


def aligns(model: Checkpoint, options: TransferSettings) -> bool:
    """Whether the target's features are aligned, instead of learning from pseudo-labels."""
    return is_frozen(model) if options.method == "auto" else options.method == "align"


def _is_joined(model: Checkpoint) -> bool:
    """Whether the features are of several networks."""
    return JOIN in patch_net(model).backbone.spec.name
