"""Map several scenes in one run, a bundle each."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geopipe.checkpoint import ModelFile
from geopipe.errors import GeopipeError
from geopipe.mapping.map_item import read_map_item
from geopipe.mapping.provenance import provenance
from geopipe.raster import Scene
from geopipe.raster.content import content_sha256
from geopipe.raster.inputs import LeftOut, scene_names
from geopipe.workflow.bundle import Bundle, MapOptions, write_bundle

log = logging.getLogger(__name__)


@dataclass(slots=True)
class MappedScenes:
    """What became of each scene."""

    bundles: list[Bundle] = field(default_factory=list)
    """Made now."""
    unchanged: list[Path] = field(default_factory=list)
    """Folders of maps that an earlier run made."""
    failed: LeftOut = field(default_factory=dict)

    def summary(self) -> list[str]:
        """In words, a line for each that failed."""
        total = len(self.bundles) + len(self.unchanged) + len(self.failed)
        parts = [f"{len(self.bundles)} of {total} scenes mapped"]
        if self.unchanged:
            parts.append(f"{len(self.unchanged)} were there already")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return [", ".join(parts), *(f"failed: {p}: {why}" for p, why in self.failed.items())]


def write_bundles(
    paths: Sequence[str],
    model_path: Path,
    folder: Path,
    options: MapOptions,
    *,
    bands: tuple[int, ...] | None = None,
    nodata: float | None = None,
) -> MappedScenes:
    """Map every scene into a folder of its own below `folder`.

    A map that an earlier run made of the same scene with the same model is left as it is, unless
    `options` ask to overwrite it. A scene that fails does not stop the others.
    """
    names = scene_names(paths)
    model = ModelFile.open(model_path)
    done = MappedScenes()
    for number, path in enumerate(paths, 1):
        target = folder / names[path]
        log.info("scene %d of %d: %s", number, len(paths), path)
        try:
            scene = Scene.open(path, bands, nodata)
            tags = provenance(scene, model) | options.tags(model.checkpoint)
            if not options.overwrite and _is_made(target, scene, tags, options):
                log.warning("%s is there already, left as it is", target)
                done.unchanged.append(target)
                continue
            done.bundles.append(write_bundle(scene, model, target, options))
        except GeopipeError as e:
            log.warning("%s: %s", path, e)
            done.failed[path] = e.message
    return done


def _is_made(target: Path, scene: Scene, tags: dict[str, str], options: MapOptions) -> bool:
    """Whether the bundle in `target` is of this scene and provenance and has what is asked for."""
    if not target.exists():
        return False
    try:
        _, made = read_map_item(target)
    except GeopipeError:
        return False
    required = {
        "scores.tif": options.scores,
        "confidence.tif": options.confidence,
        "features.gpkg": options.vectors,
    }
    return (
        {k: made.get(k) for k in tags} == tags
        and all((key in made) == (key in tags) for key in ("flips", "min_area", "orthogonalize"))
        and all((target / name).exists() for name, is_required in required.items() if is_required)
        and (options.engine.skip_bad or "bad_tiles" not in made)
        and made.get("scene_sha256") == content_sha256(scene.path)
    )
