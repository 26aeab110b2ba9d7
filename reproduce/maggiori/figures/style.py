"""One look for all figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geopipe.classes import IGNORE, ClassScheme

COLOURS = ("#2a7fb8", "#d1562b", "#3d9a57", "#8a63c9", "#b8860b", "#c2447c", "#5b6770", "#17a2a2")
"""Of methods, in the order in which they are given."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ((6, 2), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (3, 2))
"""Of level lines, so that two at one height are both seen."""
INK, QUIET = "#222222", "#8a8f94"
_DPI = 150
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "grid.color": "#e4e6e8",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches, written to `path` (PNG) whole or not at all."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=_DPI)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        try:
            # No software version: equal data, equal bytes.
            figure.savefig(part, format="png", metadata={"Software": None})
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def picture(axes: Axes, pixels: np.ndarray, title: str = "", **options: Any) -> Any:
    """Show `pixels` without ticks or grid; `title` above."""
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="center")
    return axes.imshow(pixels, **options)


def side_label(axes: Axes, text: str) -> None:
    """The name of a row of pictures, to the left of its first one `axes`."""
    axes.text(-0.06, 0.5, text, transform=axes.transAxes, rotation=90, ha="right", va="center")


def coloured(ids: np.ndarray, scheme: ClassScheme) -> np.ndarray:
    """(h, w, 3) uint8: class ids in the colours of `scheme`, IGNORE in white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(scheme)] = [c.rgb for c in scheme.classes]
    return np.asarray(table[np.where(ids < len(scheme), ids, IGNORE)])


def smaller(pixels: np.ndarray, side: int) -> np.ndarray:
    """(h, w, 3) uint8 averaged by a whole factor to at most about `side` px a side."""
    factor = max(1, -(-max(pixels.shape[:2]) // side))
    height, width = (n // factor * factor for n in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(
        height // factor, factor, width // factor, factor, pixels.shape[2]
    )
    return np.asarray(blocks.mean((1, 3)).round(), np.uint8)


def class_legend(figure: Figure, scheme: ClassScheme) -> None:
    """The colours of the classes, below everything."""
    handles = [
        Patch(facecolor=c.color, edgecolor=QUIET, linewidth=0.5, label=c.name)
        for c in scheme.classes
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def method_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """The methods, below everything, three or four in a row."""
    ncols = min(len(labels), 4 if max(map(len, labels)) < 24 else 3)
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
