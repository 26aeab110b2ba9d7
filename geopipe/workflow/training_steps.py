"""The steps of a workflow up to its model: labels, base network, refinement."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from geopipe.checkpoint import Checkpoint
from geopipe.classes import ClassScheme, load_scheme
from geopipe.evaluation.iterations import quick_score
from geopipe.grid import NetworkGrid
from geopipe.labels import CORES, RasterLabels, core_labels, is_fetched, write_label_raster
from geopipe.labels.source import warn_of_unknown_classes
from geopipe.learn.base_network import train_base_network
from geopipe.learn.calibration import FOLDS, Fold, calibrated, cross_fitted, held_out_scores
from geopipe.learn.domain import learn_domain
from geopipe.learn.fine_tuning import FineTuningPlan, fine_tune
from geopipe.learn.interpolation import BUILDINGS_HALFWAY, regularized
from geopipe.learn.loop import TrainingHistory
from geopipe.learn.refinement import RefinementPlan, train_refinement
from geopipe.learn.sampler import MAX_PX, PatchPool, build_pool, join_pools, require_classes
from geopipe.mapping import choose_device
from geopipe.nets import RefinementRNN, SegmentationModel, build_base_network
from geopipe.workflow.model_items import describe_model
from geopipe.workflow.schema import LabelledScene, Workflow
from geopipe.workflow.sources import (
    base_network_plan,
    check_labels,
    fine_tuning_plan,
    label_files,
    label_source,
    missing_classes,
    network_gsd,
    open_scene,
    refinement_plan,
    scene_files,
    start_model,
    training_roles,
)
from geopipe.workflow.steps import Step, is_current

Trained = tuple[Checkpoint, TrainingHistory]
_Plan = TypeVar("_Plan", RefinementPlan, FineTuningPlan)
_Fit = Callable[[PatchPool, _Plan, Path], Trained]

CORE_PX = 1.5
"""Pixels of the network along the outline of a building that are not of its core."""

CHECK_EVERY = 100
"""Training steps between two looks at the enhancement tile."""


class TrainingSteps:
    """The steps up to the model of one workflow, and where their outputs lie."""

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
    def model(self) -> Path:
        """The Checkpoint that maps."""
        return self.refined if self.workflow.enhance else self.base

    def labels(self, name: str) -> Path:
        """The label raster of a role (train, enhance, test)."""
        return self.out / "labels" / f"{name}.tif"

    def cores(self, name: str) -> Path:
        """The raster of the cores of buildings, where the labels of a role tell them apart."""
        return self.out / "labels" / f"{name}-cores.tif"

    def check_labels(self) -> None:
        """Open the labels of all roles, before those of the first are aligned."""
        for name, choice in self.roles.items():
            is_local = not is_fetched(choice.labels)
            if is_local and not is_current(self._labels_step(name, choice), self.records):
                one_of_several = name in self.trained and len(self.trained) > 1
                check_labels(name, choice, self.scheme, all_classes=not one_of_several)

    def training_steps(self) -> list[Step]:
        """The steps up to the model, in their order."""
        steps = [self._labels_step(name, choice) for name, choice in self.roles.items()]
        steps.append(self._base_network_step())
        if self.workflow.enhance:
            steps.append(self._refinement_step(self.workflow.enhance))
        return steps

    def _labels_step(self, name: str, settings: LabelledScene) -> Step:
        # Only a network that scores cores looks at them, and only where it learns.
        learns_cores = self.workflow.base.net == "lite-unet" and name != "test"

        def write_labels(_: str) -> None:
            scene = open_scene(settings)
            source = label_source(settings, self.scheme, scene)
            warn_of_unknown_classes(source, str(settings.labels))
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
            self.cores(name).unlink(missing_ok=True)
            cores = core_labels(source, CORE_PX * self.gsd) if learns_cores else None
            if cores:
                write_label_raster(scene, cores, self.cores(name), overwrite=True)

        inputs = [*scene_files(settings), *label_files(settings, self.scheme)]
        parameters = {
            "choice": settings.model_dump(mode="json", exclude={"start", "also"}),
            "scheme": self.scheme.to_dict(),
            "core_depth_m": CORE_PX * self.gsd if learns_cores else None,
        }
        target = self.labels(name)
        outputs = [target, target.with_name(target.name + ".aux.xml"), self.cores(name)]
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
                cores=self._cores_of(name),
            )
            for name, scene in scenes.items()
        ]
        pool = join_pools(pools) if len(pools) > 1 else pools[0]
        require_classes(pool, self.scheme.names, [scene.path for scene in scenes.values()])
        return pool

    def _cores_of(self, name: str) -> RasterLabels | None:
        path = self.cores(name)
        return RasterLabels.open(path, CORES) if path.is_file() else None

    def _base_network_step(self) -> Step:
        w = self.workflow
        plan = base_network_plan(w, open_scene(w.train))
        start = start_model(w)

        def train(key: str) -> None:
            scene = open_scene(w.train)
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
            record.save(history_path(self.base))
            describe_model(self.base, w)

        inputs = [file for part in w.train.parts for file in scene_files(part)]
        inputs += [self.labels(name) for name in self.trained]
        inputs += [self.cores(name) for name in self.trained]
        pixels = [{"bands": part.bands, "nodata": part.nodata} for part in w.train.parts]
        parameters = {"plan": asdict(plan), "gsd": self.gsd, "scenes": pixels}
        parameters["start"] = start.sha256 if start else w.train.start
        return Step("base", inputs, parameters, [self.base, history_path(self.base)], train)

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
            record.save(history_path(self.refined))
            describe_model(self.refined, w, base=self.base, refined=True)

        inputs = [*scene_files(settings), self.labels("enhance"), self.base]
        parameters = {"plan": asdict(plan), **self._refinement_parameters(settings)}
        outputs = [self.refined, history_path(self.refined)]
        return Step("refinement", inputs, parameters, outputs, train)

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
            self._calibrate(pool, plan, fitted, model)
            self._learn_domain(self.refined, [*self.trained, "enhance"])
            record.save(history_path(self.refined))
            describe_model(self.refined, w, base=self.base, refined=True)

        inputs = [*scene_files(settings), self.labels("enhance"), self.cores("enhance")]
        inputs.append(self.base)
        parameters = {"finetune": asdict(plan), "buildings_halfway": BUILDINGS_HALFWAY}
        parameters |= self._refinement_parameters(settings)
        outputs = [self.refined, history_path(self.refined)]
        return Step("refinement", inputs, parameters, outputs, train)

    def _calibrate(
        self, pool: PatchPool, plan: _Plan, fit: _Fit[_Plan], base: Checkpoint | None = None
    ) -> None:
        """Give the refined model the temperature of what it does not learn from.

        One that was fine-tuned from `base` is first taken back towards it as far as that asks for.
        The networks of the halves take half of the steps: they see each pixel as often.
        """
        folds: list[Fold] = []
        if self.workflow.calibrates:
            half = replace(plan, steps=max(plan.steps // FOLDS, 1))
            with TemporaryDirectory(dir=self.records) as folder:
                out = Path(folder) / "half.safetensors"
                folds = cross_fitted(pool, lambda pool: fit(pool, half, out)[0])
        model = Checkpoint.load(self.refined)
        if base:
            model, folds = regularized(base, model, folds, pool)
        if folds:
            model = calibrated(model, held_out_scores(folds, self.workflow.seed))
        model.save(self.refined)


def history_path(model: Path) -> Path:
    """Where the losses of a model's training are kept."""
    return model.with_suffix(".json")
