"""The map bundle: the folder an analyst gets for one scene, ready for QGIS."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.checkpoint.starter import STARTER_KEY
from geopipe.classes import ClassScheme
from geopipe.files import (
    MARK,
    remove_folder,
    require_own,
    restore_folder,
    without_empty_parents,
)
from geopipe.locks import lock_folder
from geopipe.mapping import (
    WORK,
    Engine,
    MapFiles,
    choose_device,
    forget_tiles,
    map_scene,
    plan_map,
    unfinished,
)
from geopipe.mapping.map_rasters import write_map_rasters
from geopipe.mapping.min_area import MinArea, class_min_areas, min_area_tag
from geopipe.mapping.provenance import COMPUTATION, provenance, source_links
from geopipe.mapping.sieve import sieve
from geopipe.oserrors import writing
from geopipe.raster import Scene
from geopipe.raster.content import content_sha256
from geopipe.raster.inputs import scene_names
from geopipe.raster.layerdefinition import write_layer_definition
from geopipe.raster.mosaic import open_mosaic
from geopipe.raster.remote import display_name
from geopipe.raster.stac import write_item
from geopipe.raster.undeclared import nodata_warning
from geopipe.report.map_report import write_report
from geopipe.report.map_summary import OVERVIEW_PX, summarize_map
from geopipe.report.provenance import provenance_facts
from geopipe.workflow.bundle_folder import (
    ASSEMBLY_FOLDER,
    MOSAIC,
    check_target,
    keep_tiles_only,
    move_bundle,
)

if TYPE_CHECKING:  # brings pandas
    from geopipe.vectors.features import FeatureFiles

log = logging.getLogger(__name__)

ExtraFiles = Callable[[Path], Mapping[str, Path]]
"""Writes further files into the folder that has the rasters; returns them by their asset's key."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How to map, and what to add to the class map."""

    engine: Engine = field(default_factory=Engine)
    scores: bool = False
    confidence: bool | None = None
    """Add the probability of the best class; None: with a model that looks at patches, and for
    `vectors` without `scores`."""
    vectors: bool = False
    orthogonalize: bool = True
    """Footprints of buildings in `vectors` get right angles where the map has them."""
    overwrite: bool = False
    min_area: MinArea = "auto"
    """Smaller areas take a neighbour's class; see `class_min_areas`."""

    def tags(self, model: Checkpoint) -> dict[str, str]:
        """What of the options is told with all that is made."""
        sizes = class_min_areas(self.min_area, model.scheme, model.provenance)
        tags = {"precision": self.engine.precision, **min_area_tag(sizes, model.scheme)}
        if self.engine.flips > 1:
            tags["flips"] = str(self.engine.flips)
        if self.vectors and not self.orthogonalize:
            tags["orthogonalize"] = "no"
        return tags


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of a map."""

    folder: Path
    classes: Path
    report: Path
    areas: dict[str, float]
    """Class name -> square metres on the ground."""
    seconds: float
    mapping_seconds: float
    """Of these, for computing the tiles."""
    bad: tuple[str, ...]
    """Tiles that could not be read and are nodata."""
    out_of_domain: float | None = None
    """Share of the scene that is unlike the training images; None: the model does not know them."""


def write_bundle(
    scene: Scene,
    model: Path | ModelFile,
    folder: Path,
    options: MapOptions,
    extra_files: ExtraFiles | None = None,
) -> Bundle:
    """Map `scene` with `model` into `folder`, whole or not at all.

    ``classes.tif`` (COG with names, colours, provenance) and its ``.aux.xml`` and ``.qml``,
    ``confidence.tif``, ``scores.tif`` and ``features.gpkg`` where asked for, ``out_of_domain.gpkg``
    where the scene is unlike the training images, ``item.json`` (STAC), ``report.html`` with its
    figures as JSON and Markdown, and what `extra_files` makes of these.
    Raises GeopipeError; then `folder` is as it was, and the tiles that are done wait in
    ``FOLDER.part`` for the next run.
    """
    check_target(folder, overwrite=options.overwrite)
    start = time.monotonic()
    target = folder.resolve()  # also of a link or of "."
    part = target.with_name(target.name + ".part")
    require_own(part, (*WORK, ASSEMBLY_FOLDER, MOSAIC))
    model_file = model if isinstance(model, ModelFile) else ModelFile.open(model)
    names = model_file.checkpoint.scheme.names
    with writing(folder), without_empty_parents(target), lock_folder(part):
        try:
            restore_folder(target)
            check_target(folder, overwrite=options.overwrite)
            keep_tiles_only(part)
            (part / MARK).touch()
            bundle = _build(scene, model_file, part, options, extra_files)
            move_bundle(part / ASSEMBLY_FOLDER, target)
            forget_tiles(part)  # only now: a run that is killed before goes on with them
        finally:
            with suppress(OSError):  # the map stands, or another error tells why not
                keep_tiles_only(part)
            if unfinished(part):
                log.warning("%s keeps the tiles that are done: the same command goes on", part)
            else:
                remove_folder(part)
    areas = dict(zip(names, bundle.areas, strict=True))
    seconds = time.monotonic() - start
    return Bundle(
        folder,
        folder / "classes.tif",
        folder / "report.html",
        areas,
        seconds,
        bundle.seconds,
        bundle.bad,
        bundle.domain.share if bundle.domain else None,
    )


def mosaic_scene(
    paths: Sequence[str],
    folder: Path,
    options: MapOptions,
    *,
    bands: tuple[int, ...] | None = None,
    nodata: float | None = None,
    work: Path | None = None,
) -> Scene:
    """The files `paths` as one scene, to be mapped into `folder`; see `open_mosaic`.

    Its VRT is written to `work`, by default to ``FOLDER.part``, with which it goes.
    """
    check_target(folder, overwrite=options.overwrite)
    target = folder.resolve()
    work = work or target.with_name(target.name + ".part") / MOSAIC
    return open_mosaic(paths, work / f"{target.name}.vrt", bands, nodata)


def _build(
    scene: Scene,
    model_file: ModelFile,
    part: Path,
    options: MapOptions,
    extra_files: ExtraFiles | None,
) -> MapFiles:
    """Fill the folder `ASSEMBLY_FOLDER` in `part`; what is made on the way lies beside it."""
    start = time.monotonic()
    model = model_file.checkpoint
    # Fails now, not after hours.
    sizes = class_min_areas(options.min_area, model.scheme, model.provenance)
    notes = warnings_for(scene, model)
    for note in notes:
        log.warning(note)
    files = map_scene(
        scene,
        model_file,
        part,
        options.engine,
        with_scores=options.scores,
        with_confidence=_mean_confidence(model, options),
        with_cores=options.vectors,
        picture_px=OVERVIEW_PX,
    )
    files = _sieved(files, part, sizes)
    tags = _tags(scene, model_file, options, files)
    if files.bad:
        notes.append(
            f"{len(files.bad)} tiles could not be read and are nodata: {tags['bad_tiles']}"
        )
    assembly = part / ASSEMBLY_FOLDER
    assembly.mkdir()
    assets = write_map_rasters(files, model, assembly, tags)
    if files.domain:
        assets |= files.domain.write(assembly)
        if warning := files.domain.warning(Path(display_name(scene.path)).name):
            log.warning(warning)
            notes.append(warning)
    timings = [("mapping", time.monotonic() - start)]
    features = None
    if options.vectors:
        began = time.monotonic()
        features = _features(scene, assets["classes"], assembly, model.scheme, options, files.cores)
        assets |= features.files
        notes += features.notes
        timings.append(("vectors", time.monotonic() - began))
    if extra_files:
        assets |= extra_files(assembly)
    report = summarize_map(scene, model.scheme, files, assets["classes"], features)
    facts = (*provenance_facts(tags), ("device", choose_device(options.engine.device)))
    report = replace(
        report, timings=tuple(timings), notes=tuple(notes), facts=(*report.facts, *facts)
    )
    name = scene_names([scene.path])[scene.path]
    assets["layers"] = write_layer_definition(assembly, name, model.scheme)
    assets["report"] = write_report(assembly, report)[0]
    write_item(
        assembly,
        item_id=name,
        geobox=scene.geobox,
        scheme=model.scheme,
        assets=assets,
        properties={
            "processing:lineage": json.dumps(tags, sort_keys=True),
            COMPUTATION: {**files.computation, "min_area_m2": sizes if any(sizes) else ()},
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        links=source_links(scene, model_file.path, part.with_name(part.name.removesuffix(".part"))),
    )
    return files


def _tags(
    scene: Scene, model_file: ModelFile, options: MapOptions, files: MapFiles
) -> dict[str, str]:
    """The tags of all files of the bundle."""
    tags = provenance(scene, model_file) | options.tags(model_file.checkpoint)
    if digest := content_sha256(scene.path):
        tags["scene_sha256"] = digest
    if files.bad:
        tags["bad_tiles"] = "; ".join(files.bad)
    return tags


def _features(
    scene: Scene,
    class_map: Path,
    assembly: Path,
    scheme: ClassScheme,
    options: MapOptions,
    cores: Path | None,
) -> "FeatureFiles":
    """The vectors of the map, and their page."""
    from geopipe.report.feature_files import write_feature_files  # brings pandas

    return write_feature_files(
        scene, class_map, assembly, scheme, orthogonalize=options.orthogonalize, cores=cores
    )


def _sieved(files: MapFiles, part: Path, sizes: Sequence[float]) -> MapFiles:
    """The map without areas that are too small; confidence and scores stay as they are."""
    if not any(sizes):
        return files
    target = part / "classes.tmp.tif"
    done = sieve(files.classes[-1], target, sizes)
    log.info("%d small areas, %d px, took a neighbour's class", done.specks, done.changed)
    classes = (*files.classes[:-1], target)
    return replace(files, classes=classes, areas=done.areas, area_counts=done.area_counts)


def warnings_for(scene: Scene, model: Checkpoint) -> list[str]:
    """What may spoil the map; raises CheckpointError when the model cannot take the scene."""
    notes = model.check_fits(scene)
    if model.provenance.get(STARTER_KEY):
        notes.append(
            "mapped by the starter model, which knows four places; a model that is trained with "
            "labels of this scene maps it better (geopipe train)"
        )
    if text := nodata_warning(scene, "mapped as something"):
        notes.append(text)
    return notes


def _mean_confidence(model: Checkpoint, options: MapOptions) -> bool:
    """Whether the map gets the probability of the best class; footprints take theirs from it."""
    if options.confidence is not None:
        return options.confidence
    return model.net.patchwise or (options.vectors and not options.scores)


def plan_bundle(
    scene: Scene, model_path: Path, folder: Path, options: MapOptions
) -> dict[str, str | int]:
    """What `write_bundle` would do, in words and numbers; writes nothing."""
    check_target(folder, overwrite=options.overwrite)
    model_file = ModelFile.open(model_path)
    model = model_file.checkpoint
    notes = warnings_for(scene, model)
    plan = plan_map(
        scene,
        model_file,
        options.engine,
        with_scores=options.scores,
        with_confidence=_mean_confidence(model, options),
    )
    need = plan.need
    summary: dict[str, str | int] = {
        "scene": f"{scene.shape[1]} x {scene.shape[0]} px, bands {scene.bands}, {scene.dtype}",
        "net grid": f"{plan.net_shape[1]} x {plan.net_shape[0]} px of {model.gsd:g} m",
        "tiles": plan.tiles,
        "tiles_at_once": need.at_once,
        "core_px": need.core,
        "halo_px": plan.halo_px,
        "memory_mb": need.memory_mb,
        "vram_mb": need.vram_mb,
        "disk_mb": plan.disk_mb,
        "seconds": round(plan.seconds),
        "output": str(folder),
    }
    return summary | {f"warning {i}": note for i, note in enumerate(notes, 1)}
