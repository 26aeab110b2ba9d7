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
from geopipe.grid import NetGrid
from geopipe.jobs import Engine
from geopipe.labels import LabelSource, RasterLabels, write_labels
from geopipe.learn import CoarsePlan, RefinePlan, build_pool, train_coarse, train_refinement
from geopipe.learn.finetune import FinetunePlan, finetune
from geopipe.learn.pool import Pool
from geopipe.nets import MapNet, NetName, RefineNet, build_net
from geopipe.raster import Scene
from geopipe.score.evaluate import evaluate
from geopipe.score.metrics import Metrics
from geopipe.workflow.evaluation import Evaluation, evaluate_steps
from geopipe.workflow.schema import Labelled, Workflow, load_workflow
from geopipe.workflow.sources import label_files, label_source, open_scene, scene_files
from geopipe.workflow.steps import Step, fresh_folder, run_step

log = logging.getLogger(__name__)

Plan = CoarsePlan | RefinePlan | FinetunePlan
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

    def role(self, role: str) -> Labelled:
        """The scene and labels of ``train``, ``enhance`` or ``test``."""
        found: Labelled | None = getattr(self.workflow, role)
        assert found is not None, f"{self.name} has no [{role}]"
        return found

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
        found = {}
        for seed in seeds:
            try:
                found[seed] = run(seed)
            except NotDoneError as e:
                log.info("%s: %s is not done, left out", self.name, e)
        return found

    # -- labels

    def labels(self, role: str) -> Path:
        """The labels that the workflow names for a role, burned as they are."""
        choice = self.role(role).model_copy(update={"align": False, "ignore_band": 0.0})
        return self.burned(
            role,
            role,
            lambda: label_source(choice, self.scheme, self.scene(role)),
            label_files(choice, self.scheme),
        )

    def burned(
        self, name: str, role: str, source: Callable[[], LabelSource], files: Sequence[Path]
    ) -> Path:
        """Labels of `source`, which come from `files`, on the scene of a role."""
        choice = self.role(role)
        target = self.out / "labels" / f"{name}.tif"

        def burn(_: str) -> None:
            write_labels(self.scene(role), source(), target, overwrite=True)

        parameters = {"scene": choice.scene, "bands": choice.bands, "nodata": choice.nodata}
        inputs = [*scene_files(choice), *files]
        return self.done(f"labels-{name}", inputs, parameters, target, burn)

    def pool(self, role: str, labels: Path, net: MapNet, plan: Plan) -> Pool:
        """Blocks of the scene of a role with `labels`."""
        scene = self.scene(role)
        grid = NetGrid.of(scene.geobox, self.workflow.gsd)
        source = RasterLabels.open(labels, self.scheme)
        return build_pool(
            scene, source, grid, halo=net.halo, patch=plan.patch, seed=plan.seed, stride=net.stride
        )

    # -- training

    def coarse(self, name: str, labels: Path, plan: CoarsePlan) -> Path:
        """A coarse net trained on `labels` of the training scene; returns its Checkpoint."""
        out = self.out / name / "coarse.safetensors"

        def train(key: str) -> None:
            scene = self.scene("train")
            pool = self.pool("train", labels, MapNet(build_net(1, 2, plan.net)), plan)
            _, record = train_coarse(
                pool, self.scheme, plan, dtype=scene.dtype, gsd=self.workflow.gsd, out=out, key=key
            )
            record.save(out.with_suffix(".json"))

        step = f"{name.replace('/', '-')}-coarse"
        return self.done(
            step, [labels], _telling(plan, CoarsePlan.of(plan.net, "paper")), out, train
        )

    def refined(
        self, name: str, coarse: Path, plan: RefinePlan, labels: Path | None = None
    ) -> Path:
        """`coarse` and its refinement, trained on the enhancement tile; returns the Checkpoint."""
        out = self.out / name / "refined.safetensors"
        truth = labels or self.labels("enhance")

        def train(key: str) -> None:
            model = Checkpoint.load(coarse)
            reach = RefineNet(1, 2, iterations=plan.iterations)
            pool = self.pool("enhance", truth, MapNet(model.net.coarse, reach), plan)
            _, record = train_refinement(model, pool, plan, out=out, key=key)
            record.save(out.with_suffix(".json"))

        step = f"{name.replace('/', '-')}-refined"
        return self.done(step, [coarse, truth], _telling(plan, RefinePlan()), out, train)

    def finetuned(self, name: str, model: Path, seed: int, net: NetName = "cnn") -> Path:
        """`model`, a score net alone, trained on with the enhancement tile."""
        out = self.out / name / "finetuned.safetensors"
        plan, truth = FinetunePlan.of(net, seed=seed), self.labels("enhance")

        def train(key: str) -> None:
            start = Checkpoint.load(model)
            pool = self.pool("enhance", truth, start.net, plan)
            _, record = finetune(start, pool, plan, out=out, key=key)
            record.save(out.with_suffix(".json"))

        step = f"{name.replace('/', '-')}-finetuned"
        return self.done(step, [model, truth], _telling(plan, FinetunePlan.of(net)), out, train)

    def refine_plan(self, seed: int, **changes: Any) -> RefinePlan:
        """The refinement as the workflow wants it."""
        chosen = self.workflow.refinement.model_dump(exclude={"kind"}, exclude_none=True)
        plan = RefinePlan(**chosen, seed=seed)
        return replace(plan, **changes)

    # -- judging

    def evaluated(self, name: str, model: Path, role: str = "test") -> Evaluation:
        """The model's maps of a scene after 0, 1... iterations, compared with its labels."""
        folder = self.out / name / f"evaluation-{role}"
        truth = self.labels(role)

        def judge(_: str) -> None:
            evaluate_steps(
                self.scene(role), [model], truth, fresh_folder(folder), Engine(restart=True)
            )

        self.done(f"{name.replace('/', '-')}-{role}", [model, truth], {}, folder, judge)
        return Evaluation.load(folder)

    def scored(self, name: str, made: Path, role: str = "test") -> Metrics:
        """A class map compared with the labels of a role."""
        truth, out = self.labels(role), self.out / name / "metrics.json"

        def judge(_: str) -> None:
            found = evaluate(made, truth, scheme=self.scheme).to_dict()
            out.write_text(json.dumps(found))

        self.done(f"{name.replace('/', '-')}-metrics", [made, truth], {}, out, judge)
        return Metrics.from_dict(json.loads(out.read_text()))


def _telling(plan: Any, default: Any) -> dict[str, Any]:
    """What of a plan is not as by default: a new option with a default changes no step."""
    standard = asdict(default)
    return {k: v for k, v in asdict(plan).items() if v != standard[k]} | {"steps": plan.steps}
