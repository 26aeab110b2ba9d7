"""Figures of the evaluation of scene classifiers, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geopipe.classes import ClassScheme
from geopipe.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
_MAX_NUMBERED_CLASSES = 30
"""Classes up to which a confusion matrix has numbers in it."""
_MIN_CHIPS = 5
"""Chips below which t-SNE says nothing."""


def confusion(path: Path, metrics: Metrics) -> None:
    """The confusion matrix: rows are the classes, columns what was predicted; percent of rows."""
    names, matrix = _plain(metrics.names), metrics.matrix
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 2.2 + 0.34 * len(names)
    figure, (axes,) = _figure((side, side))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    if len(names) <= _MAX_NUMBERED_CLASSES:
        for row, col in np.argwhere(share >= 0.5):
            colour = "white" if share[row, col] > 60 else "black"
            axes.text(
                col,
                row,
                f"{share[row, col]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color=colour,
            )
    _save(figure, path)


def class_bars(path: Path, names: Sequence[str], accuracy: np.ndarray) -> None:
    """Accuracy of each class, mean over splits with its deviation; `accuracy` (splits, classes)."""
    mean, deviation = 100 * np.nanmean(accuracy, 0), 100 * np.nanstd(accuracy, 0)
    figure, (axes,) = _figure((6.4, 1.2 + 0.24 * len(names)))
    axes.barh(
        range(len(names)),
        mean,
        xerr=deviation if len(accuracy) > 1 else None,
        color="#2a7fb8",
        ecolor="#404040",
    )
    axes.set_yticks(range(len(names)), _plain(names))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("right, % of the class's held-out chips")
    _save(figure, path)


def tsne(features: np.ndarray, seed: int) -> np.ndarray:
    """(n, 2) of features (n, d): van der Maaten and Hinton 2008; zeros of fewer than 5 chips."""
    from sklearn.manifold import TSNE

    if len(features) < _MIN_CHIPS or not np.ptp(features):
        return np.zeros((len(features), 2))
    perplexity = min(30.0, (len(features) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    return np.asarray(points)


def scatter(
    path: Path, embeddings: Mapping[str, np.ndarray], ids: np.ndarray, scheme: ClassScheme
) -> None:
    """Points (n, 2) in the colours of their classes, a panel for each entry of `embeddings`."""
    figure, panels = _figure((4.2 * len(embeddings) + 1.6, 4.4), len(embeddings))
    for axes, (title, points) in zip(panels, embeddings.items(), strict=True):
        for k, c in enumerate(scheme.classes):
            class_points = points[ids == k]
            marker = "os^vD*"[k % 6]  # neighbours on the wheel of colours look alike
            axes.scatter(
                class_points[:, 0],
                class_points[:, 1],
                s=14,
                color=c.color,
                marker=marker,
                label=_plain([c.name])[0],
                linewidths=0,
            )
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=7)
    _save(figure, path)


def _plain(names: Sequence[str]) -> list[str]:
    r"""Names that matplotlib takes as they are: between two $ it would look for formulas."""
    return [name.replace("$", r"\$") for name in names]


def _figure(size: tuple[float, float], panels: int = 1) -> tuple["Figure", list["Axes"]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def _save(figure: "Figure", path: Path) -> None:
    import warnings

    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as boxes
        figure.savefig(path, dpi=130, metadata={"Software": None})
