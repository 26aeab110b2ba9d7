"""The map bundle: the folder an analyst gets for one scene, ready for QGIS."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from geopipe import __version__
from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.stac_item import model_item_path
from geopipe.checkpoint.starter import STARTER_KEY
from geopipe.classes import ClassScheme
from geopipe.errors import SceneError
from geopipe.files import (
    MARK,
    lock_folder,
    remove_folder,
    replace_folder,
    require_own,
    restore_folder,
    without_empty_parents,
)
from geopipe.grid import is_rotated
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
from geopipe.mapping.min_area import MinArea, class_min_areas, min_area_tag
from geopipe.mapping.out_of_domain import OutOfDomain
from geopipe.mapping.sieve import sieve
from geopipe.oserrors import writing
from geopipe.raster import Scene
from geopipe.raster.cog import write_class_cog, write_confidence_cog, write_score_cog
from geopipe.raster.content import content_sha256
from geopipe.raster.credit import joined_credits, scene_credit
from geopipe.raster.inputs import scene_names
from geopipe.raster.layerdefinition import write_layer_definition
from geopipe.raster.mosaic import mosaic_files, open_mosaic
from geopipe.raster.remote import display_name
from geopipe.raster.stac import relative_href, write_item
from geopipe.raster.style import CERTAINTY, write_qml, write_ramp_qml
from geopipe.raster.undeclared import nodata_warning
from geopipe.report.map_report import Report, write_report
from geopipe.report.provenance import provenance_facts
from geopipe.workflow.map_summary import (
    OVERVIEW_PX,
    area_table,
    object_counts,
    overview,
    overview_gsd,
)

if TYPE_CHECKING:  # brings pandas
    from geopipe.vectors.features import FeatureFiles

log = logging.getLogger(__name__)

COMPUTATION = "geopipe:computation"
"""The property of an item that says how the tiles of its map were computed."""
SCENE_LINK, MODEL_LINK = "geopipe:scene", "geopipe:model"
"""Relations of links of a map's item."""
_MARKER_FILE = "item.json"
"""What tells a bundle from a folder of the user's own, which is never overwritten."""
_ASSEMBLY_FOLDER = "map"
"""Where in ``FOLDER.part`` the bundle is built."""
_MOSAIC = "mosaic"
"""Where in ``FOLDER.part`` the VRTs of a mosaic are, for as long as it is mapped."""
_OUTPUT_NAMES = (
    "classes.tif",
    "classes.tif.aux.xml",
    "classes.qml",
    "classes.gpkg",
    "features.gpkg",
    "features.html",
    "features.parquet",
    "confidence.tif",
    "confidence.tif.aux.xml",
    "confidence.qml",
    "scores.tif",
    "scores.tif.aux.xml",
    "scores.qml",
    "layers.qlr",
    "chips.gpkg",
    "out_of_domain.gpkg",
    "item.json",
    "report.html",
    "report.json",
    "report.md",
)
"""What a new bundle replaces; everything else in the folder stays."""

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
        return {"precision": self.engine.precision, **min_area_tag(sizes, model.scheme)}


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
    model_path: Path,
    folder: Path,
    options: MapOptions,
    extra_files: ExtraFiles | None = None,
) -> Bundle:
    """Map `scene` with the Checkpoint at `model_path` into `folder`, whole or not at all.

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
    require_own(part, (*WORK, _ASSEMBLY_FOLDER, _MOSAIC))
    names = Checkpoint.load(model_path).scheme.names
    with writing(folder), without_empty_parents(target), lock_folder(part):
        try:
            restore_folder(target)
            check_target(folder, overwrite=options.overwrite)
            _keep_tiles_only(part)
            (part / MARK).touch()
            bundle = _build(scene, model_path, part, options, extra_files)
            _move(part / _ASSEMBLY_FOLDER, target)
            forget_tiles(part)  # only now: a run that is killed before goes on with them
        finally:
            with suppress(OSError):  # the map stands, or another error tells why not
                _keep_tiles_only(part)
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
    work = work or target.with_name(target.name + ".part") / _MOSAIC
    return open_mosaic(paths, work / f"{target.name}.vrt", bands, nodata)


def _keep_tiles_only(part: Path) -> None:
    """Of a run that was stopped, only the tiles serve; the rest is made anew from them."""
    kept_name = (_MOSAIC, *WORK) if unfinished(part) else (_MOSAIC,)
    for path in part.iterdir():
        if path.name not in kept_name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _build(
    scene: Scene, model_path: Path, part: Path, options: MapOptions, extra_files: ExtraFiles | None
) -> MapFiles:
    """Fill the folder `part` with the map; what is made on the way lies beside it."""
    start = time.monotonic()
    model = Checkpoint.load(model_path)
    # Fails now, not after hours.
    sizes = class_min_areas(options.min_area, model.scheme, model.provenance)
    notes = warnings_for(scene, model)
    for note in notes:
        log.warning(note)
    files = map_scene(
        scene,
        model_path,
        part,
        options.engine,
        with_scores=options.scores,
        with_confidence=_mean_confidence(model, options),
        with_cores=options.vectors,
        picture_px=OVERVIEW_PX,
    )
    files = _sieved(files, part, sizes)
    tags = provenance(scene, model, model_path) | options.tags(model)
    if digest := content_sha256(scene.path):
        tags["scene_sha256"] = digest
    if files.bad:
        tags["bad_tiles"] = "; ".join(files.bad)
        notes.append(
            f"{len(files.bad)} tiles could not be read and are nodata: {tags['bad_tiles']}"
        )
    assembly = part / _ASSEMBLY_FOLDER
    assembly.mkdir()
    assets = _rasters(files, model, assembly, tags)
    if files.domain:
        assets |= _domain_layer(files.domain, assembly)
        if warning := files.domain.warning(Path(display_name(scene.path)).name):
            log.warning(warning)
            notes.append(warning)
    timings = [("mapping", time.monotonic() - start)]
    features = None
    if options.vectors:
        from geopipe.workflow.feature_files import write_feature_files  # brings pandas

        began = time.monotonic()
        features = write_feature_files(
            scene,
            assets["classes"],
            assembly,
            model.scheme,
            orthogonalize=options.orthogonalize,
            cores=files.cores,
        )
        assets |= features.files
        notes += features.notes
        timings.append(("vectors", time.monotonic() - began))
    if extra_files:
        assets |= extra_files(assembly)
    facts = (*provenance_facts(tags), ("device", choose_device(options.engine.device)))
    report = replace(
        _report(scene, model.scheme, files, assets["classes"], features),
        timings=tuple(timings),
        notes=tuple(notes),
    )
    report = replace(report, facts=(*report.facts, *facts))
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
        links=source_links(scene, model_path, part.with_name(part.name.removesuffix(".part"))),
    )
    return files


def _report(
    scene: Scene,
    scheme: ClassScheme,
    files: MapFiles,
    class_map: Path,
    features: "FeatureFiles | None",
) -> Report:
    """What the report says of the map: areas, numbers of objects, pictures."""
    counts = object_counts(class_map, scheme)
    facts: tuple[tuple[str, str], ...] = ()
    if files.domain:
        facts += (("out of domain", files.domain.sentence()),)
    if features:
        from geopipe.vectors.features import layer_names  # brings pandas

        facts += features.facts()
        for class_id, layer in layer_names(scheme).items():
            if (name := scheme.names[class_id]) in counts:
                counts[name] = features.counts[layer]
    picture = overview(scene, class_map, files.preview)
    return Report(
        title=f"Map of {Path(display_name(scene.path)).name}",
        scheme=scheme,
        lead=area_table(dict(zip(scheme.names, files.areas, strict=True)), counts),
        features=features.amounts() if features else (),
        overview=picture,
        overview_gsd=overview_gsd(scene, picture[0]),
        facts=facts,
    )


def _domain_layer(domain: OutOfDomain, assembly: Path) -> dict[str, Path]:
    """The polygons of what is unlike the training images, where there are any."""
    if not domain.path:
        return {}
    return {"out_of_domain": domain.path.replace(assembly / "out_of_domain.gpkg")}


def _sieved(files: MapFiles, part: Path, sizes: Sequence[float]) -> MapFiles:
    """The map without areas that are too small; confidence and scores stay as they are."""
    if not any(sizes):
        return files
    target = part / "classes.tmp.tif"
    done = sieve(files.classes[-1], target, sizes)
    log.info("%d small areas, %d px, took a neighbour's class", done.specks, done.changed)
    return replace(files, classes=(*files.classes[:-1], target), areas=done.areas)


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Raise SceneError unless a bundle may be written to `folder`."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARKER_FILE).is_file():
            raise SceneError(
                f"{folder} holds files that are no map of geopipe's", "give a new folder"
            )
        if not overwrite:
            raise SceneError(f"{folder} exists already", "give another folder, or set `overwrite`")
    elif folder.exists() and not folder.is_dir():
        raise SceneError(f"{folder} is a file", "give a folder to write the map into")
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise SceneError(f"cannot write into {existing}", "choose a folder that is writable")


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


def provenance(scene: Scene, model: Checkpoint, model_path: Path) -> dict[str, str]:
    """The tags of everything made with `model` from `scene`: equal inputs, equal tags."""
    tags = {
        "software": f"geopipe {__version__}",
        "scene": Path(display_name(scene.path)).name,
        "scene_bands": " ".join(map(str, scene.bands)),
        "model_sha256": file_hash(model_path),
        "model_gsd": f"{model.gsd:g} m",
        "model_iterations": str(model.net.iterations),
        "model_provenance": json.dumps(model.provenance, sort_keys=True),
    }
    if scene.nodata is not None:
        tags["scene_nodata"] = repr(float(scene.nodata))
    if is_rotated(scene.geobox):
        tags["grid"] = "from the file's corner, since its geotransform is rotated"
    else:
        tags["grid"] = "from the origin of the CRS"
    if files := mosaic_files(scene.path):
        tags["scene_files"] = "; ".join(Path(display_name(f)).name for f in files)
    credit = joined_credits([model.provenance.get("credit", ""), scene_credit(scene)])
    return {**tags, "credit": credit} if credit else tags


def source_links(scene: Scene, model_path: Path, folder: Path) -> list[dict[str, str]]:
    """STAC links from the bundle in `folder` to the files of its scene, its model, its item."""
    links = [
        {"rel": SCENE_LINK, "href": relative_href(path, folder)}
        for path in mosaic_files(scene.path) or (scene.path,)
    ]
    links.append({"rel": MODEL_LINK, "href": relative_href(model_path, folder)})
    if (item := model_item_path(model_path)).is_file():
        href = relative_href(item, folder)
        links.append({"rel": "derived_from", "href": href, "type": "application/geo+json"})
    return links


def _mean_confidence(model: Checkpoint, options: MapOptions) -> bool:
    """Whether the map gets the probability of the best class; footprints take theirs from it."""
    if options.confidence is not None:
        return options.confidence
    return model.net.patchwise or (options.vectors and not options.scores)


def _rasters(
    files: MapFiles, model: Checkpoint, assembly: Path, tags: dict[str, str]
) -> dict[str, Path]:
    assets = {"classes": assembly / "classes.tif"}
    write_class_cog(files.classes[-1], assets["classes"], model.scheme, tags)
    write_qml(assembly / "classes.qml", model.scheme)
    assets["style"] = assembly / "classes.qml"
    if files.confidence:
        assets["confidence"] = assembly / "confidence.tif"
        write_confidence_cog(files.confidence, assets["confidence"], tags)
        assets["confidence_style"] = assembly / "confidence.qml"
        style = assets["confidence_style"]
        write_ramp_qml(style, 1, 0, 1, ramp=CERTAINTY, transparent=False)
    if files.scores:
        assets["scores"] = assembly / "scores.tif"
        write_score_cog(files.scores, assets["scores"], model.scheme, tags)
        band = 2 if model.scheme.background == 0 else 1
        ramp = ("#ffffff", model.scheme.classes[band - 1].color)
        assets["scores_style"] = assembly / "scores.qml"
        write_ramp_qml(assets["scores_style"], band, 0, 1, ramp=ramp)
    return assets


def _move(assembly: Path, folder: Path) -> None:
    """`assembly` becomes `folder`; the bundle that was there goes when the new one stands."""
    others = folder.iterdir() if folder.exists() else ()
    for other in others:  # a QGIS project, notes: the user's own
        if other.name not in _OUTPUT_NAMES:
            copy = shutil.copytree if other.is_dir() else shutil.copy2
            copy(other, assembly / other.name)
    replace_folder(assembly, folder)


def plan_bundle(
    scene: Scene, model_path: Path, folder: Path, options: MapOptions
) -> dict[str, str | int]:
    """What `write_bundle` would do, in words and numbers; writes nothing."""
    check_target(folder, overwrite=options.overwrite)
    model = Checkpoint.load(model_path)
    notes = warnings_for(scene, model)
    plan = plan_map(
        scene,
        model_path,
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
