"""Verify seams: compare tiles with one forward pass over a whole crop of the scene."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.classes import IGNORE
from geopipe.errors import ConfigError, SceneError
from geopipe.grid import NetworkGrid, Tile, Tiling, Window
from geopipe.grid.tiling import BLOCK
from geopipe.mapping.extents import ExtentResult, other_extents
from geopipe.mapping.kernels import fastest_kernels
from geopipe.mapping.reference import reference_scores
from geopipe.mapping.tile import TileJob, score_window
from geopipe.nets import Kernels
from geopipe.nets.local import nonlocal_layers
from geopipe.nets.receptive_field import measured_halo
from geopipe.nets.refinement import HIDDEN
from geopipe.progress import progress
from geopipe.raster import Scene

log = logging.getLogger(__name__)

CORES = (256, 512, 1024)
"""Scene pixels a side of the tiles that are compared."""
CROP = 1500
MAX_CROP = 2048
ROUNDING = 1e-5
"""What float32 may change in a score ..."""
RELATIVE = 3e-6
"""... or this part of the largest score, where that is more: the whole is computed by convolution,
tiles perhaps by matrix product, which adds up ten thousand terms in another order."""
_MEMORY = 1.6e9
"""Bytes that the whole forward may take."""


@dataclass(frozen=True, slots=True)
class TilingResult:
    """The crop mapped in one way, held against the whole forward."""

    core: int
    origin: tuple[int, int]
    """Row and column, relative to the crop, at which the first tile begins (none or negative)."""
    tiles: int
    max_seam: float
    """Largest |score difference| to the crop mapped as one window, at valid pixels."""
    max_difference: float
    """Largest |score difference| to the whole forward of the bare nets, at valid pixels."""
    changed: int
    """Valid pixels of another class than the whole forward gives."""
    errors: int
    """Those of them whose two best scores are further apart than rounding explains."""


@dataclass(frozen=True, slots=True)
class SeamReport:
    """What `verify_seams` found."""

    scene: str
    model: str
    crop: Window
    pixels: int
    """Valid pixels of the crop: each way is compared at them, holes are not."""
    factor: tuple[float, float]
    """Scene pixels per net pixel."""
    stride: int
    declared_halo: int
    measured_halo: int
    nonlocal_layers: tuple[str, ...]
    max_score: float
    tilings: tuple[TilingResult, ...]
    """The first is the whole crop as one window."""
    extents: tuple[ExtentResult, ...] = ()
    """A part mapped from files that begin elsewhere; none where the scene is too small or rotated.
    """

    @property
    def tiles(self) -> int:
        """Tiles of all ways together."""
        return sum(w.tiles for w in self.tilings)

    @property
    def max_seam(self) -> float:
        """Largest |score difference| of any tile to the crop mapped as one window."""
        return max(w.max_seam for w in self.tilings)

    @property
    def max_difference(self) -> float:
        """Largest |score difference| of any way to the whole forward."""
        return max(w.max_difference for w in self.tilings)

    @property
    def max_extent(self) -> float:
        """Largest |score difference| of any extent to the map of the scene."""
        return max((e.max_difference for e in self.extents), default=0.0)

    @property
    def changed(self) -> int:
        """Pixels of another class, all ways and extents together."""
        return sum(w.changed for w in self.tilings) + sum(e.changed for e in self.extents)

    @property
    def errors(self) -> int:
        """Pixels of another class that rounding does not explain, all ways together."""
        return sum(w.errors for w in self.tilings)

    @property
    def tolerance(self) -> float:
        """Score difference that float32 explains."""
        return _tolerance(self.max_score)

    @property
    def ok(self) -> bool:
        """No seam, no other map from another extent: nothing differs but by rounding."""
        far = (self.max_seam, self.max_difference, self.max_extent)
        return self.errors == 0 and all(d <= self.tolerance for d in far)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: every field, the totals and the verdict."""
        totals = (
            "ok",
            "tiles",
            "max_seam",
            "max_difference",
            "max_extent",
            "tolerance",
            "changed",
            "errors",
        )
        return {**{name: getattr(self, name) for name in totals}, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Reference:
    scores: np.ndarray
    """(classes, h, w) float32"""
    valid: np.ndarray

    @property
    def max_score(self) -> float:
        return float(np.abs(self.scores[:, self.valid]).max())

    def difference(self, scores: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(scores - other)[:, self.valid].max())

    def changed(self, classes: np.ndarray) -> tuple[int, int]:
        """Pixels of another class, and those that rounding does not explain."""
        changed = self.valid & (classes != self.scores.argmax(0))
        best = np.sort(self.scores[:, changed], axis=0)[-2:]
        return int(changed.sum()), int((best[-1] - best[0] > _tolerance(self.max_score)).sum())


def _tolerance(max_score: float) -> float:
    return max(ROUNDING, RELATIVE * max_score)


def verify_seams(
    scene: Scene,
    model_path: Path,
    *,
    cores: Sequence[int] = CORES,
    crop_px: int | None = None,
    at: tuple[int, int] | None = None,
    device: str = "cpu",
) -> SeamReport:
    """Compare tiles, computed as for a map, with one forward of the bare nets over a crop.

    `crop_px`: scene pixels a side (default 1500, less where memory asks for it, at most 2048);
    `at`: row and column of its middle (default: the scene's). The crop is mapped as one window,
    with tiles of each of `cores`, and with the smallest again from an origin off every grid. A part
    of it is mapped again from crops of the scene whose corners are 1 to 7 pixels off.
    Raises ConfigError for a crop that is too large, SceneError for one without a valid pixel,
    GridError for a core that is not a multiple of 256.
    """
    model_file = ModelFile.open(model_path)
    model = model_file.own_checkpoint()
    for note in model.check_fits(scene):
        log.warning(note)
    crop = _crop(scene, model, crop_px, at)
    tilings = list(_tilings(crop, cores))
    valid = scene.read(crop).valid
    if not valid.any():
        raise SceneError(
            f"rows {crop.row}-{crop.bottom}, columns {crop.col}-{crop.right} of {scene.path} hold "
            "no valid pixel",
            "compare another place",
        )
    halo_px = measured_halo(model.net, model.bands)
    model.net.to(device)
    context = max(model.net.halo, halo_px)
    truth = _Reference(reference_scores(scene, model, crop, context, device), valid)
    model.net.kernels = fastest_kernels() if device == "cpu" else Kernels()
    job = _job(scene, model, model_file, device)
    results = tuple(_compare_tilings(job, model, crop, tilings, truth))
    extents = tuple(other_extents(job, model, crop, context))
    return SeamReport(
        scene.path,
        str(model_path),
        crop,
        int(valid.sum()),
        NetworkGrid.of(scene.geobox, model.gsd).factor,
        model.net.stride,
        model.net.halo,
        halo_px,
        tuple(nonlocal_layers(model.net)),
        truth.max_score,
        results,
        extents,
    )


def _job(scene: Scene, model: Checkpoint, model_file: ModelFile, device: str) -> TileJob:
    """A map's job of the last step's classes; only computed with, it needs no folder."""
    return TileJob(
        scene=scene,
        model=model_file,
        folder="",
        device=device,
        iterations=(model.net.iterations,),
        with_scores=False,
        kernels=model.net.kernels,
    )


_Tiling = tuple[int, tuple[int, int], list[Tile]]


def _compare_tilings(
    job: TileJob, model: Checkpoint, crop: Window, tilings: Sequence[_Tiling], truth: _Reference
) -> Iterator[TilingResult]:
    single_window = None
    with progress("comparing", sum(len(tiles) for *_, tiles in tilings)) as advance:
        for core, origin, tiles in tilings:
            scores = np.full_like(truth.scores, np.inf)
            classes = np.full(crop.shape, IGNORE, np.uint8)
            for tile in tiles:
                inside = tile.core.within(crop)
                classes[inside] = job.compute(tile)[-1]
                (part,) = score_window(model, job.scene, tile.core, device=job.device)
                scores[(slice(None), *inside)] = part.cpu().numpy()
                advance()
            single_window = scores if single_window is None else single_window
            yield TilingResult(
                core,
                origin,
                len(tiles),
                truth.difference(scores, single_window),
                truth.difference(scores, truth.scores),
                *truth.changed(classes),
            )


def _crop(
    scene: Scene, model: Checkpoint, crop_px: int | None, at: tuple[int, int] | None
) -> Window:
    """A square around `at`, clipped to the scene; by default its corner is one of a map's tiles."""
    factor = NetworkGrid.of(scene.geobox, model.gsd).factor
    # Four copies of the hidden layer live at once: convolution, image term, sum, ReLU.
    net_side = math.sqrt(_MEMORY / (16 * HIDDEN * len(model.scheme))) - 2 * model.net.halo
    max_px = min(MAX_CROP, int(net_side * min(factor)))
    side = min(CROP, max_px) if crop_px is None else crop_px
    if not 1 <= side <= max_px:
        raise ConfigError(
            f"a crop of {side} px cannot be compared at once ({side / min(factor):.0f} px of the "
            f"net's grid, {len(model.scheme)} classes)",
            f"take 1 to {max_px} px",
        )
    center = at or (scene.shape[0] // 2, scene.shape[1] // 2)
    if not all(0 <= m < n for m, n in zip(center, scene.shape, strict=True)):
        raise ConfigError(
            f"row {center[0]}, column {center[1]} is not in the scene of {scene.shape[0]} x "
            f"{scene.shape[1]} px"
        )
    row, col = (
        min(max(m - side // 2, 0), max(n - side, 0))
        for m, n in zip(center, scene.shape, strict=True)
    )
    if at is None:
        row, col = row // BLOCK * BLOCK, col // BLOCK * BLOCK
    return Window(row, col, side, side).clip(scene.shape)


def _tilings(crop: Window, cores: Sequence[int]) -> Iterator[_Tiling]:
    """(core, origin, tiles): one window, each core, the smallest off every grid."""
    yield max(crop.shape), (0, 0), [Tile(0, crop, crop)]
    for core in cores:
        yield core, (0, 0), list(_tiles(crop, core, (0, 0)))
    core, (height, width) = min(cores), crop.shape
    origin = (min(core, height) // 2 | 1) - core, (min(core, width) // 3 | 1) - core
    yield core, origin, list(_tiles(crop, core, origin))


def _tiles(crop: Window, core: int, origin: tuple[int, int]) -> Iterator[Tile]:
    """The tiles of `crop` in the scene's pixels, when the first one begins at `origin` in it."""
    row, col = origin
    for tile in Tiling((crop.height - row, crop.width - col), core):
        tile_core = tile.core
        inside = Window(
            tile_core.row + row, tile_core.col + col, tile_core.height, tile_core.width
        ).clip(crop.shape)
        core_window = Window(crop.row + inside.row, crop.col + inside.col, *inside.shape)
        yield Tile(tile.index, core_window, core_window)
