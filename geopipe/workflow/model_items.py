"""STAC items of the models that a workflow trains."""

from pathlib import Path

from geopipe.checkpoint.stac_item import write_model_item
from geopipe.metrics import Metrics
from geopipe.raster.remote import display_name
from geopipe.workflow.schema import LabelledScene, Workflow
from geopipe.workflow.sources import open_scene


def describe_model(
    path: Path,
    workflow: Workflow,
    *,
    base: Path | None = None,
    refined: bool = False,
    metrics: Metrics | None = None,
) -> None:
    """Write the item of the model `path`: where it was trained, on what, how well it does.

    `base`: the model that it was made from. `refined`: the accurate tile is part of the training
    data. `metrics`: of the map of the test scene.
    """
    data = _names("", workflow.train)
    if workflow.enhance and refined:
        data |= _names("accurate_", workflow.enhance)
    test = workflow.test and Path(display_name(workflow.test.scene)).name
    write_model_item(
        path,
        place=open_scene(workflow.train).geobox,
        training_data=data,
        derived_from=[base] if base else [],
        metrics={"scene": test, **metrics.to_dict()} if metrics else None,
    )


def _names(role: str, settings: LabelledScene) -> dict[str, str]:
    return {
        f"{role}scene": Path(display_name(settings.scene)).name,
        f"{role}labels": settings.labels.name,
    }
