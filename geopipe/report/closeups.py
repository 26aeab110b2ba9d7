"""Close-ups: a selection of places on the test scene, with panels side by side."""

from pathlib import Path

import numpy as np

from geopipe.classes import IGNORE
from geopipe.evaluation.iterations import IterationMetrics
from geopipe.grid import Window, ground_gsd
from geopipe.labels import LabelSource
from geopipe.raster import Raster, Scene
from geopipe.raster.scene import opened, window_geobox
from geopipe.report.map_report import CloseUp, to_bytes


def select_windows(truth: Path, count: int, side: int) -> list[Window]:
    """The `count` windows, none over another, where the rarest class of the truth shows most.

    Windows lie on a grid, so the choice follows from the truth alone and not from the map.
    """
    with opened(truth) as src:
        height, width = src.shape
        windows = []
        for row in range(0, height - side + 1, side):
            strip = src.read(1, window=((row, row + side), (0, width)))
            for col in range(0, width - side + 1, side):
                ids = strip[:, col : col + side]
                if (ids == IGNORE).mean() < 0.05:
                    shares = np.bincount(ids.ravel(), minlength=256)[:IGNORE] / ids.size
                    windows.append((shares, Window(row, col, side, side)))
    if not windows:
        return []
    shares = np.stack([s for s, _ in windows])[:, 1:]
    shares = shares[:, shares.any(axis=0)]
    # Relative to the most a class ever fills, so that thin roads weigh as much as halls.
    best = np.argsort(-(shares / shares.max(axis=0, initial=1e-9)).sum(axis=1), kind="stable")
    return [windows[i][1] for i in best[:count]]


def close_up(
    scene: Scene,
    window: Window,
    noisy: tuple[str, LabelSource] | None,
    truth: Path,
    evaluation: IterationMetrics,
    names: tuple[str, str],
) -> CloseUp:
    """Image, noisy labels (where they reach), truth, first map, each iteration, refined map.

    `names`: of the first and the last map.
    """
    raster = scene.read(window)
    panels = []
    if noisy:
        name, source = noisy
        panels.append((name, source.read(window_geobox(scene.geobox, window))))
    panels.append(("truth", _read(truth, window)))
    *before, last = evaluation.maps
    for t, path in enumerate(before):
        panels.append((names[0] if t == 0 else f"iteration {t}", _read(path, window)))
    after = f" ({len(before)})" if len(before) > 1 else ""
    panels.append((names[1] + after if before else names[0], _read(last, window)))
    title = f"rows {window.row}-{window.bottom}, columns {window.col}-{window.right}"
    return CloseUp(title, _photo(raster), tuple(panels), sum(ground_gsd(raster.geobox)) / 2)


def _photo(raster: Raster) -> np.ndarray:
    bands = (list(raster.data) + [raster.data[-1]] * 2)[:3]
    return to_bytes(np.stack(bands), raster.valid)


def _read(path: Path, window: Window) -> np.ndarray:
    with opened(path) as src:
        ids = src.read(1, window=((window.row, window.bottom), (window.col, window.right)))
    return np.asarray(ids)
