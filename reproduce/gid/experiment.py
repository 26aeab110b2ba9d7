"""The experiments of one seed: models, what they see, what they are right about; each once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.learn.patches import PatchGrid, PatchPlan, embed, patch_net, train_patches
from geopipe.learn.patches.model import PatchModelSpec, key_of, source_digest, split
from geopipe.learn.transfer import (
    SourceSamples,
    TargetSamples,
    TransferPlan,
    estimate_gain,
    select,
    standardized,
)
from geopipe.learn.transfer.plan import SampleStatus
from geopipe.learn.transfer.rounds import TUNING, Round, TransferSettings, train_round
from geopipe.metrics import Metrics, MetricsTable
from geopipe.validation import read_json
from geopipe.workflow.steps import Step, run_step
from reproduce.gid import data
from reproduce.gid.metrics import evaluate

HOLD_OUT = 0.2


@dataclass(frozen=True)
class Settings:
    """What a run is made with."""

    steps: int = PatchPlan.steps
    """Of the source model."""
    tuning_steps: int = TUNING.steps
    source_crops: int = 40
    """Crops of each class, of those learnt from, in whose cells neighbours are sought."""
    photographs: int = 30
    """Of each class, of the foreign domain."""
    device: str = "cpu"
    backbone: str = PatchModelSpec.backbone
    weights: str = PatchModelSpec.weights

    @property
    def design(self) -> PatchModelSpec:
        """The net before its first step."""
        return PatchModelSpec(self.backbone, self.weights, cell=data.CELL, gsd=data.GSD)


@dataclass(frozen=True, eq=False)
class Domain:
    """Where a model is to go: crops it may look at, and others that it is judged by."""

    name: str
    train: PatchGrid
    """With the classes of their labels, which only the oracle and the judging see."""
    test: PatchGrid
    test_crops: np.ndarray
    """Source crops that are held out to weigh the evidence by."""
    parameters: dict[str, Any]
    """How, if the images were made: part of what decides a step."""


@dataclass(frozen=True)
class Experiment:
    """One seed; all it makes lies below `out`."""

    seed: int
    out: Path
    source: PatchGrid
    """All cells of all source crops."""
    settings: Settings

    @property
    def folder(self) -> Path:
        """Where this seed's files lie."""
        return self.out / f"seed-{self.seed}"

    def done(
        self,
        name: str,
        inputs: Sequence[Path],
        parameters: dict[str, Any],
        output: Path,
        do: Callable[[str], None],
    ) -> Path:
        """Make `output` by `do` unless it is current; returns it."""
        output.parent.mkdir(parents=True, exist_ok=True)
        run_step(Step(name, inputs, parameters, [output], do), self.folder / ".steps")
        return output

    # -- the source

    @cached_property
    def labelled(self) -> PatchGrid:
        """The source cells whose class is known."""
        return self.source.subset(self.source.ids != IGNORE)

    @cached_property
    def crops(self) -> tuple[np.ndarray, np.ndarray]:
        """Source crops (their numbers) to learn from, and those held out."""
        train, test = split(self.labelled, HOLD_OUT, self.seed, self.settings.design)
        crop_ids = (np.unique(self.labelled.positions[mask, 0]) for mask in (train, test))
        return next(crop_ids), next(crop_ids)

    @cached_property
    def model_path(self) -> Path:
        """The source model, trained."""
        out = self.folder / "source.safetensors"
        plan = PatchPlan(steps=self.settings.steps, seed=self.seed)
        design = self.settings.design
        patches = data.of_rasters(self.labelled, self.crops[0])
        provenance = {
            "design": asdict(design),
            "hold_out": HOLD_OUT,
            "hold_out_seed": self.seed,
            "source": source_digest(self.labelled),
        }

        def train(key: str) -> None:
            model = design.model(data.scheme())
            device = self.settings.device
            train_patches(
                model, patches, plan, out=out, key=key, device=device, provenance=provenance
            )

        return self.done("source", [], {"plan": asdict(plan), **provenance}, out, train)

    @cached_property
    def model(self) -> Checkpoint:
        """The source model, on the device."""
        return self._loaded(self.model_path)

    def _loaded(self, path: Path) -> Checkpoint:
        model = Checkpoint.load(path)
        model.net.to(self.settings.device)
        return model

    # -- judging

    def evaluate(
        self, name: str, path: Path, patches: PatchGrid, parameters: dict[str, Any]
    ) -> dict[str, Metrics]:
        """Kind of map -> metrics of a model's maps of all crops of `patches`; see
        `run_evaluation`."""
        out = self.folder / "judged" / f"{name}.json"

        def run_evaluation(_: str) -> None:
            model = self._loaded(path)
            metrics = evaluate(model, patches, self.embeddings(model, path, patches))
            out.write_text(json.dumps({k: m.to_dict() for k, m in metrics.items()}, indent=1))

        step_parameters = {"crops": data.names_digest(patches), **parameters}
        self.done(f"judged-{name}", [path], step_parameters, out, run_evaluation)
        stored = read_json(
            out, dict[str, MetricsTable], LabelError, f"remove {out}; it is made again"
        )
        return {k: Metrics.from_table(m) for k, m in stored.items()}

    def embeddings(self, model: Checkpoint, path: Path, patches: PatchGrid) -> Any:
        """What a model sees in the cells; features of equal pixels are computed once."""
        return embed(
            model,
            file_hash(path),
            patches,
            cache=self.folder / "cache",
            device=self.settings.device,
        )

    # -- transfer

    def samples(self, domain: Domain) -> tuple[SourceSamples, TargetSamples]:
        """What the source model sees in a balanced part of the source, and in the domain."""
        source_patches = self._source_patches(domain)
        test = np.isin(source_patches.positions[:, 0], domain.test_crops)
        weights = patch_net(self.model).weights
        source_crops = data.of_rasters(self.source, np.unique(source_patches.positions[:, 0]))
        source_embeddings = self.embeddings(self.model, self.model_path, source_crops)
        is_labelled = source_crops.ids != IGNORE
        target_embeddings = self.embeddings(self.model, self.model_path, domain.train)
        return SourceSamples(
            source_embeddings.features[is_labelled],
            source_embeddings.summed(weights)[is_labelled],
            source_patches.ids,
            test,
            images=source_patches.positions[:, 0],
            digests=source_embeddings.digests[is_labelled],
        ), TargetSamples(
            target_embeddings.features,
            target_embeddings.summed(weights),
            domain.train.positions,
            target_embeddings.digests,
        )

    def _source_patches(self, domain: Domain) -> PatchGrid:
        """Labelled cells of as many source crops of each class, and of those held out."""
        part = data.balanced(
            data.folders(self.source), self.crops[0], self.settings.source_crops, self.seed
        )
        return data.of_rasters(self.labelled, np.concatenate([part, domain.test_crops]))

    def select_samples(self, domain: Domain, plan: TransferPlan) -> Round:
        """Both stages and the evidence. No label of the domain is looked at."""
        source, target = standardized(*self.samples(domain))
        selection = select(source, target, plan)
        unlabelled = domain.train.labelled(np.full(len(domain.train), IGNORE))
        return Round(selection, estimate_gain(source, target, selection, plan), unlabelled)

    def train_transferred(
        self, name: str, domain: Domain, selected: Round, plan: TransferPlan
    ) -> Path:
        """The source model trained on what was chosen, and on the source."""
        out = self.folder / "tuned" / f"{name}.safetensors"
        tuning = replace(TUNING, steps=self.settings.tuning_steps, seed=self.seed)
        options = TransferSettings(selection=plan, plan=tuning, device=self.settings.device)
        source_patches = self._source_patches(domain)
        train_source = source_patches.subset(
            ~np.isin(source_patches.positions[:, 0], domain.test_crops)
        )

        def train(_: str) -> None:
            train_round(
                self._loaded(self.model_path), self.model_path, train_source, selected, out, options
            )

        step_parameters = {
            "tuning": asdict(tuning),
            "crops": data.names_digest(domain.train),
            **domain.parameters,
            "kept": key_of(
                selected.selected.selected, selected.selected.labels[selected.selected.selected]
            ),
            "source": source_digest(train_source),
        }
        return self.done(f"tuned-{name}", [self.model_path], step_parameters, out, train)


def true_labels(selected: Round, ids: np.ndarray) -> Round:
    """The same, had the labels been known: all labelled cells, each with its class."""
    statuses = np.where(ids != IGNORE, SampleStatus.KEPT, SampleStatus.UNSURE).astype(np.uint8)
    return replace(selected, selected=replace(selected.selected, labels=ids, statuses=statuses))
