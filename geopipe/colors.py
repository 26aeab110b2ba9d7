"""Default colours of classes: as their names say, and otherwise distinct."""

import colorsys
import re
from collections.abc import Sequence

import numpy as np

_BY_WORD = {
    "#3a78b5": "water river lake sea ocean stream canal harbor harbour port reservoir",
    "#66b6d6": "pond pool wetland marsh swamp lagoon",
    "#2f7d3b": "forest tree wood jungle orchard mangrove",
    "#a6cf6a": "grass meadow pasture lawn golf rangeland",
    "#5aa84f": "vegetation park garden green",
    "#7f9f45": "shrub bush scrub heath",
    "#e3c567": "farm crop field agriculture agricultural arable cultivated paddy vineyard",
    "#c8371e": "building house roof built",
    "#e07b54": "residential urban settlement city town school church",
    "#a8516e": "industrial commercial factory",
    "#5d6673": "road street highway freeway motorway pavement asphalt path intersection overpass",
    "#8b8f98": "parking runway airport railway rail bridge impervious viaduct",
    "#9a6b43": "bare barren soil dirt earth mud mine quarry",
    "#7d6a5c": "rock stone mountain cliff",
    "#ecd9a0": "sand beach desert dune",
    "#f4f8fb": "snow ice glacier",
    "#d9dfe6": "cloud",
    "#26262e": "shadow",
    "#f1efe2": "background other clutter unknown",
}
_COLORS = {word: color for color, words in _BY_WORD.items() for word in words.split()}
_DISTINCT = 70.0
"""Weighted RGB distance from which two classes of a map are told apart at a glance."""
_LONG = 4
"""Letters of a word that may begin a longer one, as in grassland or rivers."""

Rgb = tuple[int, int, int]


def default_colors(names: Sequence[str]) -> list[str]:
    """A colour (``#rrggbb``) for each class of these names, all different.

    Grass and forest are green, water is blue, and so on; a class whose name says nothing gets a
    hue that is far from the others. Equal names in equal order get equal colours.
    """
    chosen: dict[int, Rgb] = {}
    named = {i: color for i, name in enumerate(names) if (color := _color_of(name))}
    for i, color in named.items():
        chosen[i] = _first_distinct(_shades(color), list(chosen.values()))
    wheel = _wheel(0.0)
    for i in range(len(names)):
        if i not in named:
            chosen[i] = _first_distinct(wheel, list(chosen.values()))
    return ["#" + bytes(chosen[i]).hex() for i in range(len(names))]


_LEVELS = ((0.6, 0.8), (0.85, 0.6), (0.35, 0.95), (0.5, 0.45), (0.95, 0.95))
"""Saturation and value of the hues of classes whose names say nothing."""


def _color_of(name: str) -> str | None:
    """The colour that a name says; its last word weighs most, as in "bare soil" or "tree cover"."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    for word in reversed(words):
        if word in _COLORS:
            return _COLORS[word]
        begins = [w for w in _COLORS if len(w) >= _LONG and word.startswith(w)]
        if begins:
            return _COLORS[max(begins, key=len)]
    return None


def _shades(color: str) -> list[Rgb]:
    """A colour, then lighter, darker and paler ones, then its neighbours in hue, then any."""
    h, s, v = colorsys.rgb_to_hsv(*(x / 255 for x in bytes.fromhex(color[1:])))
    turns = (0.0, 0.03, -0.03, 0.06, -0.06)
    scales = ((1.0, 1.0), (1.0, 0.72), (0.65, 1.15), (1.3, 0.85), (0.6, 0.8), (1.0, 0.5))
    near = [
        _hsv(h + turn, min(1.0, s * more), min(1.0, v * light))
        for turn in turns
        for more, light in scales
    ]
    return near + _wheel(h)


def _wheel(start: float) -> list[Rgb]:
    """Hues a golden section apart, which never repeat, on several levels."""
    return [_hsv(start + k * 0.618, s, v) for s, v in _LEVELS for k in range(64)]


def _hsv(h: float, s: float, v: float) -> Rgb:
    r, g, b = (round(255 * x) for x in colorsys.hsv_to_rgb(h % 1, s, v))
    return r, g, b


def _first_distinct(candidates: Sequence[Rgb], used: Sequence[Rgb]) -> Rgb:
    """The first candidate that is far enough from all used ones, or else the farthest."""
    if not used:
        return candidates[0]
    near = _distances(candidates, used).min(1)
    enough = np.flatnonzero(near >= _DISTINCT)
    return candidates[int(enough[0]) if len(enough) else int(near.argmax())]


def _distances(a: Sequence[Rgb], b: Sequence[Rgb]) -> np.ndarray:
    """(len(a), len(b)): differences of colours, weighted as the eye sees them ("redmean")."""
    first, second = np.array(a, float)[:, None], np.array(b, float)[None]
    red = (first[..., 0] + second[..., 0]) / 2 / 256
    weights = np.stack([2 + red, np.full_like(red, 4), 3 - red], -1)
    return np.asarray(np.sqrt((weights * (first - second) ** 2).sum(-1)))
