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
from geopipe.learn.patches import PatchGrid, PatchPlan, embed, patch_net, train_patches
from geopipe.learn.patches.model import PatchModelSpec, key_of, source_digest, split
from geopipe.learn.transfer import SourceSamples, TargetSamples, TransferPlan, estimate_gain, select
from geopipe.learn.transfer.plan import SampleStatus
from geopipe.metrics import Metrics
from geopipe.workflow.steps import Step, run_step
from geopipe.workflow.transfer import TUNING, Round, TransferSettings, tuned_on
from reproduce.gid import data
from reproduce.gid.metrics import judged

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
    learn: PatchGrid
    """With the classes of their labels, which only the oracle and the judging see."""
    judge: PatchGrid
    held: np.ndarray
    """Source crops that are held out to weigh the evidence by."""
    made: dict[str, Any]
    """How, if the images were made: part of what decides a step."""


@dataclass(frozen=True)
class Lab:
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
        learnt, held = split(self.labelled, HOLD_OUT, self.seed, self.settings.design)
        found = (np.unique(self.labelled.at[which, 0]) for which in (learnt, held))
        return next(found), next(found)

    @cached_property
    def model_path(self) -> Path:
        """The source model, trained."""
        out = self.folder / "source.safetensors"
        plan = PatchPlan(steps=self.settings.steps, seed=self.seed)
        design = self.settings.design
        cells = data.of_planes(self.labelled, self.crops[0])
        known = {
            "design": asdict(design),
            "hold_out": HOLD_OUT,
            "hold_out_seed": self.seed,
            "source": source_digest(self.labelled),
        }

        def train(key: str) -> None:
            model = design.model(data.scheme())
            device = self.settings.device
            train_patches(model, cells, plan, out=out, key=key, device=device, known=known)

        return self.done("source", [], {"plan": asdict(plan), **known}, out, train)

    @cached_property
    def model(self) -> Checkpoint:
        """The source model, on the device."""
        return self._loaded(self.model_path)

    def _loaded(self, path: Path) -> Checkpoint:
        model = Checkpoint.load(path)
        model.net.to(self.settings.device)
        return model

    # -- judging

    def judged(
        self, name: str, path: Path, cells: PatchGrid, made: dict[str, Any]
    ) -> dict[str, Metrics]:
        """Kind of map -> metrics of a model's maps of all crops of `cells`; see `judge`."""
        out = self.folder / "judged" / f"{name}.json"

        def judge(_: str) -> None:
            model = self._loaded(path)
            found = judged(model, cells, self.seen(model, path, cells))
            out.write_text(json.dumps({k: m.to_dict() for k, m in found.items()}, indent=1))

        what = {"crops": data.names_digest(cells), **made}
        self.done(f"judged-{name}", [path], what, out, judge)
        return {k: Metrics.from_dict(m) for k, m in json.loads(out.read_text()).items()}

    def seen(self, model: Checkpoint, path: Path, cells: PatchGrid) -> Any:
        """What a model sees in the cells; features of equal pixels are computed once."""
        return embed(
            model,
            file_hash(path),
            cells,
            cache=self.folder / "cache",
            device=self.settings.device,
        )

    # -- transfer

    def samples(self, domain: Domain) -> tuple[SourceSamples, TargetSamples]:
        """What the source model sees in a balanced part of the source, and in the domain."""
        known = self._known(domain)
        held = np.isin(known.at[:, 0], domain.held)
        weights = patch_net(self.model).weights
        whole = data.of_planes(self.source, np.unique(known.at[:, 0]))
        ours = self.seen(self.model, self.model_path, whole)
        sure = whole.ids != IGNORE
        theirs = self.seen(self.model, self.model_path, domain.learn)
        return SourceSamples(
            ours.features[sure],
            ours.summed(weights)[sure],
            known.ids,
            held,
            images=known.at[:, 0],
            digests=ours.digests[sure],
        ), TargetSamples(theirs.features, theirs.summed(weights), domain.learn.at, theirs.digests)

    def _known(self, domain: Domain) -> PatchGrid:
        """Labelled cells of as many source crops of each class, and of those held out."""
        part = data.balanced(
            data.folders(self.source), self.crops[0], self.settings.source_crops, self.seed
        )
        return data.of_planes(self.labelled, np.concatenate([part, domain.held]))

    def look(self, domain: Domain, plan: TransferPlan) -> Round:
        """Both stages and the evidence. No label of the domain is looked at."""
        source, target = self.samples(domain)
        chosen = select(source, target, plan)
        unlabelled = domain.learn.labelled(np.full(len(domain.learn), IGNORE))
        return Round(chosen, estimate_gain(source, target, chosen, plan), unlabelled)

    def tuned(self, name: str, domain: Domain, found: Round, plan: TransferPlan) -> Path:
        """The source model trained on what was chosen, and on the source."""
        out = self.folder / "tuned" / f"{name}.safetensors"
        tuning = replace(TUNING, steps=self.settings.tuning_steps, seed=self.seed)
        options = TransferSettings(selection=plan, plan=tuning, device=self.settings.device)
        known = self._known(domain)
        learnt = known.subset(~np.isin(known.at[:, 0], domain.held))

        def train(_: str) -> None:
            tuned_on(self._loaded(self.model_path), self.model_path, learnt, found, out, options)

        what = {
            "tuning": asdict(tuning),
            "crops": data.names_digest(domain.learn),
            **domain.made,
            "kept": key_of(found.selected.selected, found.selected.labels[found.selected.selected]),
            "source": source_digest(learnt),
        }
        return self.done(f"tuned-{name}", [self.model_path], what, out, train)


def true_labels(found: Round, ids: np.ndarray) -> Round:
    """The same, had the labels been known: all labelled cells, each with its class."""
    fates = np.where(ids != IGNORE, SampleStatus.KEPT, SampleStatus.UNSURE).astype(np.uint8)
    return replace(found, selected=replace(found.selected, labels=ids, statuses=fates))
