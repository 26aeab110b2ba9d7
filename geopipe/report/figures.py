"""Figures of a report as data URIs and inline SVG."""

import base64
import io
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geopipe.classes import IGNORE, ClassScheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#010203"
"""Stands for the page's text colour in charts, so that they are read in the dark too."""
_LINES = ("#2a7fb8", "#d1562b", "#3d9a57", "#8a63c9", "#b8860b", "#c2447c")


_MAX_INSIDE_LEGEND = 4
"""More names than these would hide lines: they stand beside the chart."""


@dataclass(frozen=True)
class Curve:
    """A chart of lines."""

    title: str
    x_label: str
    y_label: str
    series: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    """(name, xs, ys)"""


@dataclass(frozen=True)
class Picture:
    """An image for ``<img>``."""

    uri: str
    width: int
    height: int
    says: str
    """What it shows, in words, for those who cannot see it."""


def photo(image: np.ndarray) -> Picture:
    """`image`, (3, h, w) uint8, as a JPEG."""
    pixels = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)), "RGB")
    return _picture(pixels, "scene", "JPEG", quality=88)


def panel(ids: np.ndarray, scheme: ClassScheme, *, hidden: int | None = None) -> Picture:
    """Class ids, (h, w) uint8, as a PNG in the colours of `scheme`; IGNORE is transparent.

    So is the class `hidden`, for laying the others over an image.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(scheme)] = [c.rgb for c in scheme.classes]
    displayed = np.where(ids < len(scheme), ids, IGNORE).astype(np.uint8)
    if hidden is not None:
        displayed[displayed == hidden] = IGNORE
    pixels = Image.fromarray(displayed, "P")
    pixels.putpalette(palette.tobytes())
    shares = np.bincount(ids.ravel(), minlength=256) / max(1, ids.size)
    description = ", ".join(
        f"{100 * shares[i]:.1f} % {name}" for i, name in enumerate(scheme.names)
    )
    return _picture(pixels, description, "PNG", transparency=IGNORE)


@dataclass(frozen=True)
class ScaleBar:
    """A length on the ground, drawn beside a picture."""

    text: str
    share: float
    """Of the picture's width, percent."""


def scale_bar(width_px: int, gsd: float | None) -> ScaleBar | None:
    """The longest round length that is at most a third of a picture; None without a pixel size."""
    if not gsd or not width_px:
        return None
    longest = gsd * width_px / 3
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(k for k in (1, 2, 5) if k * power <= longest) * power
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return ScaleBar(text, round(100 * length / (gsd * width_px), 3))


def _picture(pixels: Image.Image, description: str, kind: str, **options: int) -> Picture:
    stream = io.BytesIO()
    pixels.save(stream, kind, **options)
    code = base64.b64encode(stream.getvalue()).decode()
    return Picture(f"data:image/{kind.lower()};base64,{code}", *pixels.size, description)


@lru_cache(maxsize=32)  # the reports of a workflow's scenes show the same trainings
def chart(curve: Curve, prefix: str) -> str:
    """`curve` as an ``<svg>`` element whose ids start with `prefix`; equal curves, equal text."""
    import matplotlib as mpl  # 50 MB that a map without charts does without
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "geopipe",
        "svg.fonttype": "none",  # text stays text: it can be searched and takes the page's font
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": _INK,
        "grid.alpha": 0.13,
        "axes.linewidth": 0.7,
    }
    with mpl.rc_context(style):
        width = 6.4 if len(curve.series) > _MAX_INSIDE_LEGEND else 4.6
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, curve)
        stream = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Title": curve.title}
        figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Several charts on a page: every id must be its own.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    # The width comes from the page.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    return re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)


def _draw(axes: "Axes", curve: Curve) -> None:
    from matplotlib.ticker import MaxNLocator

    integer_x = all(float(x).is_integer() for _, xs, _ in curve.series for x in xs)
    for i, (name, xs, ys) in enumerate(curve.series):
        show_markers = len(xs) <= 30
        axes.plot(
            xs,
            ys,
            label=name,
            color=_LINES[i % len(_LINES)],
            linestyle=("-", "--", "-.", ":")[i // len(_LINES) % 4],
            linewidth=1.8,
            marker="o" if show_markers else None,
            markersize=4.5,
        )
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=integer_x))
    if len(curve.series) > _MAX_INSIDE_LEGEND:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    elif len(curve.series) > 1:
        axes.legend(frameon=False, fontsize=9)
