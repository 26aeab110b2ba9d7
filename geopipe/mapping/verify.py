"""Verify a map: tiles drawn at random are computed again from scene and model, and compared."""

import json
import random
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rasterio.windows import Window as RioWindow

from geopipe.checkpoint import Checkpoint, ModelFile, file_hash
from geopipe.errors import CheckpointError, ConfigError, SceneError
from geopipe.grid import Tile, Window
from geopipe.mapping import LOCAL, Budget, Engine, Workers, tile_job
from geopipe.mapping.computation import Computation
from geopipe.mapping.detection import detection_chance, draw_tiles, fewest_tiles
from geopipe.mapping.provenance import COMPUTATION, MODEL_LINK, SCENE_LINK
from geopipe.mapping.recompute import Recomputation
from geopipe.raster import Scene
from geopipe.raster.content import content_sha256
from geopipe.raster.mosaic import open_mosaic
from geopipe.raster.remote import is_remote
from geopipe.raster.scene import opened

RASTERS = ("classes", "confidence", "scores")
"""Rasters of a map that are compared where it has them, by the keys of their assets."""
SHARES = (0.01, 0.05, 0.1, 0.5)
"""Shares of a map for which the chance of detection is told."""
_ANOTHER = "give the folder of a map that geopipe map made"


class _Link(BaseModel):
    rel: str
    href: str


class _Properties(BaseModel):
    model_config = ConfigDict(extra="allow")
    computation: Computation = Field(alias=COMPUTATION)


class _Item(BaseModel):
    """What is taken from the ``item.json`` of a map."""

    properties: _Properties
    links: list[_Link]
    assets: dict[str, Any]

    def sources(self, rel: str, folder: Path) -> list[str]:
        """Where the links of a kind lead, seen from `folder`."""
        hrefs = [link.href for link in self.links if link.rel == rel]
        return [h if is_remote(h) or Path(h).is_absolute() else str(folder / h) for h in hrefs]


@dataclass(frozen=True, slots=True)
class TileDifference:
    """A tile that is not what scene and model give."""

    raster: str
    """Name of the file."""
    window: Window
    """The tile's pixels in the map."""
    pixels: int
    """How many of them differ."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a comparison of tiles gave."""

    tiles: int
    """Of the map."""
    compared: tuple[int, ...]
    """Indexes of the tiles that were drawn."""
    rasters: tuple[str, ...]
    """Names of the files that were compared."""
    differences: tuple[TileDifference, ...]
    chances: dict[float, float]
    """Share of the map -> the least chance with which tampering with it would be detected."""
    pixel_chance: float
    """The chance with which one pixel that was changed anywhere would be detected."""
    notes: tuple[str, ...]
    """What was not compared, and what may explain differences."""

    @property
    def ok(self) -> bool:
        """Whether all tiles are equal."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "ok": self.ok,
            "tiles": self.tiles,
            "compared": list(self.compared),
            "rasters": list(self.rasters),
            "differences": [
                {
                    "raster": d.raster,
                    "row": d.window.row,
                    "column": d.window.col,
                    "height": d.window.height,
                    "width": d.window.width,
                    "pixels": d.pixels,
                }
                for d in self.differences
            ],
            "chance_by_share": {f"{share:g}": chance for share, chance in self.chances.items()},
            "chance_of_one_pixel": self.pixel_chance,
            "notes": list(self.notes),
        }


def verify_map(
    folder: Path,
    *,
    tiles: int = 20,
    scene: Sequence[str] = (),
    model: Path | None = None,
    seed: int | None = None,
    workers: Workers = LOCAL,
) -> Verification:
    """Compare random tiles of the map in `folder` with what its scene and its model give.

    Args:
        folder: The folder of a map, or its ``classes.tif``.
        tiles: How many tiles are drawn; all, where the map has no more.
        scene: Where the scene is, if it was moved; of a mosaic all files, the topmost first.
        model: Where the model is, if it was moved.
        seed: Draws the same tiles again; None: nobody can know before which.
        workers: Where tiles are computed.

    Raises:
        SceneError: It is no map, or its scene was moved or changed.
        CheckpointError: Its model was moved or changed.
        ConfigError: It was computed on a device that is not here.
    """
    folder = folder.parent if folder.name == "classes.tif" else folder
    item, tags = _described(folder)
    computation = item.properties.computation
    model_path, sha256 = _model(model, item, tags, folder)
    with tempfile.TemporaryDirectory(prefix="geopipe-verify-") as work:
        source, notes = _scene(scene, item, tags, folder, Path(work))
        model_file = ModelFile(model_path, sha256, Checkpoint.load(model_path))
        rasters = tuple(key for key in RASTERS if key in item.assets)
        engine = Engine(
            _device(computation),
            workers,
            Budget(computation.tile_px),
            computation.precision,
            skip_bad="bad_tiles" in tags,
            inexact=True,
        )
        job, tiling = tile_job(
            source,
            model_file,
            engine,
            with_scores="scores" in rasters,
            with_confidence="confidence" in rasters,
        )
        job = replace(job, folder=work, kernels=computation.kernels)
        _require_grid(folder, source)
        again = Recomputation(job, tiling, computation.min_area_m2, workers)
        rng = random.Random(secrets.randbits(128) if seed is None else seed)
        drawn = draw_tiles(len(tiling), tiles, rng)
        again.compute([tiling[i] for i in drawn])
        differences = [d for i in drawn for d in _differences(folder, rasters, tiling[i], again)]
    here = Computation.of(job, computation.tile_px)
    if differences and (here.torch, here.instructions) != (
        computation.torch,
        computation.instructions,
    ):
        notes.append(
            f"the map was computed with torch {computation.torch} on {computation.instructions}, "
            f"here is torch {here.torch} on {here.instructions}: rounding may differ"
        )
    return Verification(
        len(tiling),
        tuple(drawn),
        tuple(f"{key}.tif" for key in rasters),
        tuple(differences),
        {s: detection_chance(len(tiling), len(drawn), fewest_tiles(tiling, s)) for s in SHARES},
        detection_chance(len(tiling), len(drawn), 1),
        tuple(notes),
    )


def _described(folder: Path) -> tuple[_Item, dict[str, str]]:
    """What the map says of itself: its STAC item and the tags of its raster."""
    path = folder / "item.json"
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise SceneError(
            f"{folder} holds no map of geopipe's: {path} cannot be read", _ANOTHER
        ) from e
    if not isinstance(tables, dict) or COMPUTATION not in (tables.get("properties") or {}):
        raise SceneError(
            f"{folder} does not say how its map was computed",
            "an older geopipe made it: map the scene again",
        )
    try:
        item = _Item.model_validate(tables)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SceneError(f"{path} is damaged: {place}: {first['msg']}", _ANOTHER) from e
    with opened(folder / "classes.tif") as src:
        return item, src.tags()


def _model(given: Path | None, item: _Item, tags: dict[str, str], folder: Path) -> tuple[Path, str]:
    """The file of the map's model, whose bytes are those that made the map, and its sha256."""
    sources = [str(given)] if given else item.sources(MODEL_LINK, folder)
    path = Path(sources[0]) if sources else folder / "no model"
    if not path.is_file():
        if "adapted_from" in json.loads(tags.get("model_provenance", "{}")):
            raise CheckpointError(
                "the map was made with a copy of its model for another pixel size, not kept",
                "it cannot be verified",
            )
        raise CheckpointError(
            f"the model of this map is not at {path}", "give where it is now as `model`"
        )
    if (now := file_hash(path)) != tags.get("model_sha256"):
        raise CheckpointError(
            f"{path} is not the model of this map: its sha256 is {now[:12]}..., the map was made "
            f"with {tags.get('model_sha256', 'none')[:12]}...",
            "give the file of that model as `model`",
        )
    return path, now


def _scene(
    given: Sequence[str], item: _Item, tags: dict[str, str], folder: Path, work: Path
) -> tuple[Scene, list[str]]:
    """The scene of the map, and what could not be checked of it."""
    paths = list(given) or item.sources(SCENE_LINK, folder)
    for path in paths or [tags.get("scene", "unknown")]:
        if not is_remote(path) and not Path(path).exists():
            raise SceneError(
                f"the scene of this map is not at {path}", "give where it is now as `scene`"
            )
    bands = tuple(int(band) for band in tags["scene_bands"].split())
    nodata = float(tags["scene_nodata"]) if "scene_nodata" in tags else None
    if "scene_files" in tags:
        scene = open_mosaic(paths, work / "scene.vrt", bands, nodata)
    else:
        scene = Scene.open(paths[0], bands, nodata)
    now, then = content_sha256(scene.path), tags.get("scene_sha256")
    if now is None or then is None:
        return scene, ["the scene is not in files on this machine: its own bytes are not compared"]
    if now != then:
        raise SceneError(
            f"{' and '.join(paths)} changed since the map was made: sha256 is {now[:12]}..., it "
            f"was {then[:12]}...",
            "give the scene as it was as `scene`, or map it again",
        )
    return scene, []


def _require_grid(folder: Path, scene: Scene) -> None:
    with opened(folder / "classes.tif") as src:
        a, b = src.transform, scene.geobox.affine
        if src.shape != scene.shape or not a.almost_equals(b) or src.crs != scene.geobox.crs:
            raise SceneError(
                f"{folder / 'classes.tif'} is not on the pixel grid of {scene.path}",
                "one of them was changed or warped: map the scene again",
            )


def _device(computation: Computation) -> str:
    """The device of the map: another one rounds differently."""
    if computation.device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            "the map was computed on a GPU, and this machine has none: bytes cannot be compared",
            "verify it on a machine with a GPU",
        )
    return "cuda:0"


def _differences(
    folder: Path, rasters: Sequence[str], tile: Tile, again: Recomputation
) -> Iterator[TileDifference]:
    classes, levels = again.rasters(tile)
    start = 0
    for key in rasters:
        with opened(folder / f"{key}.tif") as src:
            core = tile.core
            there = src.read(window=RioWindow(core.col, core.row, core.width, core.height))
        if key == "classes":
            expected = classes[None]
        else:
            expected = levels[start : start + len(there)]
            start += len(there)
        if there.shape != expected.shape:
            raise SceneError(f"{folder / key}.tif has {len(there)} bands, not {len(expected)}")
        if pixels := int((there != expected).any(0).sum()):
            yield TileDifference(f"{key}.tif", core, pixels)
