"""A site of experiments: the scenes of a workflow, and trainings on them that are done once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from geopipe.checkpoint import Checkpoint
from geopipe.classes import ClassScheme, load_scheme
from geopipe.evaluation.iterations import IterationMetrics, evaluate_steps
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.grid import NetworkGrid
from geopipe.labels import LabelSource, RasterLabels, write_label_raster
from geopipe.learn import (
    BaseNetworkPlan,
    RefinementPlan,
    build_pool,
    train_base_network,
    train_refinement,
)
from geopipe.learn.fine_tuning import FineTuningPlan, fine_tune
from geopipe.learn.sampler import PatchPool
from geopipe.mapping import Engine
from geopipe.metrics import Metrics
from geopipe.nets import RefinementRNN, SegmentationModel, build_base_network
from geopipe.networks import BaseNetworkName
from geopipe.raster import Scene
from geopipe.workflow.schema import LabelledScene, Workflow, load_workflow
from geopipe.workflow.sources import (
    label_files,
    label_source,
    network_gsd,
    open_scene,
    scene_files,
)
from geopipe.workflow.steps import Step, fresh_folder, run_step

log = logging.getLogger(__name__)

Plan = BaseNetworkPlan | RefinementPlan | FineTuningPlan
Action = Callable[[str], None]
R = TypeVar("R")


class NotDoneError(Exception):
    """A step that a page of what is there would have to run."""


_SETTINGS = {"banepa": {"refinement.steps": "800"}}
"""Fewer than the paper's schedule has: Banepa's tile is a thirtieth of a square kilometre."""


@dataclass(frozen=True)
class Site:
    """Train, enhancement and test scene of a workflow; everything made lies below `out`.

    Each thing made is a step, so a run that was stopped goes on where it was.
    """

    name: str
    workflow: Workflow
    out: Path
    only_done: bool = False
    """Nothing is run: a step that is not done raises NotDoneError."""

    @classmethod
    def open(cls, name: str, out: Path, *, only_done: bool = False) -> Site:
        """The site of ``workflows/<name>.toml``."""
        settings = {"schedule": "paper", **_SETTINGS.get(name, {})}
        workflow = load_workflow(Path("workflows") / f"{name}.toml", settings)
        return cls(name, workflow, out, only_done)

    @cached_property
    def scheme(self) -> ClassScheme:
        """The classes of the workflow."""
        return load_scheme(self.workflow.classes)

    def role(self, role: str) -> LabelledScene:
        """The scene and labels of ``train``, ``enhance`` or ``test``."""
        scene: LabelledScene | None = getattr(self.workflow, role)
        assert scene is not None, f"{self.name} has no [{role}]"
        return scene

    def scene(self, role: str) -> Scene:
        """The scene of a role."""
        return open_scene(self.role(role))

    def done(
        self,
        name: str,
        inputs: Sequence[Path],
        parameters: dict[str, Any],
        output: Path,
        do: Action,
    ) -> Path:
        """Make `output` by `do` unless it is current; returns it."""

        def refuse(_: str) -> None:
            raise NotDoneError(name)

        action = refuse if self.only_done else do
        output.parent.mkdir(parents=True, exist_ok=True)
        run_step(Step(name, inputs, parameters, [output], action), self.out / ".steps")
        return output

    def each(self, seeds: Sequence[int], run: Callable[[int], R]) -> dict[int, R]:
        """Seed -> what `run` made; with `only_done` without the seeds that are not done."""
        results = {}
        for seed in seeds:
            try:
                results[seed] = run(seed)
            except NotDoneError as e:
                log.info("%s: %s is not done, left out", self.name, e)
        return results

    # -- labels

    def labels(self, role: str) -> Path:
        """The labels that the workflow names for a role, burned as they are."""
        settings = self.role(role).model_copy(update={"align": False, "ignore_buffer": 0.0})
        return self.rasterized_labels(
            role,
            role,
            lambda: label_source(settings, self.scheme, self.scene(role)),
            label_files(settings, self.scheme),
        )

    def rasterized_labels(
        self, name: str, role: str, source: Callable[[], LabelSource], files: Sequence[Path]
    ) -> Path:
        """Labels of `source`, which come from `files`, on the scene of a role."""
        settings = self.role(role)
        target = self.out / "labels" / f"{name}.tif"

        def rasterize_labels(_: str) -> None:
            write_label_raster(self.scene(role), source(), target, overwrite=True)

        parameters = {"scene": settings.scene, "bands": settings.bands, "nodata": settings.nodata}
        inputs = [*scene_files(settings), *files]
        return self.done(f"labels-{name}", inputs, parameters, target, rasterize_labels)

    def pool(self, role: str, labels: Path, net: SegmentationModel, plan: Plan) -> PatchPool:
        """Blocks of the scene of a role with `labels`."""
        scene = self.scene(role)
        grid = NetworkGrid.of(scene.geobox, network_gsd(self.workflow))
        source = RasterLabels.open(labels, self.scheme)
        return build_pool(
            scene, source, grid, halo=net.halo, patch=plan.patch, seed=plan.seed, stride=net.stride
        )

    # -- training

    def coarse(self, name: str, labels: Path, plan: BaseNetworkPlan) -> Path:
        """A base network trained on `labels` of the training scene; returns its Checkpoint."""
        out = self.out / name / "base.safetensors"

        def train(key: str) -> None:
            scene, gsd = self.scene("train"), network_gsd(self.workflow)
            pool = self.pool(
                "train", labels, SegmentationModel(build_base_network(1, 2, plan.net)), plan
            )
            _, record = train_base_network(
                pool, self.scheme, plan, dtype=scene.dtype, gsd=gsd, out=out, key=key
            )
            record.save(out.with_suffix(".json"))

        step = f"{name.replace('/', '-')}-coarse"
        return self.done(
            step, [labels], _telling(plan, BaseNetworkPlan.of(plan.net, "paper")), out, train
        )

    def refined(
        self, name: str, coarse: Path, plan: RefinementPlan, labels: Path | None = None
    ) -> Path:
        """`base` and its refinement, trained on the enhancement tile; returns the Checkpoint."""
        out = self.out / name / "refined.safetensors"
        truth = labels or self.labels("enhance")

        def train(key: str) -> None:
            model = Checkpoint.load(coarse)
            refinement = RefinementRNN(1, 2, iterations=plan.iterations)
            pool = self.pool("enhance", truth, SegmentationModel(model.net.base, refinement), plan)
            _, record = train_refinement(model, pool, plan, out=out, key=key)
            record.save(out.with_suffix(".json"))

        step = f"{name.replace('/', '-')}-refined"
        return self.done(step, [coarse, truth], _telling(plan, RefinementPlan()), out, train)

    def finetuned(self, name: str, model: Path, seed: int, net: BaseNetworkName = "cnn") -> Path:
        """`model`, a base network alone, trained on with the enhancement tile."""
        out = self.out / name / "finetuned.safetensors"
        plan, truth = FineTuningPlan.of(net, "paper", seed=seed), self.labels("enhance")

        def train(key: str) -> None:
            start = Checkpoint.load(model)
            pool = self.pool("enhance", truth, start.net, plan)
            _, record = fine_tune(start, pool, plan, out=out, key=key)
            record.save(out.with_suffix(".json"))

        step = f"{name.replace('/', '-')}-finetuned"
        return self.done(
            step, [model, truth], _telling(plan, FineTuningPlan.of(net, "paper")), out, train
        )

    def refine_plan(self, seed: int, **changes: Any) -> RefinementPlan:
        """The refinement as the workflow wants it."""
        overrides = self.workflow.refinement.model_dump(
            exclude={"kind", "calibrate"}, exclude_none=True
        )
        plan = RefinementPlan(**overrides, seed=seed)
        return replace(plan, **changes)

    # -- judging

    def evaluated(self, name: str, model: Path, role: str = "test") -> IterationMetrics:
        """The model's maps of a scene after 0, 1... iterations, compared with its labels."""
        folder = self.out / name / f"evaluation-{role}"
        truth = self.labels(role)

        def run_evaluation(_: str) -> None:
            evaluate_steps(
                self.scene(role), [model], truth, fresh_folder(folder), Engine(restart=True)
            )

        self.done(f"{name.replace('/', '-')}-{role}", [model, truth], {}, folder, run_evaluation)
        return IterationMetrics.load(folder)

    def scored(self, name: str, map_path: Path, role: str = "test") -> Metrics:
        """A class map compared with the labels of a role."""
        truth, out = self.labels(role), self.out / name / "metrics.json"

        def run_evaluation(_: str) -> None:
            metrics = evaluate_map(map_path, truth, scheme=self.scheme).to_dict()
            out.write_text(json.dumps(metrics))

        self.done(f"{name.replace('/', '-')}-metrics", [map_path, truth], {}, out, run_evaluation)
        return Metrics.read(out)


def _telling(plan: Any, default: Any) -> dict[str, Any]:
    """What of a plan is not as by default: a new option with a default changes no step."""
    standard = asdict(default)
    return {k: v for k, v in asdict(plan).items() if v != standard[k]} | {"steps": plan.steps}
