"""How much of each window of a scene a model is expected to have wrong."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.errors import ConfigError
from geopipe.grid import Window, ground_gsd
from geopipe.mapping.tile import FLIPS, SceneView
from geopipe.progress import progress
from geopipe.raster import Scene

_NET_PX = 1024
"""About the network pixels a side that are computed at once."""
_MOST_NET_PX = 2048
"""Of a window, which is computed at once."""
_MIN_VALID = 0.5
"""Share of a window that has an image; others are left out."""


@dataclass(frozen=True, slots=True)
class WindowUncertainty:
    """A window of a scene, and what of it the model is expected to have wrong."""

    window: Window
    share: float
    """Mean over the valid pixels of 1 - the probability of the best class."""
    area_m2: float
    """The same as square metres on the ground."""


def window_uncertainties(
    scene: Scene, model: Checkpoint, metres: float, device: str = "cpu"
) -> Iterator[WindowUncertainty]:
    """Each window of `metres` a side that is at least half valid, row by row of blocks.

    The class probabilities are the mean of those of the image and of its three flips: where these
    disagree the model has learnt no reason to prefer one of them (test-time augmentation, Wang et
    al. 2019, Neurocomputing 338:34-45). Blocks of windows are computed one at a time, so memory
    does not grow with the scene. Raises ConfigError for windows of less than 16 pixels, or of more
    than 2,048 network pixels.
    """
    gsd = ground_gsd(scene.geobox)
    sides = [max(1, round(metres / g)) for g in gsd]
    if min(sides) < 16:
        raise ConfigError(
            f"windows of {metres:g} m are {min(sides)} pixels of {scene.path}", "give larger ones"
        )
    longest = max(min(side, n) * g for side, n, g in zip(sides, scene.shape, gsd, strict=True))
    if longest > (most := _MOST_NET_PX * model.gsd):
        raise ConfigError(f"windows of {metres:g} m are too large", f"give at most {most:g} m")
    rows, cols = (max(1, round(n / side)) for n, side in zip(scene.shape, sides, strict=True))
    at_once = max(1, round(_NET_PX * model.gsd / metres))
    blocks = [(r, c) for r in range(0, rows, at_once) for c in range(0, cols, at_once)]
    model.net.to(device)
    with progress("looking for uncertain windows", len(blocks)) as advance:
        for row, col in blocks:
            height, width = min(at_once, rows - row), min(at_once, cols - col)
            block = Window(
                row * sides[0], col * sides[1], height * sides[0], width * sides[1]
            ).clip(scene.shape)
            yield from _block_uncertainties(scene, model, block, (sides[0], sides[1]), device)
            advance()


def _block_uncertainties(
    scene: Scene, model: Checkpoint, block: Window, sides: tuple[int, int], device: str
) -> Iterator[WindowUncertainty]:
    uncertainty, valid = uncertainty_of(scene, model, block, device)
    pixel_m2 = math.prod(ground_gsd(scene.geobox))
    for top in range(0, block.height, sides[0]):
        for left in range(0, block.width, sides[1]):
            inside = slice(top, top + sides[0]), slice(left, left + sides[1])
            if valid[inside].mean() < _MIN_VALID:
                continue
            values = uncertainty[inside][valid[inside]]
            window = Window(block.row + top, block.col + left, *sides).clip(scene.shape)
            yield WindowUncertainty(window, float(values.mean()), float(values.sum()) * pixel_m2)


def uncertainty_of(
    scene: Scene, model: Checkpoint, window: Window, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """1 - the mean probability of the best class over the flips (h, w) float32, and validity."""
    view = SceneView.of(model, scene, window, device)
    if not view.valid.any():
        return np.zeros(window.shape, np.float32), view.valid
    total: torch.Tensor | None = None
    with torch.inference_mode():
        for axes in FLIPS:
            scores = model.net(view.image.flip(axes) if axes else view.image)[0].float()
            scores = (scores.flip(axes) if axes else scores) / model.temperature
            part = torch.softmax(scores, 0)
            total = part if total is None else total + part
        assert total is not None
        uncertainty = 1 - view.on_scene(total / len(FLIPS)).amax(0)
    return uncertainty.clamp(0, 1).cpu().numpy(), view.valid
