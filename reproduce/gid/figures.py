"""Figures: accuracy of each method, and maps of some crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geopipe.classes import IGNORE
from geopipe.grid import Window
from geopipe.learn.patches import PatchGrid
from reproduce.gid import data
from reproduce.gid.experiment import Experiment
from reproduce.gid.metrics import ALL, SEGMENTS, crop_maps
from reproduce.maggiori.figures import Place, close_ups
from reproduce.maggiori.figures.style import COLOURS, drawing, method_legend

Groups = Mapping[str, Mapping[str, Sequence[float]]]
"""Group -> bar -> overall accuracy of each seed."""


def bars(path: Path, groups: Groups) -> None:
    """Overall accuracy, percent; whiskers: one deviation over the seeds.

    The axis starts below the least one, at a multiple of ten.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.84 / len(names)
    values = 100 * np.array([x for group in groups.values() for xs in group.values() for x in xs])
    with drawing(path, max(6.0, 0.5 * len(groups) * len(names) + 2), 4.2) as figure:
        axes = figure.add_subplot()
        handles = []
        for i, name in enumerate(names):
            bars_of_method = [
                (k, 100 * np.array(g[name])) for k, g in enumerate(groups.values()) if name in g
            ]
            positions = (
                np.array([k for k, _ in bars_of_method]) + (i - (len(names) - 1) / 2) * width
            )
            mean = np.array([x.mean() for _, x in bars_of_method])
            deviations = np.array([x.std(ddof=1) if len(x) > 1 else 0.0 for _, x in bars_of_method])
            handles.append(
                axes.bar(
                    positions,
                    mean,
                    width * 0.92,
                    yerr=deviations if deviations.any() else None,
                    color=COLOURS[i % len(COLOURS)],
                    error_kw={"elinewidth": 1, "ecolor": "#333333", "capsize": 2},
                )
            )
            for x, m, above in zip(positions, mean, deviations, strict=True):
                axes.annotate(
                    f"{m:.0f}",
                    (x, m + above),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
        axes.set_xticks(range(len(groups)), list(groups))
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("overall accuracy, %")
        axes.set_ylim(max(0, (values.min() - 5) // 10 * 10), 102)
        axes.grid(visible=False, axis="x")
        method_legend(figure, handles, names)


def examples(path: Path, lab: Experiment, target: PatchGrid) -> None:
    """Maps by the source model of a crop of each class, that with most of other classes in it."""
    names, classes = data.folders(target), data.scheme()
    crop_ids = []
    for class_id, name in enumerate(classes.names):
        members = [i for i, fine in enumerate(names) if data.FINE[fine] == name]
        if members:
            crop_ids.append(max(members, key=lambda i: _others(target, i, class_id)))
    patches = data.of_rasters(target, np.array(crop_ids))
    embeddings = lab.embeddings(lab.model, lab.model_path, patches)
    windows = []
    for plane, maps in crop_maps(lab.model, patches, embeddings):
        window = Window.of_shape(plane.shape)
        image = plane.pixels(window)[0].numpy().astype(np.uint8).transpose(1, 2, 0)
        panels = {
            "truth": plane.labels(window),
            "all sizes": maps[ALL],
            "+ segments": maps[SEGMENTS],
        }
        windows.append(Place(image, tuple(panels.items())))
    close_ups(path, windows, classes)


def _others(patches: PatchGrid, number: int, class_id: int) -> int:
    """Pixels of a crop that are of other classes than its own."""
    plane = patches.rasters[number]
    ids = plane.labels(Window.of_shape(plane.shape))
    return int(((ids != IGNORE) & (ids != class_id)).sum())
