"""Verify a map: tiles drawn at random are computed again from scene and model, and compared."""

import random
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rasterio.windows import Window as RioWindow

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.errors import ConfigError, SceneError
from geopipe.grid import Tile, Window
from geopipe.mapping import LOCAL, Budget, Engine, Workers, tile_job
from geopipe.mapping.computation import Computation
from geopipe.mapping.detection import detection_chance, draw_tiles, fewest_tiles
from geopipe.mapping.map_item import map_model, mapped_scene, read_map_item
from geopipe.mapping.recompute import Recomputation
from geopipe.raster import Scene
from geopipe.raster.scene import opened

RASTERS = ("classes", "confidence", "scores")
"""Rasters of a map that are compared where it has them, by the keys of their assets."""
SHARES = (0.01, 0.05, 0.1, 0.5)
"""Shares of a map for which the chance of detection is told."""


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
    item, tags = read_map_item(folder)
    computation = item.properties.computation
    model_path, sha256 = map_model(model, item, tags, folder)
    with tempfile.TemporaryDirectory(prefix="geopipe-verify-") as work:
        source, notes = mapped_scene(scene, item, tags, folder, Path(work))
        model_file = ModelFile(model_path, sha256, Checkpoint.load(model_path))
        rasters = tuple(key for key in RASTERS if key in item.assets)
        engine = Engine(
            _device(computation),
            workers,
            Budget(computation.tile_px),
            computation.precision,
            skip_bad="bad_tiles" in tags,
            inexact=True,
            flips=computation.flips,
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
    if differences:
        notes += _rounding(computation, Computation.of(job, computation.tile_px))
    return Verification(
        len(tiling),
        tuple(drawn),
        tuple(f"{key}.tif" for key in rasters),
        tuple(differences),
        {s: detection_chance(len(tiling), len(drawn), fewest_tiles(tiling, s)) for s in SHARES},
        detection_chance(len(tiling), len(drawn), 1),
        tuple(notes),
    )


def _rounding(map_: Computation, here: Computation) -> list[str]:
    """Why equal arithmetic may round differently here, if there is a reason."""
    if (here.torch, here.instructions) == (map_.torch, map_.instructions):
        return []
    return [
        f"the map was computed with torch {map_.torch} on {map_.instructions}, here is torch "
        f"{here.torch} on {here.instructions}: rounding may differ"
    ]


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
