"""Run a workflow: labels, base network, refinement, map, evaluation, report."""

import logging
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch

from geopipe import __version__
from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.classes import ClassScheme, load_scheme
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.evaluation.iterations import IterationMetrics, evaluate_steps, quick_score
from geopipe.evaluation.raster_objects import ObjectCounts, count_objects
from geopipe.files import MARK
from geopipe.grid import NetworkGrid
from geopipe.labels import RasterLabels, is_fetched, write_label_raster
from geopipe.learn.base_network import train_base_network
from geopipe.learn.calibration import FOLDS, calibrated, cross_fitted
from geopipe.learn.domain import learn_domain
from geopipe.learn.fine_tuning import FineTuningPlan, fine_tune
from geopipe.learn.loop import TrainingHistory
from geopipe.learn.refinement import RefinementPlan, train_refinement
from geopipe.learn.sampler import MAX_PX, PatchPool, build_pool, join_pools, require_classes
from geopipe.learn.start import StartModel
from geopipe.mapping import Budget, Engine, Workers, choose_device
from geopipe.nets import RefinementRNN, SegmentationModel, build_base_network
from geopipe.progress import announce
from geopipe.raster import Scene
from geopipe.raster.inputs import LeftOut
from geopipe.raster.remote import consent
from geopipe.raster.undeclared import warn_of_nodata
from geopipe.report.closeups import close_up, select_windows
from geopipe.report.map_report import CloseUp, Report, write_report
from geopipe.report.provenance import training_facts
from geopipe.report.summary import curves, lead_table, methods, summary_text
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.estimate import TimeEstimate, Work, estimate
from geopipe.workflow.map_summary import counted, overview, overview_gsd
from geopipe.workflow.model_items import describe_model
from geopipe.workflow.schema import LabelledScene, SceneSettings, Workflow
from geopipe.workflow.sources import (
    base_network_plan,
    check_labels,
    check_scenes,
    fine_tuning_plan,
    label_files,
    label_source,
    missing_classes,
    network_gsd,
    open_mosaic_of,
    open_scene,
    readable_scenes,
    refinement_plan,
    scene_files,
    shared_ground,
    training_roles,
)
from geopipe.workflow.steps import Step, fresh_folder, is_current, run_step

log = logging.getLogger(__name__)

Trained = tuple[Checkpoint, TrainingHistory]
_Plan = TypeVar("_Plan", RefinementPlan, FineTuningPlan)

_ANNOUNCED_FROM_S = 30.0
"""A run that takes no longer than this does not say so."""
_MIN_MEASURED_STEPS = 50
"""Training steps; fewer are taken in the time that a measurement takes."""
_BLUNT = "the map comes from the base network alone, so its outlines are blunt"
CHECK_EVERY = 100
"""Training steps between two looks at the enhancement tile."""


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """What a workflow leaves behind."""

    maps: tuple[Path, ...]
    """Folders, one per mapped scene."""
    model: Path
    report: Path
    mean_iou: tuple[float, ...]
    """On the test scene after 0, 1... iterations; empty without one."""
    left_out: LeftOut
    """Scenes that could not be read, with `skip_bad`, and why."""


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """What a workflow would do."""

    steps: tuple[tuple[str, bool], ...]
    """Name, and whether nothing changed, so that the step is skipped."""
    left_out: LeftOut
    estimate: TimeEstimate | None
    """None where no network is still to be trained on the CPU."""


def plan_workflow(workflow: Workflow) -> WorkflowPlan:
    """What `run_workflow` would do; nothing is written. Raises what it raises before its steps."""
    with consent(workflow.remote):
        readable, left_out = readable_scenes(workflow)
        chain = WorkflowRun(readable)
        chain.check_inputs()
        chain.check_labels()
        steps = [(s.name, is_current(s, chain.records)) for s in chain.steps()]
        return WorkflowPlan(tuple(steps), left_out, chain.expected_time(chain.steps()))


def run_workflow(workflow: Workflow) -> WorkflowResult:
    """Run every step of `workflow` whose inputs, parameters or outputs changed."""
    with consent(workflow.remote):
        return _run(workflow)


def _run(workflow: Workflow) -> WorkflowResult:
    workflow, left_out = readable_scenes(workflow)
    chain = WorkflowRun(workflow)
    chain.check()
    if not workflow.enhance:
        log.warning("no [enhance] tile with accurate labels: %s", _BLUNT)
    chain.run(chain.steps())
    report, evaluation = chain.report(), chain.evaluation()
    return WorkflowResult(
        tuple(dict.fromkeys(chain.map_folder(c) for c in workflow.map_scenes())),
        chain.model,
        report,
        tuple(m.mean_iou for m in evaluation.steps) if evaluation else (),
        left_out,
    )


def train_workflow(workflow: Workflow) -> Path:
    """Run the steps of `workflow` up to its model, and return the model's file."""
    chain = WorkflowRun(workflow)
    chain.check()
    if not workflow.enhance:
        log.warning("no tile with accurate labels: %s", _BLUNT)
    chain.run(chain.training_steps())
    return chain.model


class WorkflowRun:
    """The steps of one workflow and where their outputs lie."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.scheme: ClassScheme = load_scheme(workflow.classes)
        self.out = workflow.out
        self.records = self.out / ".steps"
        self.base = self.out / "base.safetensors"
        self.refined = self.out / "refined.safetensors"
        self.timings: dict[str, float] = {}
        roles = {"enhance": workflow.enhance, "test": workflow.test}
        self.trained = training_roles(workflow)
        self.roles = self.trained | {k: v for k, v in roles.items() if v}

    @cached_property
    def device(self) -> str:
        """Where nets run."""
        return choose_device(self.workflow.device)

    @cached_property
    def gsd(self) -> float:
        """Metres on the ground per pixel of the networks."""
        return network_gsd(self.workflow)

    @property
    def engine(self) -> Engine:
        """How tiles are computed; a step that has other inputs than its unfinished map restarts."""
        w, chosen = self.workflow, self.workflow.map
        return Engine(
            self.device,
            Workers(w.workers, chosen.scheduler, chosen.threads),
            Budget(chosen.tile_size, chosen.ram, chosen.vram),
            chosen.precision,
            skip_bad=chosen.skip_bad,
            restart=True,
            inexact=chosen.inexact,
        )

    @property
    def model(self) -> Path:
        """The Checkpoint that maps."""
        return self.refined if self.workflow.enhance else self.base

    def check(self) -> None:
        """Raise what can be known before hours are spent."""
        self.check_inputs()
        self._require_output()
        self.check_labels()
        self._mapped()  # files that make no mosaic are named now

    def check_labels(self) -> None:
        """Open the labels of all roles, before those of the first are aligned."""
        for name, choice in self.roles.items():
            is_local = not is_fetched(choice.labels)
            if is_local and not is_current(self._labels_step(name, choice), self.records):
                one_of_several = name in self.trained and len(self.trained) > 1
                check_labels(name, choice, self.scheme, all_classes=not one_of_several)

    def check_inputs(self) -> None:
        """As `check`, without writing anything."""
        _ = self.device
        check_scenes(self.workflow)
        warn_of_nodata(open_scene(choice) for choice in self.roles.values())
        names = {p.name for p in self.out.iterdir()} if self.out.is_dir() else set()
        if names and not names & {MARK, self.records.name}:
            raise ConfigError(
                f"{self.out} holds files that no workflow made", "give a new folder as `out`"
            )

    def _require_output(self) -> None:
        try:
            self.records.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise SceneError(
                f"cannot write into {self.out}: {e.strerror}", "choose a folder that is writable"
            ) from e
        if not os.access(self.out, os.W_OK):
            raise SceneError(f"cannot write into {self.out}", "choose a folder that is writable")

    def run(self, steps: Sequence[Step]) -> None:
        """Run those of `steps` that are not current."""
        for step in steps:
            if step.name == "base":  # what the labels lack is known by now
                self.announce_time(steps)
            _, self.timings[step.name] = run_step(step, self.records)

    def announce_time(self, steps: Sequence[Step]) -> None:
        """Say what the rest will take, where a network is still to be trained on the CPU."""
        expected = self.expected_time(steps)
        if expected and expected.total > _ANNOUNCED_FROM_S:
            announce(expected.sentence())

    def expected_time(self, steps: Sequence[Step]) -> TimeEstimate | None:
        """What trainings on the CPU and maps take; None where it is not worth measuring."""
        trained = [s for s in steps if s.name in ("base", "refinement")]
        if self.device != "cpu" or all(is_current(s, self.records) for s in trained):
            return None
        maps = any(s.name.startswith("map-") for s in steps)
        work = self._work(maps=maps)
        if work.steps < _MIN_MEASURED_STEPS:
            return None
        return estimate(work, self.scheme, len(open_scene(self.workflow.train).bands))

    def _work(self, *, maps: bool) -> Work:
        w = self.workflow
        scenes = {role: open_scene(settings) for role, settings in self.roles.items()}
        grids = {role: NetworkGrid.of(scene.geobox, self.gsd) for role, scene in scenes.items()}
        mapped = [NetworkGrid.of(open_scene(c).geobox, self.gsd) for c in w.map_scenes()]
        mapped += [grids["test"]] if "test" in grids else []
        sharpen: RefinementPlan | FineTuningPlan | None = None
        if w.enhance and w.refinement.kind == "finetune":
            sharpen = fine_tuning_plan(w, scenes["enhance"])
        elif w.enhance:
            sharpen = refinement_plan(w, scenes["enhance"])
        if sharpen and w.calibrates:  # the halves of the tile take as many steps again
            sharpen = replace(sharpen, steps=2 * sharpen.steps)
        mpx = maps * sum(math.prod(grid.shape) for grid in mapped) / 1e6
        return Work(base_network_plan(w, scenes["train"]), sharpen, mpx)

    def steps(self) -> Sequence[Step]:
        """The steps before the report, in their order."""
        steps = self.training_steps()
        if self.workflow.map.mosaic:
            steps.append(self._mosaic_step(self.workflow.map_scenes()))
        else:
            steps += [self._map_step(settings) for settings in self.workflow.map_scenes()]
        if self.workflow.test:
            steps.append(self._evaluation_step(self.workflow.test))
        return steps

    def training_steps(self) -> list[Step]:
        """The steps up to the model, in their order."""
        steps = [self._labels_step(name, choice) for name, choice in self.roles.items()]
        steps.append(self._base_network_step())
        if self.workflow.enhance:
            steps.append(self._refinement_step(self.workflow.enhance))
        return steps

    # -- labels

    def labels(self, name: str) -> Path:
        """The label raster of a role (train, enhance, test)."""
        return self.out / "labels" / f"{name}.tif"

    def _labels_step(self, name: str, settings: LabelledScene) -> Step:
        def write_labels(_: str) -> None:
            scene = open_scene(settings)
            source = label_source(settings, self.scheme, scene)
            target = self.labels(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            tags = {
                "labels": settings.labels.name,
                "align": str(settings.align),
                "ignore_buffer_m": f"{settings.ignore_buffer:g}",
            }
            counts = write_label_raster(scene, source, target, overwrite=True, tags=tags)
            one_of_several = name in self.trained and len(self.trained) > 1
            if counts.missing and not one_of_several:
                raise missing_classes(name, settings, source, counts.missing)

        inputs = [*scene_files(settings), *label_files(settings, self.scheme)]
        parameters = {"choice": settings.model_dump(mode="json"), "scheme": self.scheme.to_dict()}
        target = self.labels(name)
        outputs = [target, target.with_name(target.name + ".aux.xml")]
        return Step(f"labels-{name}", inputs, parameters, outputs, write_labels)

    def _pool(self, names: Iterable[str], net: SegmentationModel, patch: int) -> PatchPool:
        """The labelled blocks of roles."""
        scenes = {name: open_scene(self.roles[name]) for name in names}
        pools = [
            build_pool(
                scene,
                RasterLabels.open(self.labels(name), self.scheme),
                NetworkGrid.of(scene.geobox, self.gsd),
                halo=net.halo,
                patch=patch,
                seed=self.workflow.seed,
                stride=net.stride,
                max_px=MAX_PX // len(scenes),
                every_class=False,
            )
            for name, scene in scenes.items()
        ]
        pool = join_pools(pools) if len(pools) > 1 else pools[0]
        require_classes(pool, self.scheme.names, [scene.path for scene in scenes.values()])
        return pool

    # -- training

    def _base_network_step(self) -> Step:
        w = self.workflow
        plan = base_network_plan(w, open_scene(w.train))

        def train(key: str) -> None:
            scene = open_scene(w.train)
            start = StartModel.open(w.train.start) if w.train.start else None
            base = start.model.net.base if start else build_base_network(1, 2, plan.net)
            _, record = train_base_network(
                self._pool(self.trained, SegmentationModel(base), plan.patch),
                self.scheme,
                plan,
                dtype=scene.dtype,
                gsd=self.gsd,
                out=self.base,
                key=key,
                device=self.device,
                start=start,
                check=self._enhance_check(),
                check_every=CHECK_EVERY,
            )
            self._learn_domain(self.base, self.trained)
            record.save(_record(self.base))
            describe_model(self.base, w)

        inputs = [file for part in w.train.parts for file in scene_files(part)]
        inputs += [self.labels(name) for name in self.trained]
        if w.train.start:
            inputs.append(w.train.start)
        pixels = [{"bands": part.bands, "nodata": part.nodata} for part in w.train.parts]
        parameters = {"plan": asdict(plan), "gsd": self.gsd, "scenes": pixels}
        return Step("base", inputs, parameters, [self.base, _record(self.base)], train)

    def _learn_domain(self, path: Path, names: Iterable[str]) -> None:
        """Add to the model `path` what the scenes of roles look like to it."""
        model = Checkpoint.load(path)
        sources = [
            (open_scene(self.roles[name]), RasterLabels.open(self.labels(name), self.scheme))
            for name in names
        ]
        domain = learn_domain(model, sources, self.workflow.seed)
        replace(model, domain=domain).save(path)

    def _enhance_check(self) -> Callable[[Checkpoint], float] | None:
        """The base network's mean IoU on the enhancement tile, which it is not trained on."""
        if not self.workflow.enhance:
            return None
        scene, truth = open_scene(self.workflow.enhance), self.labels("enhance")
        return lambda model: quick_score(model, scene, truth, self.device)

    def _refinement_step(self, settings: LabelledScene) -> Step:
        w = self.workflow
        if w.refinement.kind == "finetune":
            return self._finetuning_step(settings)
        plan = refinement_plan(w, open_scene(settings))

        def train(key: str) -> None:
            base = Checkpoint.load(self.base)
            refinement = RefinementRNN(1, 2, iterations=plan.iterations)
            pool = self._pool(["enhance"], SegmentationModel(base.net.base, refinement), plan.patch)

            def fitted(pool: PatchPool, plan: RefinementPlan, out: Path) -> Trained:
                return train_refinement(base, pool, plan, out=out, key=key, device=self.device)

            _, record = fitted(pool, plan, self.refined)
            self._calibrate(pool, plan, fitted)
            record.save(_record(self.refined))
            describe_model(self.refined, w, base=self.base, refined=True)

        inputs = [*scene_files(settings), self.labels("enhance"), self.base]
        parameters = {"plan": asdict(plan), **self._refinement_parameters(settings)}
        return Step("refinement", inputs, parameters, [self.refined, _record(self.refined)], train)

    def _refinement_parameters(self, settings: LabelledScene) -> dict[str, object]:
        return {
            "bands": settings.bands,
            "nodata": settings.nodata,
            "calibrate": self.workflow.calibrates,
        }

    def _finetuning_step(self, settings: LabelledScene) -> Step:
        w = self.workflow
        plan = fine_tuning_plan(w, open_scene(settings))

        def train(key: str) -> None:
            model = Checkpoint.load(self.base)
            pool = self._pool(["enhance"], model.net, plan.patch)

            def fitted(pool: PatchPool, plan: FineTuningPlan, out: Path) -> Trained:
                return fine_tune(model, pool, plan, out=out, key=key, device=self.device)

            _, record = fitted(pool, plan, self.refined)
            self._calibrate(pool, plan, fitted)
            self._learn_domain(self.refined, [*self.trained, "enhance"])
            record.save(_record(self.refined))
            describe_model(self.refined, w, base=self.base, refined=True)

        inputs = [*scene_files(settings), self.labels("enhance"), self.base]
        parameters = {"finetune": asdict(plan), **self._refinement_parameters(settings)}
        return Step("refinement", inputs, parameters, [self.refined, _record(self.refined)], train)

    def _calibrate(
        self, pool: PatchPool, plan: _Plan, fitted: Callable[[PatchPool, _Plan, Path], Trained]
    ) -> None:
        """Give the refined model the temperature of what it does not learn from.

        The networks of the halves take half of the steps: they see each pixel as often.
        """
        if not self.workflow.calibrates:
            return
        half = replace(plan, steps=max(plan.steps // FOLDS, 1))
        with TemporaryDirectory(dir=self.records) as folder:

            def trained(pool: PatchPool, fold: int) -> Checkpoint:
                return fitted(pool, half, Path(folder) / f"half-{fold}.safetensors")[0]

            held_out = cross_fitted(pool, trained, self.workflow.seed)
        if held_out:
            calibrated(Checkpoint.load(self.refined), held_out).save(self.refined)

    # -- mapping and judging

    def map_folder(self, settings: SceneSettings) -> Path:
        """The bundle of a scene."""
        name = "mosaic" if self.workflow.map.mosaic else Path(settings.scene).stem
        return self.out / "map" / name

    @property
    def _map_options(self) -> MapOptions:
        chosen = self.workflow.map
        return MapOptions(
            self.engine,
            chosen.scores,
            chosen.confidence,
            chosen.vectors,
            chosen.orthogonalize,
            overwrite=True,
            min_area=chosen.min_area,
        )

    def _map_step(self, settings: SceneSettings) -> Step:
        folder = self.map_folder(settings)

        def make(_: str) -> None:
            write_bundle(open_scene(settings), self.model, folder, self._map_options)

        parameters = {"choice": settings.model_dump(mode="json"), **self._map_parameters()}
        name = f"map-{folder.name}"
        return Step(name, [*scene_files(settings), self.model], parameters, [folder], make)

    def _mosaic_step(self, choices: Sequence[SceneSettings]) -> Step:
        """One map of all scenes."""
        folder = self.map_folder(choices[0])

        def make(_: str) -> None:
            write_bundle(self._mapped(), self.model, folder, self._map_options)

        files = [file for choice in choices for file in scene_files(choice)]
        parameters = {
            "mosaic": [choice.model_dump(mode="json") for choice in choices],
            **self._map_parameters(),
        }
        return Step("map-mosaic", [*files, self.model], parameters, [folder], make)

    def _mapped(self) -> Scene:
        """The first scene that is mapped; of a mosaic all of it."""
        scenes = self.workflow.map_scenes()
        if self.workflow.map.mosaic:
            return open_mosaic_of(scenes, self.records / "mosaic" / "mosaic.vrt")
        return open_scene(scenes[0])

    def _map_parameters(self) -> dict[str, object]:
        names = {"scores", "confidence", "vectors", "orthogonalize", "precision", "min_area"}
        return self.workflow.map.model_dump(include=names | {"tile_size", "skip_bad", "inexact"})

    def _evaluation_step(self, settings: LabelledScene) -> Step:
        folder = self.out / "evaluation"

        def evaluate(_: str) -> None:
            evaluate_steps(
                open_scene(settings),
                self._evaluated(),
                self.labels("test"),
                fresh_folder(folder),
                replace(self.engine, skip_bad=False),
                min_area=self.workflow.map.min_area,
            )

        inputs = [*scene_files(settings), *self._evaluated(), self.labels("test")]
        parameters = {
            "choice": settings.model_dump(mode="json"),
            "min_area": self.workflow.map.min_area,
        }
        return Step("evaluation", inputs, parameters, [folder], evaluate)

    def _evaluated(self) -> list[Path]:
        """The models whose maps are compared; a refinement holds the net before it."""
        w = self.workflow
        is_fine_tuned = w.enhance is not None and w.refinement.kind == "finetune"
        return [self.base, self.refined] if is_fine_tuned else [self.model]

    def evaluation(self) -> IterationMetrics | None:
        """How the map did after each iteration; None without a test scene."""
        return IterationMetrics.load(self.out / "evaluation") if self.workflow.test else None

    # -- report

    def report(self) -> Path:
        """Write the report of the whole workflow and return its page."""
        first_map = self.workflow.map_scenes()[0]
        evaluation = self.evaluation()
        if evaluation:
            refined = self.model == self.refined
            base, last = self.base if refined else None, evaluation.steps[-1]
            describe_model(self.model, self.workflow, base=base, refined=refined, metrics=last)
        paths = {"base network": self.base}
        if self.workflow.enhance:
            paths["refinement"] = self.refined
        steps = evaluation.steps if evaluation else ()
        names, objects = self.workflow.names, self._objects(evaluation)
        tile = self.workflow.enhance
        scene = self._mapped()
        picture = overview(scene, self.map_folder(first_map) / "classes.tif")
        report = Report(
            title=self.workflow.name,
            scheme=self.scheme,
            summary=summary_text(steps, names, objects),
            lead=lead_table(steps, names, objects),
            metrics=methods(steps, names) if steps else (),
            iterations=steps if len(steps) > 1 else (),
            curves=curves(
                {name: TrainingHistory.load(_record(p)) for name, p in paths.items()},
                tile_apart=not tile
                or not any(shared_ground(tile, part) for part in self.workflow.train.parts),
            ),
            reliability=evaluation.reliability if evaluation else None,
            closeups=tuple(self._closeups(self.workflow.test, evaluation)),
            overview=picture,
            overview_gsd=overview_gsd(scene, picture[0]),
            timings=tuple(self.timings.items()),
            facts=self._facts(),
        )
        return write_report(self.out / "report", report)[0]

    def _objects(self, evaluation: IterationMetrics | None) -> dict[str, ObjectCounts]:
        """Objects of the classes whose areas are counted, in the truth and in the last map."""
        if evaluation is None:
            return {}
        counts_by_class = {
            c.name: count_objects(evaluation.maps[-1], self.labels("test"), k)
            for k, c in enumerate(self.scheme.classes)
            if k and counted(c)
        }
        return {name: counts for name, counts in counts_by_class.items() if counts}

    def _closeups(
        self, test: LabelledScene | None, evaluation: IterationMetrics | None
    ) -> Iterator[CloseUp]:
        if test is None or evaluation is None:
            return
        scene, truth, size = open_scene(test), self.labels("test"), self.workflow.report
        try:  # what the training labels say here, where they reach this far
            as_they_are = self.workflow.train.model_copy(
                update={"align": False, "ignore_buffer": 0}
            )
            labels = label_source(as_they_are, self.scheme, scene)
        except LabelError:
            noisy = None
        else:
            noisy = ("training labels", labels)
        for window in select_windows(truth, size.closeups, size.closeup_px):
            yield close_up(scene, window, noisy, truth, evaluation, self.workflow.names)

    def _facts(self) -> tuple[tuple[str, str], ...]:
        model = Checkpoint.load(self.model)
        return (
            ("software", f"geopipe {__version__}, torch {torch.__version__}"),
            ("device", self.device),
            ("machine", f"{os.cpu_count()} processors, {platform.machine()}"),
            ("seed", str(self.workflow.seed)),
            ("model", f"{self.model.name}, sha256 {file_hash(self.model)}"),
            ("training labels", "; ".join(map(_label_text, self.workflow.train.parts))),
            *training_facts(model.provenance),
        )


def _label_text(settings: LabelledScene) -> str:
    """Which labels, and what is done to them before anything learns from them."""
    done = ["aligned to the image" if settings.align else "as they are"]
    if settings.ignore_buffer:
        done.append(f"{settings.ignore_buffer:g} m along outlines ignored")
    return f"{settings.labels.name}, {', '.join(done)}"


def _record(model: Path) -> Path:
    """Where the losses of a model's training are kept."""
    return model.with_suffix(".json")
