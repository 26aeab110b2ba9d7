"""Map a scene: tiles over workers, one writer, temporary rasters that the bundle is made of."""

import math
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.errors import ConfigError, SceneError
from geopipe.grid import NetGrid, Tiling, ground_gsd
from geopipe.jobs.run import HERE, Workers, run_tiles
from geopipe.nets.refine import HIDDEN
from geopipe.progress import progress
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox
from geopipe.raster.sink import Sink
from geopipe.score.tile import TileJob

CORE = 1024
"""Scene pixels a side of a tile's core."""
PROCESS_MB = 400
"""A worker process with torch and GDAL loaded, before its first tile."""


@dataclass(frozen=True, slots=True)
class MapFiles:
    """Plain rasters with the scene's GeoBox: one class map per requested step, and the scores."""

    classes: tuple[Path, ...]
    scores: Path | None
    areas: tuple[float, ...]
    """Square metres on the ground of each class in the last class map."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    """What mapping a scene will take."""

    tiles: int
    core: int
    halo_px: int
    """Scene pixels read beyond a core on each side."""
    net_shape: tuple[int, int]
    memory_mb: int
    disk_mb: int
    seconds: float


def plan_map(
    scene: Scene,
    model: Checkpoint,
    model_path: Path,
    *,
    core: int = CORE,
    device: str = "cpu",
    workers: Workers = HERE,
    with_scores: bool = False,
) -> MapPlan:
    """The plan of a map, its time from running one tile in the middle of the scene."""
    tiling = Tiling(scene.shape, core)
    grid = NetGrid.of(scene.geobox, model.gsd)
    job = TileJob(scene, str(model_path), file_hash(model_path), device, _all(model), with_scores)
    rows, cols = tiling.grid
    middle = tiling[rows // 2 * cols + cols // 2]
    job(middle)  # the first run pays for loading and warming up
    start = time.perf_counter()
    job(middle)
    seconds = (time.perf_counter() - start) * len(tiling) / max(workers.count, 1)
    classes, pixels = len(model.scheme), scene.shape[0] * scene.shape[1]
    net_px = math.prod(core / f + 2 * model.net.halo for f in grid.factor)
    # Three copies of the hidden layer live at once: convolution, image term, sum.
    floats = net_px * (3 * HIDDEN * classes if model.net.refine else 32) + core**2 * 4 * classes
    return MapPlan(
        len(tiling),
        core,
        round(model.net.halo * max(grid.factor)),
        grid.shape,
        round((PROCESS_MB + floats * 4 / 1e6) * max(workers.count, 1)),
        round(_disk_bytes(pixels, 1, classes * with_scores) / 1e6) + 1,
        seconds,
    )


def _disk_bytes(pixels: int, maps: int, score_bands: int) -> float:
    """Upper estimate for temporary and final rasters together, compressed."""
    return pixels * (0.2 * maps + 1.5 * score_bands)


def map_scene(
    scene: Scene,
    model: Checkpoint,
    model_path: Path,
    folder: Path,
    *,
    core: int = CORE,
    device: str = "cpu",
    workers: Workers = HERE,
    iterations: tuple[int, ...] | None = None,
    with_scores: bool = False,
) -> MapFiles:
    """Write the class map after each of `iterations` (default: the last) into `folder`.

    Memory does not grow with the scene: at most two tiles per worker are in flight and each goes
    straight to disk. Raises JobError naming the tile that failed; then no file is left.
    """
    steps = iterations if iterations is not None else _all(model)
    digest = file_hash(model_path)
    if Path(scene.path).exists():  # workers of a cluster may run in another folder
        scene = replace(scene, path=str(Path(scene.path).resolve()))
    job = TileJob(scene, str(model_path.resolve()), digest, device, steps, with_scores)
    tiling = Tiling(scene.shape, core)
    need = _disk_bytes(math.prod(scene.shape), len(steps), with_scores * len(model.scheme))
    free = shutil.disk_usage(folder).free
    if need > free:
        raise SceneError(
            f"{folder} has {free / 1e9:.1f} GB free, the map needs {need / 1e9:.1f} GB",
            "free some space or write to another disk",
        )
    class_maps = tuple(folder / f"classes-{t}.tmp.tif" for t in steps)
    scores = folder / "scores.tmp.tif" if with_scores else None
    areas = np.zeros(len(model.scheme))
    with ExitStack() as stack:
        sinks = [stack.enter_context(Sink(p, scene.geobox)) for p in class_maps]
        score_sink = stack.enter_context(Sink(scores, scene.geobox, len(areas))) if scores else None
        advance = stack.enter_context(progress("mapping", len(tiling)))
        for tile, result in run_tiles(job, tiling, workers):
            for sink, classes in zip(sinks, result.classes, strict=True):
                sink.write(tile.core, classes[None])
            if score_sink and result.scores is not None:
                score_sink.write(tile.core, result.scores)
            # Per tile, since a pixel of Web Mercator or of degrees shrinks towards the poles.
            metres = ground_gsd(window_geobox(scene.geobox, tile.core))
            pixels = np.bincount(result.classes[-1].ravel(), minlength=256)[: len(areas)]
            areas += pixels * math.prod(metres)
            advance()
    return MapFiles(class_maps, scores, tuple(areas.tolist()))


def choose_device(name: str) -> str:
    """``auto`` = the first GPU if there is one; raises ConfigError for a GPU that is not there."""
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and (name == kind or index.isdecimal()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ConfigError(f"no device {name}: {count} GPU(s) found", "use --device cpu")
    elif name != "cpu":
        raise ConfigError(f"device '{name}' is not one of auto, cpu, cuda:N")
    return name


def _all(model: Checkpoint) -> tuple[int, ...]:
    return (model.net.iterations,)
