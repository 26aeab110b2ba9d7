"""Map a scene: tiles over workers, a journal, and VRTs of the tiles that the bundle is made of."""

import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from odc.geo.geobox import GeoBox

from geopipe import __version__
from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.errors import ConfigError, JobError, SceneError
from geopipe.grid import NetworkGrid, Tiling, Window, ground_gsd
from geopipe.mapping.computation import Computation
from geopipe.mapping.device import choose_device
from geopipe.mapping.journal import TILES, Journal, begun_inputs, require_equal
from geopipe.mapping.kernels import fastest_kernels
from geopipe.mapping.memory import Budget, Need
from geopipe.mapping.out_of_domain import OutOfDomain
from geopipe.mapping.precision import require_agreement
from geopipe.mapping.preview import Preview, part_path, preview_shape, read_preview
from geopipe.mapping.tile import Precision, TileJob
from geopipe.mapping.tile_store import write_mosaic
from geopipe.nets import Kernels
from geopipe.nets.local import require_local
from geopipe.parallel import LOCAL, Workers, run_tiles
from geopipe.progress import progress
from geopipe.raster import Scene
from geopipe.raster.content import pixel_files
from geopipe.raster.remote import display_name
from geopipe.raster.scene import opened, window_geobox

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """How tiles are computed; only `precision`, `flips` and the kind of device touch a pixel."""

    device: str = "auto"
    workers: Workers = LOCAL
    budget: Budget = field(default_factory=Budget)
    precision: Precision = "float32"
    skip_bad: bool = False
    """A tile whose pixels cannot be read becomes nodata instead of ending the run."""
    restart: bool = False
    """Throw away an unfinished map of other inputs instead of refusing to go on."""
    inexact: bool = False
    """Allow nets whose layers leave seams between tiles."""
    flips: int = 1
    """Flips of the image whose probabilities are averaged, 1, 2 or 4: so many times the time."""


@dataclass(frozen=True, slots=True)
class MapFiles:
    """Rasters with the scene's GeoBox: one class map per requested step, and the scores."""

    classes: tuple[Path, ...]
    confidence: Path | None
    """Of the best class, where it was asked for."""
    scores: Path | None
    cores: Path | None
    """Probability of the core of a building, of a model that scores it, if asked for."""
    areas: tuple[float, ...]
    """Square metres on the ground of each class in the last class map."""
    bad: tuple[str, ...]
    """Tiles that could not be read, and why."""
    seconds: float
    """What computing the tiles took in this run, from when the workers stood."""
    preview: Preview | None = None
    """Of the scene, where one was asked for and all tiles that there are have added to it."""
    domain: OutOfDomain | None = None
    """How much is unlike the training images, of a model that knows them."""
    area_counts: tuple[int, ...] | None = None
    """Connected areas of each class in the last class map, where they were counted."""
    computation: dict[str, Any] = field(default_factory=dict)
    """What has to be the same for the same bytes beside scene and model; see `Computation`."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    """What mapping a scene will take."""

    tiles: int
    halo_px: int
    """Scene pixels read beyond a core on each side."""
    net_shape: tuple[int, int]
    need: Need
    disk_mb: int
    seconds: float


def plan_map(
    scene: Scene,
    model_file: ModelFile,
    engine: Engine,
    *,
    with_scores: bool = False,
    with_confidence: bool = False,
) -> MapPlan:
    """The plan of a map, its time from computing one tile in the middle of the scene."""
    model = model_file.checkpoint
    need = engine.budget.fit(scene, model, engine.workers, choose_device(engine.device))
    tiling = Tiling(scene.shape, need.core)
    grid = NetworkGrid.of(scene.geobox, model.gsd)
    job = replace(
        _job(scene, model_file, engine, (model.net.iterations,)),
        with_scores=with_scores,
        with_confidence=with_confidence,
    )
    rows, cols = tiling.grid
    center_tile = tiling[rows // 2 * cols + cols // 2]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        job.compute(center_tile)  # the first run pays for loading and warming up
        start = time.perf_counter()
        job.compute(center_tile)
        seconds = (time.perf_counter() - start) * math.ceil(len(tiling) / max(need.at_once, 1))
    finally:
        torch.set_num_threads(threads)
    bands = len(model.scheme) * with_scores + with_confidence
    return MapPlan(
        len(tiling),
        round(model.net.halo * max(grid.factor)),
        grid.shape,
        need,
        round(_disk_bytes(math.prod(scene.shape), 1, bands) / 1e6) + 1,
        seconds,
    )


def tile_job(
    scene: Scene,
    model_file: ModelFile,
    engine: Engine,
    *,
    with_scores: bool = False,
    with_confidence: bool = False,
) -> tuple[TileJob, Tiling]:
    """The job and the tiles of `map_scene`, for tiles that are wanted without a map of all.

    ``job.compute(tile)`` gives the pixels that the map has there. Raises ConfigError as `map_scene`
    does for a network that leaves seams, a device that is not there, memory that is too small.
    """
    need = _require_exact(scene, model_file.checkpoint, engine)
    job = _job(scene, model_file, engine, (model_file.checkpoint.net.iterations,))
    job = replace(job, with_scores=with_scores, with_confidence=with_confidence)
    return job, Tiling(scene.shape, need.core)


def _require_exact(scene: Scene, model: Checkpoint, engine: Engine) -> Need:
    """What the tiles need; warns of a network that leaves seams, or raises ConfigError."""
    for warning in require_local(model.net, engine.inexact):
        log.warning(warning)
    return engine.budget.fit(scene, model, engine.workers, choose_device(engine.device))


def _disk_bytes(pixels: int, maps: int, score_bands: int) -> float:
    """Upper estimate for tile files and final rasters together, compressed."""
    return pixels * (0.2 * maps + 1.5 * score_bands)


def map_scene(
    scene: Scene,
    model_file: ModelFile,
    folder: Path,
    engine: Engine,
    *,
    iterations: Sequence[int] | None = None,
    with_scores: bool = False,
    with_confidence: bool = False,
    with_cores: bool = False,
    picture_px: int | None = None,
) -> MapFiles:
    """Compute the class map after each of `iterations` (default: the last) into `folder`.

    Tiles that the journal in `folder` has are not computed again. Memory does not grow with the
    scene: results go to files where they are computed. Raises JobError naming the tile that
    failed; what is done stays for the next run. `with_cores`: where the model scores them.
    `picture_px`: the longer side of a picture that a large scene without overviews gets on the way.
    """
    model = model_file.checkpoint
    steps = tuple(iterations) if iterations is not None else (model.net.iterations,)
    need = _require_exact(scene, model, engine)
    if Path(scene.path).exists():  # workers of a cluster may run in another folder
        scene = replace(scene, path=str(Path(scene.path).resolve()))
    tiling, classes = Tiling(scene.shape, need.core), len(model.scheme)
    with_cores &= model.net.base.cores
    bands = with_scores * classes + with_confidence + with_cores
    _require_disk(folder, math.prod(scene.shape), len(steps), bands)
    job = replace(
        _job(scene, model_file, engine, steps),
        with_scores=with_scores,
        with_confidence=with_confidence,
        with_cores=with_cores,
        picture=preview_shape(scene, picture_px) if picture_px else None,
    )
    if engine.precision != "float32":
        require_agreement(job, tiling)
    folder = folder.resolve()
    if not engine.restart:
        job = replace(job, kernels=_begun_kernels(folder) or job.kernels)
    inputs = _inputs(job, need.core)
    journal = Journal(folder, inputs, len(tiling), classes=classes, restart=engine.restart)
    job = replace(job, folder=str(journal.tiles))
    workers = replace(engine.workers, threads=need.at_once or None, memory_mb=need.limit_mb)
    try:
        areas, bad, start = _compute_tiles(job, tiling, journal, workers)
        now = _inputs(replace(job, model=model_file.now()), need.core)
        require_equal(inputs, now, f"the inputs of {folder} changed while it was made: another")
        domain = None
        if model.domain:
            domain = OutOfDomain.of(journal.domains, scene.geobox, model.gsd, tiling)
    finally:
        journal.close()
    seconds = time.monotonic() - start
    class_maps, confidence, scores, cores = _mosaics(folder, job, tiling, classes)
    preview = None
    if job.picture and not bad:
        parts = (part_path(journal.tiles, tile.index) for tile in tiling)
        preview = read_preview(parts, scene.dtype, job.picture)
    return MapFiles(
        class_maps,
        confidence,
        scores,
        cores,
        areas,
        bad,
        seconds,
        preview,
        domain,
        computation=Computation.of(job, need.core).to_dict(),
    )


def _compute_tiles(
    job: TileJob, tiling: Tiling, journal: Journal, workers: Workers
) -> tuple[tuple[float, ...], tuple[str, ...], float]:
    """Compute the tiles that the journal lacks, and add them to it.

    Returns the square metres of each class, the tiles that could not be read, in their order, and
    when the workers began, of ``time.monotonic``.
    """
    scene, start = job.scene, time.monotonic()
    areas, bad = np.zeros(len(job.model.checkpoint.scheme)), {}

    def begin() -> None:
        nonlocal start
        start = time.monotonic()

    before = 0
    for index, done in journal.recorded():
        areas += _areas(scene.geobox, tiling[index].core, done.pixels)
        before += 1
    remaining = (tile for tile in tiling.banded() if not journal.is_complete(tile.index))
    with progress("mapping", len(tiling), before) as advance, _with_scene_name(scene):
        for tile, done in run_tiles(job, remaining, workers, begin):
            journal.add(tile.index, done)
            areas += _areas(scene.geobox, tile.core, done.pixels)
            if done.bad:
                bad[tile.index] = f"tile {tile}: {done.bad}"
            advance()
    return tuple(areas.tolist()), tuple(bad[i] for i in sorted(bad)), start


def _begun_kernels(folder: Path) -> Kernels | None:
    """Those of the unfinished map in `folder`: where they are measured anew they may be others."""
    try:
        begun = begun_inputs(folder)
        return Kernels(begun["base kernels"], begun["refinement kernels"])
    except KeyError:  # none was begun, or by an older geopipe: it will be refused
        return None


def _mosaics(
    folder: Path, job: TileJob, tiling: Tiling, classes: int
) -> tuple[tuple[Path, ...], Path | None, Path | None, Path | None]:
    """The class maps, the confidence, the scores and the cores that the tiles make up."""
    geobox, tiles, steps = job.scene.geobox, Path(job.folder), job.iterations
    class_maps = tuple(folder / f"classes-{t}.tmp.vrt" for t in steps)
    for band, path in enumerate(class_maps):
        write_mosaic(path, geobox, tiling, tiles, range(band, band + 1))
    mosaics: list[Path | None] = []
    first = len(steps)
    for name, bands in (
        ("confidence", int(job.with_confidence)),
        ("scores", classes * job.with_scores),
        ("cores", int(job.with_cores)),
    ):
        mosaics.append(folder / f"{name}.tmp.vrt" if bands else None)
        if mosaics[-1]:
            write_mosaic(mosaics[-1], geobox, tiling, tiles, range(first, first + bands))
        first += bands
    confidence, scores, cores = mosaics
    return class_maps, confidence, scores, cores


@contextmanager
def _with_scene_name(scene: Scene) -> Iterator[None]:
    """A tile that failed is told with its scene."""
    try:
        yield
    except JobError as e:
        if display_name(scene.path) in e.message or not e.message.startswith("tile "):
            raise
        raise JobError(f"{display_name(scene.path)}: {e.message}", e.hint) from e


def forget_tiles(folder: Path) -> None:
    """Remove what `map_scene` left in `folder`: the map is finished elsewhere."""
    Journal.forget(folder)
    for path in folder.glob("*.tmp.vrt"):
        path.unlink()


def _job(
    scene: Scene,
    model_file: ModelFile,
    engine: Engine,
    steps: tuple[int, ...],
) -> TileJob:
    """Fails now, not in the first tile, when the model has fewer steps."""
    device = choose_device(engine.device)
    if engine.precision == "tf32" and device == "cpu":
        raise ConfigError("tf32 is arithmetic of GPUs, the device is cpu", "take float32")
    iterations = model_file.checkpoint.net.iterations
    if engine.flips not in (1, 2, 4):
        raise ConfigError(f"flips is {engine.flips}", "give 1, 2 or 4")
    if engine.flips > 1 and model_file.checkpoint.net.patchwise:
        raise ConfigError("a model of patches maps without flips", "leave `flips` out")
    if not all(0 <= t <= iterations for t in steps):
        raise ConfigError(f"iterations {list(steps)}: the model has {iterations}")
    measured = device == "cpu" and engine.precision == "float32"
    return TileJob(
        scene,
        model_file,
        device,
        steps,
        with_scores=False,
        precision=engine.precision,
        skip_bad=engine.skip_bad,
        flips=engine.flips,
        kernels=fastest_kernels() if measured else Kernels(),
    )


def _inputs(job: TileJob, core: int) -> dict[str, Any]:
    """What decides the bytes of the tiles, as JSON values."""
    scene = job.scene
    files = pixel_files(scene.path)
    with opened(scene.path) as src:
        nodata_values = [str(value) for value in src.nodatavals]
    return {
        "geopipe": __version__,
        "scene": scene.path,
        "scene files": {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in files},
        "bands": list(scene.bands),
        "nodata": [scene.nodata, *nodata_values],
        "shape": list(scene.shape),
        "place": [str(scene.geobox.crs), *scene.geobox.affine.to_gdal()],
        "grid": "from the origin of the CRS",
        "model": job.model.sha256,
        **{k.replace("_", " "): v for k, v in Computation.of(job, core).to_dict().items()},
        "iterations": list(job.iterations),
        "scores": job.with_scores,
        "confidence": job.with_confidence,
        "cores": job.with_cores,
    }


def _areas(geobox: GeoBox, core: Window, pixels: Sequence[int]) -> np.ndarray:
    # Per tile, since a pixel of Web Mercator or of degrees shrinks towards the poles.
    return np.array(pixels) * math.prod(ground_gsd(window_geobox(geobox, core)))


def _require_disk(folder: Path, pixels: int, maps: int, score_bands: int) -> None:
    """Room for what is still to be written; tiles of an earlier run have theirs already."""
    needed_bytes, free_bytes = (
        _disk_bytes(pixels, maps, score_bands),
        shutil.disk_usage(folder).free,
    )
    if needed_bytes > free_bytes + sum(p.stat().st_size for p in (folder / TILES).rglob("*.tif")):
        raise SceneError(
            f"{folder} has {free_bytes / 1e9:.1f} GB free, the map needs {needed_bytes / 1e9:.1f} "
            "GB",
            "free some space or write to another disk",
        )
