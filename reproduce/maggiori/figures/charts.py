"""Charts: figures over the iterations (the paper's Fig. 7b) and per class (Fig. 7a)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from geopipe.metrics import Metrics
from reproduce.maggiori.figures.style import COLOURS, DASHES, MARKS, QUIET, drawing, method_legend

Runs = Sequence[Sequence[Metrics]]
"""Of each seed, the metrics after 0, 1... iterations; a single one for a method without any."""

_WHOLE: tuple[tuple[str, Callable[[Metrics], float]], ...] = (
    ("mean IoU, %", lambda m: m.mean_iou),
    ("overall accuracy, %", lambda m: m.overall_accuracy),
)


def over_iterations(path: Path, methods: Mapping[str, Runs], trained: int = 5) -> None:
    """Mean IoU and overall accuracy after each iteration; bands: one deviation over the seeds.

    Methods without iterations are level lines. `trained`: how many iterations were trained; a
    line marks them where any method goes on beyond. At most eight methods.
    """
    with drawing(path, 9.6, 4.4) as figure:
        last = max(len(seed) for seeds in methods.values() for seed in seeds) - 1
        panels = figure.subplots(1, 2)
        for axes, (label, measure) in zip(panels, _WHOLE, strict=True):
            for i, seeds in enumerate(methods.values()):
                _curve(axes, _table(seeds, measure), i, last)
            axes.set_xlabel("iterations")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
            axes.margins(x=0.03, y=0.08)
            if last > trained:
                axes.axvline(trained, color=QUIET, linewidth=1, linestyle=":")
                axes.annotate(
                    "trained so far ",
                    (trained, 0.02),
                    xycoords=("data", "axes fraction"),
                    ha="right",
                    va="bottom",
                    color=QUIET,
                    fontsize=9,
                )
        method_legend(figure, panels[0].lines[: len(methods)], list(methods))


def _curve(axes: Axes, table: np.ndarray, index: int, last: int) -> None:
    """`table` (seeds, iterations + 1), percent."""
    colour = COLOURS[index % len(COLOURS)]
    mean = table.mean(0)
    spread = table.std(0, ddof=1) if len(table) > 1 else np.zeros_like(mean)
    if table.shape[1] == 1:  # no iterations: the same all along
        dashes = DASHES[index % len(DASHES)]
        axes.plot([0, last], [mean[0]] * 2, color=colour, linewidth=1.5, linestyle=(0, dashes))
        if spread[0]:
            axes.fill_between(
                [0, last], *(mean + s * spread for s in (-1, 1)), color=colour, alpha=0.12, lw=0
            )
        return
    steps = np.arange(len(mean))
    axes.plot(
        steps,
        mean,
        color=colour,
        linewidth=1.8,
        marker=MARKS[index % len(MARKS)],
        markersize=5 if len(mean) <= 16 else 0,
    )
    axes.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)


def class_bars(path: Path, methods: Mapping[str, Sequence[Metrics]]) -> None:
    """IoU of each class and their mean, a bar per method; whiskers: one deviation over the seeds.

    `methods`: name -> the final metrics of each seed.
    """
    names = next(iter(methods.values()))[0].names
    groups = ("mean", *names)
    width = 0.84 / len(methods)
    with drawing(path, max(7.0, 0.42 * len(groups) * len(methods) + 1.5), 4.4) as figure:
        axes = figure.add_subplot()
        handles = []
        for i, seeds in enumerate(methods.values()):
            table = 100 * np.array([[m.mean_iou, *m.iou] for m in seeds])
            spread = table.std(0, ddof=1) if len(table) > 1 else None
            positions = np.arange(len(groups)) + (i - (len(methods) - 1) / 2) * width
            handles.append(
                axes.bar(
                    positions,
                    table.mean(0),
                    width * 0.92,
                    yerr=spread,
                    color=COLOURS[i % len(COLOURS)],
                    error_kw={"elinewidth": 1, "ecolor": "#333333", "capsize": 2},
                )
            )
            for x, mean, above in zip(
                positions,
                table.mean(0),
                np.zeros(len(positions)) if spread is None else spread,
                strict=True,
            ):
                if np.isfinite(mean):
                    axes.annotate(
                        f"{mean:.0f}",
                        (x, mean + above),
                        xytext=(0, 2),
                        textcoords="offset points",
                        ha="center",
                        va="bottom",
                        fontsize=8,
                    )
        axes.set_xticks(range(len(groups)), groups)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("IoU, %")
        axes.set_ylim(0, 105)
        axes.grid(visible=False, axis="x")
        method_legend(figure, handles, list(methods))


def _table(runs: Runs, measure: Callable[[Metrics], float]) -> np.ndarray:
    """(seeds, iterations + 1), percent; all seeds as long as the shortest."""
    shortest = min(len(seed) for seed in runs)
    return 100 * np.array([[measure(m) for m in seed[:shortest]] for seed in runs])
