"""Open the scenes and labels that a workflow names."""

import logging
from pathlib import Path

import numpy as np
from pyproj import CRS
from shapely import union_all
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.grid import NetworkGrid, Tiling
from geopipe.labels import (
    Area,
    ClippedLabels,
    IgnoreBufferLabels,
    LabelSource,
    VectorLabels,
    default_cache,
    fetch_osm,
    open_labels,
    osm_cache_file,
)
from geopipe.labels.extent import Extent, reproject
from geopipe.learn import BaseNetworkPlan, RefinementPlan
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.raster import Scene
from geopipe.raster.scene import opened
from geopipe.register import RegistrationGrid, fit_labels, shifted_source
from geopipe.workflow.schema import FETCH, LabelledScene, SceneSettings, Workflow

log = logging.getLogger(__name__)

_SHARED = 1e-6
"""Share of the test region that rounding may give to its neighbour."""


def open_scene(choice: SceneSettings) -> Scene:
    """The scene that a workflow names."""
    return Scene.open(choice.scene, choice.bands, choice.nodata)


def scene_files(choice: SceneSettings) -> list[Path]:
    """The files whose change changes the scene: also the sources of a VRT, masks beside it."""
    with opened(choice.scene) as src:
        return sorted({Path(choice.scene), *(Path(name) for name in src.files)})


def label_files(choice: LabelledScene, scheme: ClassScheme) -> list[Path]:
    """The files whose change changes the labels: also what belongs to a Shapefile."""
    path = choice.labels
    if str(path) == FETCH:
        path = osm_cache_file(open_scene(choice).geobox, scheme, default_cache())
    beside = path.parent.glob(f"{path.stem}.*") if path.suffix.lower() == ".shp" else ()
    return sorted({path, *beside, *([choice.area] if choice.area else [])})


def label_source(choice: LabelledScene, scheme: ClassScheme, scene: Scene) -> LabelSource:
    """Its labels, inside its area; ``fetch`` asks OpenStreetMap, once per extent."""
    path = choice.labels
    if str(path) == FETCH:
        path = fetch_osm(scene.geobox, scheme, default_cache())
    labels = open_labels(path, scheme, scene.geobox, choice.layer)
    if choice.area:
        labels = ClippedLabels(labels, Area.open(choice.area, scene.geobox))
    if choice.align:
        labels = aligned(labels, scene, choice.max_shift)
    if not choice.ignore_buffer:
        return labels
    return IgnoreBufferLabels(labels, choice.ignore_buffer, scene.geobox)


def aligned(labels: LabelSource, scene: Scene, most: float) -> LabelSource:
    """`labels` with their vectors moved to where the image shows them; what they cover stays.

    With a warning they stay as they are where nothing can be learnt of them: label rasters, classes
    with hardly a pixel.
    """
    shapes = labels.labels if isinstance(labels, ClippedLabels) else labels
    # A class without a shape: whoever burns the labels says so.
    if isinstance(shapes, VectorLabels) and 0 in shapes.counts[1:]:
        return labels
    try:
        field, _ = fit_labels(RegistrationGrid.of(scene, labels), labels, most)
    except LabelError as e:
        log.warning("the labels of %s are not aligned: %s", scene.path, e.message)
        return labels
    return shifted_source(labels, field)


def check_scenes(workflow: Workflow) -> None:
    """Raise for scenes that a step could not use, before any of them runs."""
    train = open_scene(workflow.train)
    trained: dict[str, LabelledScene] = {"train": workflow.train}
    if workflow.enhance:
        trained["enhance"] = workflow.enhance
    for name, choice in trained.items():
        _require_patch(open_scene(choice), workflow, name)
        if workflow.test:
            require_apart(workflow.test, choice, name)
    judged = (workflow.test,) if workflow.test else ()
    for other in (*trained.values(), *judged, *workflow.map_scenes()):
        scene = open_scene(other)
        if len(scene.bands) != len(train.bands):
            raise SceneError(
                f"{scene.path} gives {len(scene.bands)} bands, the training scene {train.path} "
                f"{len(train.bands)}",
                "choose as many of both with `bands`",
            )
    stems = [Path(mapped.scene).stem for mapped in workflow.map_scenes()]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ConfigError(f"two scenes to map are called '{stem}'", "rename one of them")
    Tiling(train.shape, workflow.map.core)


def base_network_plan(workflow: Workflow, scene: Scene) -> BaseNetworkPlan:
    """How the network learns from the training scene."""
    chosen = workflow.base.model_dump(exclude_none=True)
    plan = BaseNetworkPlan.of(**chosen, schedule=workflow.schedule, seed=workflow.seed)
    return plan.fitted(NetworkGrid.of(scene.geobox, workflow.gsd).shape)


def refinement_plan(workflow: Workflow, scene: Scene) -> RefinementPlan:
    """How the refinement learns from the accurate tile."""
    chosen = workflow.refinement.model_dump(exclude={"kind"}, exclude_none=True)
    plan = RefinementPlan.of(workflow.schedule, **chosen, seed=workflow.seed)
    return plan.fitted(NetworkGrid.of(scene.geobox, workflow.gsd).shape)


def fine_tuning_plan(workflow: Workflow) -> FineTuningPlan:
    """How a network is trained on with the accurate tile."""
    shared = {"steps", "batch", "lr", "augment", "jitter", "balanced", "precision"}
    chosen = workflow.refinement.model_dump(include=shared, exclude_none=True)
    return FineTuningPlan.of(workflow.base.net, **chosen, seed=workflow.seed)


def _require_patch(scene: Scene, workflow: Workflow, name: str) -> None:
    if name == "train":
        patch = base_network_plan(workflow, scene).patch
    elif workflow.refinement.kind == "finetune":
        patch = fine_tuning_plan(workflow).patch
    else:
        patch = refinement_plan(workflow, scene).patch
    rows, cols = NetworkGrid.of(scene.geobox, workflow.gsd).shape
    if min(rows, cols) < patch:
        raise SceneError(
            f"the {name} scene {scene.path} is {rows} x {cols} px of {workflow.gsd:g} m, less than "
            f"one training patch of {patch} x {patch}",
            "give a larger one",
        )


def require_apart(test: LabelledScene, other: LabelledScene, name: str) -> None:
    """Raise ConfigError when `other` holds ground of the test region: figures would flatter."""
    crs = Extent(open_scene(test).geobox).crs
    ours, theirs = _region(test, crs), _region(other, crs)
    shared = ours.intersection(theirs).area / ours.area
    if shared > _SHARED:
        raise ConfigError(
            f"{100 * shared:.3g} % of the [test] region is part of [{name}] too",
            "move them apart, e.g. with an `area` each",
        )


def _region(choice: LabelledScene, crs: CRS) -> BaseGeometry:
    """The ground that a scene's labels speak of."""
    scene = open_scene(choice)
    place = Extent(scene.geobox)
    shapes = np.array([place.outline], object)
    if choice.area:
        shapes = Area.open(choice.area, scene.geobox).shapes
    return union_all(reproject(shapes, place.crs, crs))
