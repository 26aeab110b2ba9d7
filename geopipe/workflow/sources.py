"""Open the scenes and labels that a workflow names."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pyproj import CRS
from shapely import union_all
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme, load_scheme
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.grid import NetworkGrid, Tiling, ground_gsd, suited_gsd
from geopipe.labels import (
    Area,
    ClippedLabels,
    IgnoreBufferLabels,
    LabelSource,
    VectorLabels,
    fetch_labels,
    fetched_file,
    is_fetched,
    open_labels,
)
from geopipe.labels.drawn import OUTLINES, is_drawing_file
from geopipe.labels.extent import Extent, reproject
from geopipe.labels.raster import why_missing
from geopipe.labels.source import LEAVE_OUT
from geopipe.learn import BaseNetworkPlan, RefinementPlan
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.learn.start import StartModel
from geopipe.raster import Scene
from geopipe.raster.dependencies import files_of
from geopipe.raster.inputs import LeftOut
from geopipe.raster.mosaic import open_mosaic
from geopipe.raster.remote import is_remote
from geopipe.register import RegistrationGrid, fit_labels, shifted_source
from geopipe.workflow.schema import LabelledScene, SceneSettings, Workflow

log = logging.getLogger(__name__)

_COARSE_M = 1.5
"""Pixels from which on a common house or street is less than a few of them."""
_SHARED = 1e-6
"""Share of the test region that rounding may give to its neighbour."""


def open_scene(settings: SceneSettings) -> Scene:
    """The scene that a workflow names."""
    return Scene.open(settings.scene, settings.bands, settings.nodata)


def open_mosaic_of(choices: Sequence[SceneSettings], target: Path) -> Scene:
    """The scenes as one, by a VRT `target`; ConfigError when they are to be read differently."""
    (bands, nodata), *others = {(c.bands, c.nodata): None for c in choices}
    if others:
        raise ConfigError(
            "the files of a mosaic are read with different bands or nodata values",
            "give [map] `bands` and `nodata`",
        )
    return open_mosaic([c.scene for c in choices], target, bands, nodata)


def scene_files(settings: SceneSettings) -> list[Path]:
    """The files whose change changes the scene: also the sources of a VRT, masks beside it."""
    path = Path(settings.scene)
    return [path] if is_remote(settings.scene) else sorted(files_of(path))


def label_files(settings: LabelledScene, scheme: ClassScheme) -> list[Path]:
    """The files whose change changes the labels: also companions, journals, a VRT's sources."""
    path = settings.labels
    if is_fetched(path):
        path = fetched_file(path, open_scene(settings).geobox, scheme)
    return sorted({*files_of(path), *(files_of(settings.area) if settings.area else ())})


def label_source(settings: LabelledScene, scheme: ClassScheme, scene: Scene) -> LabelSource:
    """Its labels, inside its area; those of a service are downloaded once per extent."""
    path = settings.labels
    if is_fetched(path):
        if settings.all_are is not None:
            raise LabelError("the tags of downloaded labels say the class", LEAVE_OUT)
        path = fetch_labels(path, scene.geobox, scheme)
    layer = settings.layer or (OUTLINES if is_drawing_file(path) else None)
    labels = open_labels(path, scheme, scene.geobox, layer, settings.all_are)
    if area := label_area(settings):
        labels = ClippedLabels(labels, Area.open(area, scene.geobox))
    if settings.align:
        labels = aligned(labels, scene, settings.max_shift)
    if not settings.ignore_buffer:
        return labels
    return IgnoreBufferLabels(labels, settings.ignore_buffer, scene.geobox)


def label_area(settings: LabelledScene) -> Path | None:
    """The polygons outside which labels say nothing; of a file of `geopipe ask` its windows."""
    return settings.area or (settings.labels if is_drawing_file(settings.labels) else None)


def aligned(labels: LabelSource, scene: Scene, max_shift: float) -> LabelSource:
    """`labels` with their vectors moved to where the image shows them; what they cover stays.

    With a warning they stay as they are where nothing can be learnt of them: label rasters, classes
    with hardly a pixel.
    """
    shapes = labels.labels if isinstance(labels, ClippedLabels) else labels
    # A class without a shape: whoever burns the labels says so.
    if isinstance(shapes, VectorLabels) and 0 in shapes.counts[1:]:
        return labels
    try:
        field, _ = fit_labels(RegistrationGrid.of(scene, labels), labels, max_shift)
    except LabelError as e:
        log.warning("the labels of %s are not aligned: %s", scene.path, e.message)
        return labels
    return shifted_source(labels, field)


def check_scenes(workflow: Workflow) -> None:
    """Raise for scenes that a step could not use, before any of them runs."""
    train = open_scene(workflow.train)
    for role in (*workflow.train.parts, workflow.enhance, workflow.test):
        if role:
            _require_files(role)
    own = max(ground_gsd(train.geobox))
    if own > _COARSE_M:
        log.warning(
            "%s has pixels of %.3g m: houses and streets of less than two of them are not mapped",
            train.path,
            own,
        )
    if start := start_model(workflow):
        start.check(workflow.base.net, len(train.bands), train.path)
    trained = training_roles(workflow)
    for part in trained.values():
        _require_dtype(open_scene(part), train)
    if workflow.enhance:
        trained["enhance"] = workflow.enhance
    for name, settings in trained.items():
        _require_patch(open_scene(settings), workflow, name)
        if workflow.test:
            require_apart(workflow.test, settings, name)
    evaluated = (workflow.test,) if workflow.test else ()
    for other in (*trained.values(), *evaluated, *workflow.map_scenes()):
        scene = open_scene(other)
        if len(scene.bands) != len(train.bands):
            raise SceneError(
                f"{scene.path} gives {len(scene.bands)} bands, the training scene {train.path} "
                f"{len(train.bands)}",
                "choose as many of both with `bands`",
            )
    stems = [Path(mapped.scene).stem for mapped in workflow.map_scenes()]
    for stem in stems:
        if stems.count(stem) > 1 and not workflow.map.mosaic:
            raise ConfigError(f"two scenes to map are called '{stem}'", "rename one of them")
    Tiling(train.shape, workflow.map.tile_size)


def training_roles(workflow: Workflow) -> dict[str, LabelledScene]:
    """The scenes that the base network learns from, by the names of their roles."""
    first, *others = workflow.train.parts
    return {"train": first} | {f"train-{i}": other for i, other in enumerate(others, 2)}


def check_labels(
    name: str, settings: LabelledScene, scheme: ClassScheme, *, all_classes: bool = True
) -> None:
    """Raise LabelError for labels of the role `name` that do not serve, before any is aligned.

    `all_classes`: whether they have to have each class.
    """
    plain = settings.model_copy(update={"align": False, "ignore_buffer": 0.0})
    source = label_source(plain, scheme, open_scene(settings))
    shapes = source.labels if isinstance(source, ClippedLabels) else source
    if all_classes and isinstance(shapes, VectorLabels):
        counts = [*shapes.counts, *[0] * len(scheme)][: len(scheme)]
        missing = [scheme.names[k] for k in range(1, len(scheme)) if not counts[k]]
        if missing:
            raise missing_classes(name, settings, source, missing)


def missing_classes(
    name: str, settings: LabelledScene, source: LabelSource, missing: Sequence[str]
) -> LabelError:
    """The error for labels without a pixel of the classes `missing`."""
    hint = why_missing(source, missing)
    if not hint and is_drawing_file(settings.labels):
        hint = "outline some of it in a further window, which you mark as drawn"
    example = ", such as `classes` buildings" if tuple(missing) == ("road",) else ""
    return LabelError(
        f"the {name} labels {settings.labels} have no pixel of class {', '.join(missing)} on "
        f"{settings.scene}",
        hint or f"give labels that have it, or a class scheme without it{example}",
    )


def readable_scenes(workflow: Workflow) -> tuple[Workflow, LeftOut]:
    """With `skip_bad`: the workflow without the scenes that cannot be opened, and these.

    Raises SceneError when none of several is left.
    """
    left_out: LeftOut = {}
    if not workflow.map.skip_bad or not workflow.map.scenes:
        return workflow, left_out
    for settings in workflow.map_scenes():
        try:
            open_scene(settings)
        except SceneError as e:
            log.warning("%s is left out: %s", settings.scene, e.message)
            left_out[settings.scene] = e.message
    kept = tuple(path for path in workflow.map.scenes if path not in left_out)
    if not kept:
        raise SceneError(f"no scene is left: {next(iter(left_out.values()))}", "check the paths")
    chosen = workflow.map.model_copy(update={"scenes": kept})
    return workflow.model_copy(update={"map": chosen}), left_out


def network_gsd(workflow: Workflow) -> float:
    """Metres on the ground per pixel of the networks, if need be chosen for the training scene."""
    if workflow.gsd is None:
        return suited_gsd(open_scene(workflow.train).geobox)
    return workflow.gsd


def start_model(workflow: Workflow) -> StartModel | None:
    """The model that the base network goes on from; None: random weights, or those of ImageNet."""
    start = workflow.train.start
    if isinstance(start, Path):
        return StartModel.open(start)
    if start == "imagenet" or workflow.schedule == "paper":
        return None
    scene, scheme = open_scene(workflow.train), load_scheme(workflow.classes)
    return StartModel.suited(workflow.base.net, scheme, scene, network_gsd(workflow))


def base_network_plan(workflow: Workflow, scene: Scene) -> BaseNetworkPlan:
    """How the network learns from the training scenes, of which `scene` is the first."""
    overrides = workflow.base.model_dump(exclude_none=True)
    plan = BaseNetworkPlan.of(
        **overrides,
        schedule=workflow.schedule,
        started=start_model(workflow) is not None,
        seed=workflow.seed,
    )
    others = map(open_scene, workflow.train.also)
    gsd = network_gsd(workflow)
    return plan.fitted(*(NetworkGrid.of(x.geobox, gsd).shape for x in (scene, *others)))


def refinement_plan(workflow: Workflow, scene: Scene) -> RefinementPlan:
    """How the refinement learns from the accurate tile."""
    overrides = workflow.refinement.model_dump(exclude={"kind", "calibrate"}, exclude_none=True)
    plan = RefinementPlan.of(workflow.schedule, **overrides, seed=workflow.seed)
    return plan.fitted(NetworkGrid.of(scene.geobox, network_gsd(workflow)).shape)


def fine_tuning_plan(workflow: Workflow, scene: Scene) -> FineTuningPlan:
    """How a network is trained on with the accurate tile."""
    shared = {"steps", "batch", "lr", "augment", "jitter", "balanced", "precision"}
    overrides = workflow.refinement.model_dump(include=shared, exclude_none=True)
    plan = FineTuningPlan.of(
        workflow.base.net,
        workflow.schedule,
        started=start_model(workflow) is not None,
        **overrides,
        seed=workflow.seed,
    )
    return plan.fitted(NetworkGrid.of(scene.geobox, network_gsd(workflow)).shape)


def _require_files(choice: LabelledScene) -> None:
    for path in (choice.labels, choice.area):
        if path and not is_fetched(path) and not path.exists():
            raise LabelError(f"there is no file {path}", "check the path")


def _require_dtype(scene: Scene, first: Scene) -> None:
    if scene.dtype != first.dtype:
        raise SceneError(
            f"{scene.path} is {scene.dtype}, the training scene {first.path} {first.dtype}",
            "scenes of one training need values in the same units; bring them to one type",
        )


def _require_patch(scene: Scene, workflow: Workflow, name: str) -> None:
    if name.startswith("train"):
        patch = base_network_plan(workflow, open_scene(workflow.train)).patch
    elif workflow.refinement.kind == "finetune":
        patch = fine_tuning_plan(workflow, scene).patch
    else:
        patch = refinement_plan(workflow, scene).patch
    gsd = network_gsd(workflow)
    rows, cols = NetworkGrid.of(scene.geobox, gsd).shape
    if min(rows, cols) < patch:
        raise SceneError(
            f"the {name} scene {scene.path} is {rows} x {cols} px of {gsd:.3g} m, "
            f"less than one training patch of {patch} x {patch}",
            "give a larger one",
        )


def require_apart(test: LabelledScene, other: LabelledScene, name: str) -> None:
    """Raise ConfigError when `other` holds ground of the test region: figures would flatter."""
    shared = shared_ground(test, other)
    if shared > _SHARED:
        raise ConfigError(
            f"{100 * shared:.3g} % of the [test] region is part of [{name}] too",
            "move them apart, e.g. with an `area` each",
        )


def shared_ground(region: LabelledScene, other: LabelledScene) -> float:
    """The share of the ground of `region` that the labels of `other` speak of too."""
    crs = Extent(open_scene(region).geobox).crs
    ground, other_ground = _region(region, crs), _region(other, crs)
    return float(ground.intersection(other_ground).area / ground.area)


def _region(settings: LabelledScene, crs: CRS) -> BaseGeometry:
    """The ground that a scene's labels speak of."""
    scene = open_scene(settings)
    extent = Extent(scene.geobox)
    shapes = np.array([extent.outline], object)
    if area := label_area(settings):
        shapes = Area.open(area, scene.geobox).shapes
    return union_all(reproject(shapes, extent.crs, crs))
