"""Score one window of a scene with a model: the only place that does."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geopipe.checkpoint import Checkpoint, net_image
from geopipe.classes import IGNORE
from geopipe.grid import NetGrid, Tile, Window, bilinear_taps
from geopipe.nets.resample import resample
from geopipe.raster import Scene
from geopipe.raster.cog import SCORE_STEPS


def score_window(
    model: Checkpoint,
    scene: Scene,
    window: Window,
    *,
    iterations: Sequence[int] | None = None,
    device: str = "cpu",
) -> list[Tensor]:
    """Scores (classes, h, w) float32 on the scene's own grid after each of `iterations`.

    Default: after all of the model's. The window is averaged down to the net's grid, with the
    halo the net asks for, and the scores are brought back bilinearly (Maggiori et al., section
    IV). Every step depends on global pixel positions alone, so any window gives the same scores.
    """
    grid = NetGrid.of(scene.geobox, model.gsd)
    needed = grid.interpolated_from(window)
    core = needed.snap(model.net.stride)
    image, valid = net_image(scene, grid, core.expand(model.net.halo), device)
    rows, cols = (
        bilinear_taps(start, count, factor, size, core_start)
        for start, count, factor, size, core_start in (
            (window.row, window.height, grid.factor[0], grid.shape[0], core.row),
            (window.col, window.width, grid.factor[1], grid.shape[1], core.col),
        )
    )
    with torch.inference_mode():
        steps = model.net.forward_steps(
            model.normalise(image, valid)[None],
            (model.net.iterations,) if iterations is None else iterations,
        )
        return [resample(scores[0], rows, cols) for scores in steps]


def best_class(scores: Tensor) -> Tensor:
    """(classes, h, w) to the class of the highest score, uint8; the first one wins a tie.

    A running maximum: argmax over the strided class axis costs more than the nets.
    """
    best, ids = scores[0].clone(), torch.zeros_like(scores[0], dtype=torch.uint8)
    for k in range(1, len(scores)):
        higher = scores[k] > best
        best = torch.where(higher, scores[k], best)
        ids = torch.where(higher, torch.tensor(k, dtype=torch.uint8, device=ids.device), ids)
    return ids


@dataclass(frozen=True, slots=True)
class TileResult:
    """What a tile's core is written with."""

    classes: np.ndarray
    """(steps, h, w) uint8 class ids, IGNORE where the scene is not valid"""
    scores: np.ndarray | None
    """(classes, h, w) uint8, SCORE_STEPS x probability after the last step"""


@dataclass(frozen=True, slots=True)
class TileJob:
    """All a worker needs to map a tile: paths and integers. It opens the files itself."""

    scene: Scene
    model: str
    model_hash: str
    device: str
    iterations: tuple[int, ...]
    with_scores: bool

    def __call__(self, tile: Tile) -> TileResult:
        model = _loaded(self.model, self.model_hash, self.device)
        steps = score_window(
            model, self.scene, tile.core, iterations=self.iterations, device=self.device
        )
        valid = self.scene.read(tile.core).valid
        classes = torch.stack([best_class(s) for s in steps]).cpu().numpy()
        classes[:, ~valid] = IGNORE
        scores = None
        if self.with_scores:
            probability = torch.softmax(steps[-1], 0).mul(SCORE_STEPS).round()
            scores = probability.to(torch.uint8).cpu().numpy()
            scores[:, ~valid] = IGNORE
        return TileResult(classes, scores)


@lru_cache(maxsize=1)
def _loaded(path: str, digest: str, device: str) -> Checkpoint:
    """One net per process; `digest` makes a rewritten file another one."""
    del digest
    torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa would move outlines
    model = Checkpoint.load(Path(path))
    model.net.to(device)
    return model
