"""Score one window of a scene with a model: the only place that does."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geopipe.allocator import tune_malloc
from geopipe.checkpoint import Checkpoint, ModelFile, downsampled, network_input, strips
from geopipe.classes import IGNORE
from geopipe.errors import JobError, SceneError
from geopipe.grid import NetworkGrid, Tile, Window, bilinear_weights, mirror_pad
from geopipe.mapping.domain import CellGrid, as_record
from geopipe.mapping.preview import part_path, write_part
from geopipe.mapping.tile_store import tile_path, write_tile
from geopipe.nets import Kernels
from geopipe.nets.features import FeatureObserver
from geopipe.nets.resample import enlarge, is_integer, resample
from geopipe.raster import Scene
from geopipe.raster.cog import SCORE_STEPS
from geopipe.raster.scene import window_geobox

Precision = Literal["float32", "tf32", "bfloat16"]

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes of the image that are reversed, one after the other: of any number the first."""
CLASSES_AT_ONCE = 4
"""Whose scores are brought to the scene's grid together: steps on the way take as much again."""
_ROWS = 256
"""Whose probabilities are computed together."""


def score_window(
    model: Checkpoint,
    scene: Scene,
    window: Window,
    *,
    iterations: Sequence[int] | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
) -> list[Tensor]:
    """Scores (classes, h, w) float32 on the scene's own grid after each of `iterations`.

    Default: after all of the model's. The window is averaged down to the net's grid, with the
    halo the net asks for, and the scores are brought back bilinearly (Maggiori et al., section
    IV). Every step depends on global pixel positions alone, so any window gives the same scores.
    """
    view = SceneView.of(model, scene, window, device)
    steps, _ = _scores(model, view.image, iterations, precision)
    return [view.on_scene(scores) for scores in steps]


def source_window(model: Checkpoint, grid: NetworkGrid, window: Window) -> Window:
    """Scene pixels that the scores of `window` depend on; they may stick out of the scene."""
    read = _core(model, grid, window).expand(model.net.halo)
    if model.net.patchwise:
        read = mirror_pad(read, grid.shape)[0]
    return grid.averaged_from(read)


def _core(model: Checkpoint, grid: NetworkGrid, window: Window) -> Window:
    """Net pixels that the scores of `window` are interpolated from, on the net's stride."""
    return grid.snap(grid.interpolated_from(window), model.net.stride)


@dataclass(frozen=True, slots=True)
class SceneView:
    """What the net sees of a scene to score `window`."""

    window: Window
    grid: NetworkGrid
    core: Window
    """Net pixels that the window's scores are interpolated from, on the net's stride."""
    image: Tensor
    """(1, bands, h, w) normalised: `core` and the net's halo."""
    pixels: np.ndarray
    """(bands, h, w) of `window`, in the scene's dtype."""
    valid: np.ndarray
    """(h, w) bool: valid pixels of `window`."""

    @classmethod
    def of(cls, model: Checkpoint, scene: Scene, window: Window, device: str) -> "SceneView":
        """Read what the scores of `window` depend on, averaged to the network's pixels."""
        grid = NetworkGrid.of(scene.geobox, model.gsd)
        core = _core(model, grid, window)
        read = core.expand(model.net.halo)
        padded = mirror_pad(read, grid.shape) if model.net.patchwise else None
        if padded:
            read = padded[0]
        with torch.inference_mode():
            if len(strips(grid, read)) == 1:
                source = grid.averaged_from(read)
                raster = scene.read(source)
                inside = window.within(source)
                own, valid = raster.data[(slice(None), *inside)], raster.valid[inside]
                averages = downsampled(raster, grid, read, device)
            else:
                raster = scene.read(window)
                own, valid = raster.data, raster.valid
                averages = network_input(scene, grid, read, device)
            image = model.normalize(*averages)[None]
            if padded:
                rows, cols = (torch.from_numpy(indices).to(device) for indices in padded[1:])
                image = image[..., rows, :][..., cols]
        return cls(window, grid, core, image, own, valid)

    def on_scene(self, scores: Tensor) -> Tensor:
        """(classes, h, w) of `core` at the pixels of `window`, bilinearly."""
        if len(scores) <= CLASSES_AT_ONCE:
            return self._few_on_scene(scores)
        out = scores.new_empty((len(scores), *self.window.shape))
        for large, reduced in zip(
            out.split(CLASSES_AT_ONCE), scores.split(CLASSES_AT_ONCE), strict=True
        ):
            large.copy_(self._few_on_scene(reduced))
        return out

    def _few_on_scene(self, scores: Tensor) -> Tensor:
        grid, window = self.grid, self.window
        down, along = grid.axes
        if is_integer(grid.factor):
            needed = grid.interpolated_from(window)
            fy, fx = (int(f) for f in grid.factor)
            large = enlarge(scores[(slice(None), *needed.within(self.core))], grid.factor)
            top, left = needed.row * fy - down.lead, needed.col * fx - along.lead
            return large[(slice(None), *window.within(Window(top, left, 0, 0)))]
        size, core = grid.shape, self.core
        rows = bilinear_weights(down, window.row, window.height, size[0], core.row)
        cols = bilinear_weights(along, window.col, window.width, size[1], core.col)
        return resample(scores, rows, cols, columns_first=True)


@dataclass(frozen=True, slots=True, eq=False)
class CellFeatures:
    """What the layers of a network see in the cells of a window."""

    cells: CellGrid
    features: np.ndarray
    """(cells, features) float32"""
    known: np.ndarray
    """(cells,) bool: enough of the cell is valid"""


def cell_features(
    model: Checkpoint, observer: FeatureObserver, scene: Scene, window: Window
) -> CellFeatures | None:
    """The features that a map of `window` takes its domain scores from.

    None for a window that is narrower than half a cell.
    """
    view = SceneView.of(model, scene, window, "cpu")
    cells = CellGrid.of(view.grid, window)
    if cells is None:
        return None
    with _watched(observer, model, view, cells) as features:
        _scores(model, view.image, (0,), "float32")
    return CellFeatures(cells, torch.cat(features, 1).cpu().numpy(), cells.is_known(view.valid))


@contextmanager
def _watched(
    observer: FeatureObserver, model: Checkpoint, view: SceneView, cells: CellGrid | None
) -> Iterator[list[Tensor]]:
    """The features of `cells`, filled while the network runs; empty without cells."""
    if cells is None:
        yield []
        return
    with torch.inference_mode():
        edges = cells.edges(view.grid, view.core.expand(model.net.halo))
        with observer.watch(view.image, edges) as features:
            yield features


def _scores(
    model: Checkpoint,
    image: Tensor,
    iterations: Sequence[int] | None,
    precision: Precision,
    with_cores: bool = False,
) -> tuple[list[Tensor], Tensor | None]:
    """Scores (classes, h, w) after each of `iterations`, and if asked for log-odds of cores.

    Of an image (1, bands, h, w) with the halo of the network; float32, (1, h, w) of cores.
    """
    requested = (model.net.iterations,) if iterations is None else iterations
    with torch.inference_mode(), autocast(image.device.type, precision):
        if with_cores:
            steps, cores = model.net.forward_with_cores(image, requested)
            return [scores[0].float() for scores in steps], cores[0].float()
        steps = model.net.forward_steps(image, requested)
        return [scores[0].float() for scores in steps], None


@contextmanager
def autocast(device: str, precision: Precision) -> Iterator[None]:
    """Convolutions in `precision`; scores are summed in float32 either way.

    TF32, float32 with a mantissa of ten bits, is arithmetic of GPUs. Its switches belong to the
    process: whoever runs nets at the same time runs them in the same precision.
    """
    kind = torch.device(device).type
    tf32 = precision == "tf32"  # else off, though torch has it on: it would move outlines
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def best_class(scores: Tensor) -> Tensor:
    """(classes, h, w) to the class of the highest score, uint8; the first one wins a tie.

    A running maximum: argmax over the strided class axis costs more than the nets.
    """
    best, ids = scores[0], torch.zeros_like(scores[0], dtype=torch.uint8)
    for k in range(1, len(scores)):
        ids.masked_fill_(scores[k] > best, k)
        best = torch.maximum(best, scores[k])
    return ids


def _levels(scores: Tensor, temperature: float) -> Tensor:
    """(classes, h, w) uint8: SCORE_STEPS x probability; a temperature leaves the best class."""
    return (
        torch.softmax(scores if temperature == 1 else scores / temperature, 0)
        .mul_(SCORE_STEPS)
        .round_()
        .to(torch.uint8)
    )


@dataclass(frozen=True, slots=True)
class TileResult:
    """A tile whose file is written."""

    pixels: tuple[int, ...]
    """Pixels of each class after the last step."""
    size: int
    """Bytes of the file."""
    bad: str = ""
    """Why its pixels could not be read; then all of it is nodata."""
    domain: tuple[float | None, ...] = ()
    """How unlike the training images each cell is (see `CellGrid`), of a model that knows it."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """All a worker needs to map a tile. Pickled it is paths and integers: it opens files itself.

    A tile's file holds the class map after each of `iterations` and, after the last, the
    probability of the best class (`with_confidence`) and of each (`with_scores`), uint8:
    SCORE_STEPS x probability. With `with_cores`, of a model that scores them, the last band is
    the probability of the core of a building.
    """

    scene: Scene
    model: ModelFile
    device: str
    iterations: tuple[int, ...]
    with_scores: bool
    folder: str = ""
    """Where the files go."""
    precision: Precision = "float32"
    skip_bad: bool = False
    with_confidence: bool = False
    with_cores: bool = False
    picture: tuple[int, int] | None = None
    """Rows and columns of a picture of the scene, to which each tile writes its part."""
    flips: int = 1
    """Of `FLIPS`, whose probabilities are averaged."""
    kernels: Kernels = field(default_factory=Kernels)
    """Chosen by whoever hands out the tiles, so that all of a map are computed alike."""

    def __call__(self, tile: Tile) -> TileResult:
        """Map `tile` into its file."""
        bad, domain = "", tuple[float | None, ...]()
        try:
            data, domain = self._compute(tile)
        except SceneError as e:
            if not self.skip_bad:
                raise JobError(
                    f"tile {tile}: {e.message}", f"{e.hint}; `skip_bad` maps all other tiles"
                ) from e
            bad, data = e.message, self._nodata_tile(tile, len(self._model()[0].scheme))
        path = tile_path(Path(self.folder), tile.index)
        size = write_tile(path, data, window_geobox(self.scene.geobox, tile.core))
        classes = len(self._model()[0].scheme)
        pixels = np.bincount(data[len(self.iterations) - 1].ravel(), minlength=256)[:classes]
        return TileResult(tuple(pixels.tolist()), size, bad, domain)

    def compute(self, tile: Tile) -> np.ndarray:
        """(bands, h, w) uint8, IGNORE where the scene is not valid."""
        return self._compute(tile)[0]

    def _compute(self, tile: Tile) -> tuple[np.ndarray, tuple[float | None, ...]]:
        """The pixels of a tile, and how unlike the training images its cells are."""
        model, observer = self._model()
        view = SceneView.of(model, self.scene, tile.core, self.device)
        valid = view.valid
        if self.picture and self.folder:
            path = part_path(Path(self.folder), tile.index)
            shape = self.scene.shape
            write_part(path, view.pixels, valid, tile.core, shape, self.picture)
        if not valid.any():
            return self._nodata_tile(tile, len(model.scheme)), ()
        cells = CellGrid.of(view.grid, tile.core) if model.domain else None
        with _watched(observer, model, view, cells) as features:
            on_net, cores = self._scores(model, view.image, ())
        with torch.inference_mode():
            if self.flips > 1:
                on_net, cores = self._with_flips(model, view.image, on_net, cores)
            steps = [view.on_scene(scores) for scores in on_net]
            cores = cores if cores is None else view.on_scene(cores)
        bands = [best_class(s)[None] for s in steps]
        if self.with_scores or self.with_confidence:
            levels = [_levels(rows, model.temperature) for rows in steps[-1].split(_ROWS, 1)]
            if self.with_confidence:
                bands.append(torch.cat([s.amax(0, keepdim=True) for s in levels], 1))
            if self.with_scores:
                bands.append(torch.cat(levels, 1))
        if cores is not None:
            bands.append(torch.sigmoid(cores).mul_(SCORE_STEPS).round_().to(torch.uint8))
        data: np.ndarray = torch.cat(bands).cpu().numpy()
        if not valid.all():
            data[:, ~valid] = IGNORE
        if cells is None or model.domain is None:
            return data, ()
        scores = model.domain.scores(torch.cat(features, 1).cpu().numpy())
        return data, as_record(scores, cells.is_known(valid))

    def _scores(
        self, model: Checkpoint, image: Tensor, axes: tuple[int, ...]
    ) -> tuple[list[Tensor], Tensor | None]:
        """`_scores` of an image that is flipped along `axes` and back."""
        if not axes:
            return _scores(model, image, self.iterations, self.precision, self.with_cores)
        steps, cores = self._scores(model, image.flip(axes), ())
        return [s.flip(axes) for s in steps], cores if cores is None else cores.flip(axes)

    def _with_flips(
        self, model: Checkpoint, image: Tensor, steps: Sequence[Tensor], cores: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Scores whose probabilities are the means over the flips (test-time augmentation).

        Wang et al. 2019, Neurocomputing 338:34-45. `steps` and `cores`: of the image as it is.
        """
        sums = [torch.softmax(scores / model.temperature, 0) for scores in steps]
        for axes in FLIPS[1 : self.flips]:
            more, more_cores = self._scores(model, image, axes)
            for total, scores in zip(sums, more, strict=True):
                total += torch.softmax(scores / model.temperature, 0)
            if cores is not None and more_cores is not None:
                cores = cores + more_cores
        smallest = torch.finfo(torch.float32).tiny
        means = [(total / self.flips).clamp_min_(smallest) for total in sums]
        scores_of_means = [mean.log_().mul_(model.temperature) for mean in means]
        return scores_of_means, cores if cores is None else cores / self.flips

    def _nodata_tile(self, tile: Tile, classes: int) -> np.ndarray:
        bands = len(self.iterations) + self.with_confidence + self.with_scores * classes
        bands += self.with_cores
        return np.full((bands, *tile.core.shape), IGNORE, np.uint8)

    def _model(self) -> tuple[Checkpoint, FeatureObserver]:
        with _LOADING:
            return _loaded(self.model, self.device, self.kernels)


_LOADING = threading.Lock()
"""Threads that begin together wait for one net."""


@lru_cache(maxsize=1)
def _loaded(file: ModelFile, device: str, kernels: Kernels) -> tuple[Checkpoint, FeatureObserver]:
    """One net per process; a rewritten file is another one by its hash."""
    tune_malloc()
    model = file.own_checkpoint()
    model.net.to(device)
    model.net.kernels = kernels
    return model, FeatureObserver(model.net.base)
