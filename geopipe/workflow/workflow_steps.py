"""All steps of a workflow: to its model, its maps and their evaluation."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geopipe.errors import ConfigError, SceneError
from geopipe.evaluation.iterations import IterationMetrics, evaluate_steps
from geopipe.files import MARK
from geopipe.grid import NetworkGrid
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.learn.refinement import RefinementPlan
from geopipe.mapping import Budget, Engine, Workers
from geopipe.progress import announce
from geopipe.raster import Scene
from geopipe.raster.undeclared import warn_of_nodata
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.bundle_folder import OUTPUT_NAMES
from geopipe.workflow.estimate import TimeEstimate, Work, estimate
from geopipe.workflow.schema import LabelledScene, SceneSettings
from geopipe.workflow.sources import (
    base_network_plan,
    check_scenes,
    fine_tuning_plan,
    open_mosaic_of,
    open_scene,
    refinement_plan,
    scene_files,
)
from geopipe.workflow.steps import Step, fresh_folder, is_current, run_step
from geopipe.workflow.training_steps import TrainingSteps

_ANNOUNCED_FROM_S = 30.0
"""A run that takes no longer than this does not say so."""
_MIN_MEASURED_STEPS = 50
"""Training steps; fewer are taken in the time that a measurement takes."""


class WorkflowRun(TrainingSteps):
    """All steps of one workflow and where their outputs lie."""

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
            flips=chosen.flips,
        )

    def check(self) -> None:
        """Raise what can be known before hours are spent."""
        self.check_inputs()
        self._require_output()
        self.check_labels()
        self._mapped()  # files that make no mosaic are named now

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
        outputs = [folder / n for n in OUTPUT_NAMES]
        return Step(name, [*scene_files(settings), self.model], parameters, outputs, make)

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
        outputs = [folder / n for n in OUTPUT_NAMES]
        return Step("map-mosaic", [*files, self.model], parameters, outputs, make)

    def _mapped(self) -> Scene:
        """The first scene that is mapped; of a mosaic all of it."""
        scenes = self.workflow.map_scenes()
        if self.workflow.map.mosaic:
            return open_mosaic_of(scenes, self.records / "mosaic" / "mosaic.vrt")
        return open_scene(scenes[0])

    def _map_parameters(self) -> dict[str, object]:
        names = {
            "scores",
            "confidence",
            "vectors",
            "orthogonalize",
            "precision",
            "flips",
            "min_area",
        }
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
