"""The refinement's filters and what they respond to (the paper's Fig. 11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from scipy.ndimage import correlate

from geopipe.checkpoint import Checkpoint
from geopipe.grid import Window
from geopipe.nets.refinement import KERNEL, RefinementRNN, Update
from geopipe.raster import Scene
from reproduce.maggiori import filters
from reproduce.maggiori.figures.style import drawing, picture, side_label

_APART = 50.0
"""The two M_i shown look into directions at least so many degrees apart."""
_POINTS = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")


class Shown(NamedTuple):
    """One map of responses."""

    title: str
    values: np.ndarray
    """(h, w)"""


@dataclass(frozen=True, eq=False)
class Responses:
    """Score maps and the image, each with the responses of two filters."""

    scores: tuple[tuple[str, np.ndarray, tuple[Shown, ...]], ...]
    """Class, its scores (h, w), responses to them."""
    image: np.ndarray
    """(h, w, 3) uint8, on the net's grid."""
    on_image: tuple[Shown, ...]


def respond(model: Checkpoint, scene: Scene, window: Window) -> Responses:
    """Responses of the filters in `window` of the scene that say most.

    Of the M_i the two most like derivatives over all classes but the first, in different
    directions; of the N_j the one most like a derivative of brightness and the one that follows
    green most (twice green less red and blue). Bands must be red, green, blue.
    """
    image, scores = filters.net_scores(model, scene, window)
    update = _update(filters.refinement(model))
    m, n = (p.detach().cpu().numpy() for p in (update.m[:, 0], update.n))
    covariances = [filters.covariance(s) for s in scores[1:]]
    measured = np.array([[filters.response_like(k, a) for a in covariances] for k in m])
    shares, angles = measured[..., 0].mean(1), measured[:, 0, 1]
    selected = _two_orientations(shares, angles)
    rows = tuple(
        (
            name,
            u,
            tuple(
                Shown(f"$M_{{{i + 1}}}$, {_point(angles[i])} ({shares[i]:.0%})", _apply(m[i], u))
                for i in selected
            ),
        )
        for name, u in zip(model.scheme.names[1:], scores[1:], strict=True)
    )
    return Responses(rows, _photo(model, image), _on_image(n, image))


def responses(path: Path, measured: Responses) -> None:
    """Rows: score maps, then the image; columns: what goes in, two filters. Red high, blue low."""
    rows = len(measured.scores) + 1
    tall = measured.image.shape[0] / measured.image.shape[1]
    with drawing(path, 8.4, (2.7 * tall + 0.3) * rows) as figure:
        table = figure.subplots(rows, 3, squeeze=False)
        for line, (name, scores, measures) in zip(table, measured.scores, strict=False):
            _signed(line[0], scores, "score map $u_0$", center=float(np.median(scores)))
            side_label(line[0], name)
            for axes, response in zip(line[1:], measures, strict=True):
                _signed(axes, response.values, response.title)
        picture(table[-1][0], measured.image, "image (1 m)")
        side_label(table[-1][0], "image")
        for axes, response in zip(table[-1][1:], measured.on_image, strict=True):
            _signed(axes, response.values, response.title)


def kernels(path: Path, refine: RefinementRNN, listed: Sequence[filters.Listed]) -> None:
    """All M_i of the first step and all N_j, these in the bands' colours.

    `listed`: from `filters.list_filters`, with score maps; the M_i that respond to these like
    derivatives (on average) are framed.
    """
    update = _update(refine)
    m, n = (p.detach().cpu().numpy() for p in (update.m[:, 0], update.n))
    first = [f for f in listed if f.step == 0]
    like = [sum(f.responses) >= filters.LIKE * len(f.responses) > 0 for f in first]
    signed = m / np.abs(m).max((1, 2), keepdims=True)
    if n.shape[1] != 3:
        n = n.mean(1, keepdims=True).repeat(3, 1)
    colours = (n / (2 * np.abs(n).max((1, 2, 3), keepdims=True)) + 0.5).transpose(0, 2, 3, 1)
    with drawing(path, 10.4, 3.0) as figure:
        left, right = figure.subplots(1, 2)
        framed = f"; framed: responds like a derivative ({sum(like)} of {len(like)})"
        weights, positions = _mosaic(signed, np.nan)
        picture(left, weights, f"$M_i$ (red +, blue −){framed}", cmap="RdBu_r", vmin=-1, vmax=1)
        for (row, col), marked in zip(positions, like, strict=True):
            if marked:
                left.add_patch(_frame(row, col))
        picture(right, _mosaic(colours, 1.0)[0], "$N_j$ in the bands' colours (grey = 0)")


def _mosaic(kernels: np.ndarray, fill_value: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Kernels (n, 5, 5, ...) in rows of eight with a gap of one pixel, and where each begins."""
    positions = [(1 + i // 8 * (KERNEL + 1), 1 + i % 8 * (KERNEL + 1)) for i in range(len(kernels))]
    shape = (positions[-1][0] + KERNEL + 1, 8 * (KERNEL + 1) + 1, *kernels.shape[3:])
    out = np.full(shape, fill_value)
    for (row, col), kernel in zip(positions, kernels, strict=True):
        out[row : row + KERNEL, col : col + KERNEL] = kernel
    return out, positions


def _frame(row: int, col: int) -> Rectangle:
    corner, side = (col - 0.75, row - 0.75), KERNEL + 0.5
    return Rectangle(corner, side, side, fill=False, edgecolor="#111111", linewidth=2.5)


def _on_image(n: np.ndarray, image: np.ndarray) -> tuple[Shown, ...]:
    """Responses of the N_j most like a derivative of brightness, and of the one most for green."""
    maps = np.stack([sum(_apply(k, b) for k, b in zip(f, image, strict=True)) for f in n])
    grey = image.mean(0)
    slopes = [_apply(d, grey) for d in filters.gaussian_derivatives(1.0)]
    explained_shares = [filters.explained(r, slopes) for r in maps]
    edge = int(np.argmax([share for share, _ in explained_shares]))
    px = KERNEL // 2
    green = (2 * image[1] - image[0] - image[2])[px:-px, px:-px].ravel()
    follows = np.array([np.corrcoef(r.ravel(), green)[0, 1] for r in maps])
    strongest = int(follows.argmax())
    share, angle = explained_shares[edge]
    return (
        Shown(f"$N_{{{edge + 1}}}$, {_point(angle)} ({share:.0%})", maps[edge]),
        Shown(f"$N_{{{strongest + 1}}}$, green (r = {follows[strongest]:.2f})", maps[strongest]),
    )


def _two_orientations(shares: np.ndarray, angles: np.ndarray) -> tuple[int, int]:
    """The filter with the highest share, and the next in another direction."""
    order = np.argsort(-shares, kind="stable")
    angle_difference = np.abs((angles[order] - angles[order[0]] + 180) % 360 - 180)
    others = order[(angle_difference >= _APART) & (angle_difference <= 180 - _APART)]
    return int(order[0]), int(others[0] if len(others) else order[1])


def _point(angle: float) -> str:
    return _POINTS[round(angle / 45) % 8]


def _signed(axes: Axes, values: np.ndarray, title: str, center: float = 0.0) -> None:
    top = float(np.percentile(np.abs(values - center), 99)) or 1.0
    picture(axes, values, title, cmap="RdBu_r", vmin=center - top, vmax=center + top)


def _apply(kernel: np.ndarray, plane: np.ndarray) -> np.ndarray:
    px = KERNEL // 2
    return np.asarray(correlate(plane.astype(np.float64), kernel)[px:-px, px:-px])


def _photo(model: Checkpoint, image: np.ndarray) -> np.ndarray:
    bands = (list(range(len(image))) + [len(image) - 1] * 2)[:3]
    mean, std = (np.array(x)[bands, None, None] for x in (model.mean, model.std))
    pixels = image[bands] * std + mean
    low, high = (0.0, 255.0) if model.dtype == "uint8" else np.percentile(pixels, (1, 99))
    grey = (pixels - low) / (high - low or 1.0)
    return np.asarray((255 * grey.clip(0, 1)).round().transpose(1, 2, 0), np.uint8)


def _update(refine: RefinementRNN) -> Update:
    update = refine.updates[0]
    assert isinstance(update, Update)
    return update
