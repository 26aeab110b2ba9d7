"""Maps by random forests, which learn from the same labels as the networks, in their stead."""

from __future__ import annotations

from pathlib import Path

from geopipe.classes import load_scheme
from geopipe.raster import Scene
from geopipe.workflow.schema import Workflow
from geopipe.workflow.sources import open_scene
from geopipe.workflow.workflow_steps import WorkflowRun
from reproduce.maggiori import forest
from reproduce.real.place import Place

LABELS = "labels-"
"""What the names of the steps that make labels begin with."""


def forest_maps(workflow: Workflow, place: Place) -> tuple[Path, dict[str, Path]]:
    """The map of the test part by a forest on noisy labels; by one on the accurate tile, of a role.

    Labels are those of `workflow`, so moved where there is evidence of a shift. Features are of the
    scene's own pixels.
    """
    assert workflow.enhance is not None
    run = WorkflowRun(workflow)
    run.check()
    run.run([step for step in run.training_steps() if step.name.startswith(LABELS)])
    scheme = load_scheme(workflow.classes)
    noisy = open_scene(workflow.train), run.labels("train")
    accurate = open_scene(workflow.enhance), run.labels("enhance")

    def mapped(grown: forest.Forest, role: str, folder: str) -> Path:
        target = workflow.out / folder / role / "classes.tif"
        scene = Scene.open(place.scene(role), nodata=place.nodata)
        forest.apply(grown, scene, scheme, target)
        return target

    on_noisy = forest.train_on_noisy(noisy, accurate, scheme, workflow.seed)
    alone = mapped(on_noisy, "test", "alone")
    on_accurate = forest.train_on_accurate(accurate, scheme, workflow.seed)
    return alone, {role: mapped(on_accurate, role, "map") for role in ("select", "test")}
