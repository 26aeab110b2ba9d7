"""Pictures side by side: fuzzy scores (the paper's Fig. 6), maps (Fig. 9), close-ups (Fig. 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.classes import ClassScheme
from geopipe.grid import Window
from geopipe.labels import RasterLabels
from geopipe.mapping.tile import score_window
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox
from geopipe.report.map_report import to_bytes
from reproduce.maggiori.figures.style import (
    class_legend,
    coloured,
    drawing,
    picture,
    side_label,
    smaller,
)

_SHOWN_PX = 640
"""Side at which a full map is shown."""


@dataclass(frozen=True, eq=False)
class Place:
    """A window of a scene: its image, and class maps of it."""

    image: np.ndarray
    """(h, w, 3) uint8"""
    maps: tuple[tuple[str, np.ndarray], ...]
    """(name, class ids (h, w) uint8), the truth first."""


@dataclass(frozen=True, eq=False)
class FuzzyRow:
    """The probability of one class in a window, after each iteration."""

    name: str
    image: np.ndarray
    """(h, w, 3) uint8"""
    steps: tuple[np.ndarray, ...]
    """(h, w) float32, 0 to 1, after 0, 1... iterations."""
    truth: np.ndarray
    """(h, w) bool"""


def read_place(
    scene: Scene, window: Window, maps: Mapping[str, Path], scheme: ClassScheme
) -> Place:
    """`window` of the scene and of each class map or label raster, in the order of `maps`."""
    raster = scene.read(window)
    plane = window_geobox(scene.geobox, window)
    read = [(name, RasterLabels.open(path, scheme).read(plane)) for name, path in maps.items()]
    return Place(_photo(raster.data, raster.valid), tuple(read))


def fuzzy_rows(
    model: Checkpoint, scene: Scene, truth: Path, windows: Sequence[tuple[Window, str]]
) -> list[FuzzyRow]:
    """One row per window and class name: softmax of the scores after every iteration."""
    rows = []
    for window, name in windows:
        k, raster = model.scheme.id_of(name), scene.read(window)
        ids = RasterLabels.open(truth, model.scheme).read(window_geobox(scene.geobox, window))
        every = range(model.net.iterations + 1)
        scores = score_window(model, scene, window, iterations=every)
        steps = tuple(torch.softmax(s, 0)[k].numpy() for s in scores)
        rows.append(FuzzyRow(name, _photo(raster.data, raster.valid), steps, ids == k))
    return rows


def fuzzy_maps(path: Path, rows: Sequence[FuzzyRow]) -> None:
    """Rows: a class at a place; columns: image, its probability after each iteration, truth."""
    columns = len(rows[0].steps) + 2
    with drawing(path, 1.45 * columns + 0.9, 1.4 * len(rows) + 0.3) as figure:
        table = figure.subplots(len(rows), columns, squeeze=False)
        figure.get_layout_engine().set(wspace=0.01, hspace=0.01, w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr,call-arg]
        for i, (row, line) in enumerate(zip(rows, table, strict=True)):
            top = i == 0
            picture(line[0], row.image, "image" if top else "")
            side_label(line[0], row.name)
            for t, (axes, chance) in enumerate(zip(line[1:-1], row.steps, strict=True)):
                title = ("t = 0 (CNN)" if t == 0 else f"t = {t}") if top else ""
                shown = picture(axes, chance, title, cmap="magma", vmin=0, vmax=1)
            picture(line[-1], row.truth, "truth" if top else "", cmap="magma", vmin=0, vmax=1)
        bar = figure.colorbar(shown, ax=table[:, -1], shrink=0.8, aspect=30, ticks=[0, 0.5, 1])
        bar.set_label("probability")
        bar.outline.set_visible(False)


def full_maps(
    path: Path, region: Place, scheme: ClassScheme, notes: Mapping[str, str] | None = None
) -> None:
    """The image and every map of `region`, three or four a row; `notes`: a line under a name."""
    panels = [("image", smaller(region.image, _SHOWN_PX))]
    panels += [(name, smaller(coloured(ids, scheme), _SHOWN_PX)) for name, ids in region.maps]
    columns = 3 if len(panels) in (3, 5, 6, 9) else min(4, len(panels))
    rows = -(-len(panels) // columns)
    tall = region.image.shape[0] / region.image.shape[1]
    with drawing(path, 3.1 * columns, (3.1 * tall + (0.5 if notes else 0.3)) * rows + 0.4) as f:
        table = f.subplots(rows, columns, squeeze=False).ravel()
        for axes in table[len(panels) :]:
            axes.set_axis_off()
        for axes, (name, pixels) in zip(table, panels, strict=False):
            # A second line, perhaps blank, keeps the names of a row level.
            picture(axes, pixels, f"{name}\n{notes.get(name, ' ')}" if notes else name)
        class_legend(f, scheme)


def close_ups(path: Path, regions: Sequence[Place], scheme: ClassScheme) -> None:
    """Rows: places; columns: image and every map."""
    columns = len(regions[0].maps) + 1
    with drawing(path, 1.75 * columns, 1.75 * len(regions) + 0.95) as figure:
        table = figure.subplots(len(regions), columns, squeeze=False)
        figure.get_layout_engine().set(wspace=0.01, hspace=0.01, w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr,call-arg]
        for i, (region, line) in enumerate(zip(regions, table, strict=True)):
            picture(line[0], region.image, "" if i else "image")
            for axes, (name, ids) in zip(line[1:], region.maps, strict=True):
                picture(axes, coloured(ids, scheme), "" if i else _two_lines(name))
        class_legend(figure, scheme)


def _two_lines(name: str) -> str:
    """A long name broken at the space nearest to its middle."""
    spaces = [i for i, c in enumerate(name) if c == " "]
    if len(name) <= 16 or not spaces:
        return name
    split_at = min(spaces, key=lambda i: abs(i - len(name) // 2))
    return f"{name[:split_at]}\n{name[split_at + 1 :]}"


def _photo(data: np.ndarray, valid: np.ndarray) -> np.ndarray:
    bands = (list(data) + [data[-1]] * 2)[:3]
    return to_bytes(np.stack(bands), valid).transpose(1, 2, 0)
