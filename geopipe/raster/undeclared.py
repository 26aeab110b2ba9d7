"""Nodata that a scene does not declare: flat areas that are probably holes and no image."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster.remote import display_name

if TYPE_CHECKING:
    from geopipe.raster.scene import Raster, Scene

log = logging.getLogger(__name__)

_PATCH = 16
_PATCHES = 16
_SMALL_PX = 1 << 18
"""Pixels of a scene that is read at once."""
_USUAL = (
    -9999.0,
    -99999.0,
    -32768.0,
    -32767.0,
    -999.0,
    -1e20,
    1e20,
    -3.4028234663852886e38,
    3.4028234663852886e38,
    -1.7e308,
    65535.0,
    2147483647.0,
)
"""What programs fill holes with, beside 0 and the ends of whole numbers."""
_ALMOST_ALL = 0.95
"""Where more of a scene than this has one colour, that is no hole in an image."""
_MUCH_OF_RIM = 1 / 6
"""Share of the patches along the rim that are flat in a border, and not in a roof beside it."""

Colour = tuple[float, ...]


@dataclass
class _Histogram:
    """Flat patches of a scene by their colour, and the ranges of all others."""

    patches: int = 0
    flat: Counter[Colour] = field(default_factory=Counter)
    rim: int = 0
    """Patches that touch the scene's rim."""
    at_rim: Counter[Colour] = field(default_factory=Counter)
    sides: dict[str, set[Colour | None]] = field(default_factory=dict)
    """The colour of the outermost pixels of each side; None where they have several."""
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    """Of the patches that are not flat; some of them hold a part of a hole."""


def undeclared_nodata(scene: "Scene") -> Colour | None:
    """The values (one a band) of a flat area that is probably a hole; None where none was found.

    Looks at 256 patches of 16 x 16 pixels, whatever the size of the scene. Suspected are patches of
    one value in all bands that programs fill holes with (0, the ends of the data type, -9999 and
    its like) or that is far outside of the range of the image, and flat areas of any colour at the
    scene's rim.
    """
    seen = _looked_at(scene)
    for colour, count in seen.flat.most_common():
        if count >= _ALMOST_ALL * seen.patches:
            return colour if set(colour) <= set(_limits(scene.dtype)) else None
        odd = len(set(colour)) == 1 and _odd(colour[0], scene, seen)
        if odd or seen.at_rim[colour] > _MUCH_OF_RIM * seen.rim:
            return colour
    if min(scene.shape) < 4 * _PATCH:  # a roof may be as long as the side of so small a scene
        return None
    for colours in seen.sides.values():
        if len(colours) == 1 and None not in colours:
            return next(iter(colours))
    return None


def nodata_warning(scene: "Scene", use: str) -> str:
    """What to say of nodata that `scene` does not declare; "" when there is none.

    `use`: what becomes of it otherwise, such as ``mapped as something``.
    """
    if scene.nodata is not None or (result := undeclared_nodata(scene)) is None:
        return ""
    name = display_name(scene.path)
    if len(set(result)) == 1:
        value = _text(result[0], scene.dtype)
        return (
            f"{name} has areas where all bands are {value}: if these are holes and no image, give "
            f"nodata {value}, or they will be {use}"
        )
    colour = ",".join(_text(v, scene.dtype) for v in result)
    return (
        f"{name} has areas where the bands are {colour}: if these are holes and no image, mark "
        f"them (nearblack -setalpha -nb 0 -near 0 -color {colour} -o marked.tif {name}), or they "
        f"will be {use}"
    )


def warn_of_nodata(scenes: Iterable["Scene"]) -> None:
    """Log which scenes have flat areas that are probably holes, before a model learns them."""
    for scene in {(s.path, s.bands, s.nodata): s for s in scenes}.values():
        if text := nodata_warning(scene, "learnt as something"):
            log.warning(text)


def _looked_at(scene: "Scene") -> _Histogram:
    seen = _Histogram()
    for part, sides in _patches(scene):
        if not part.valid.all():
            for side in sides:
                seen.sides.setdefault(side, set()).add(None)
            continue
        seen.patches += 1
        colour = _flat(part.data)
        if colour is None:
            seen.lows.append(float(part.data.min()))
            seen.highs.append(float(part.data.max()))
        else:
            seen.flat[colour] += 1
            seen.at_rim[colour] += bool(sides)
        seen.rim += bool(sides)
        lines = {
            "top": part.data[:, :1],
            "bottom": part.data[:, -1:],
            "left": part.data[:, :, :1],
            "right": part.data[:, :, -1:],
        }
        for side in sides:
            seen.sides.setdefault(side, set()).add(_flat(lines[side]))
    return seen


def _patches(scene: "Scene") -> Iterator[tuple["Raster", Sequence[str]]]:
    """Patches spread over the scene, and the sides of the scene that each touches."""
    rows, cols = (np.linspace(0, max(n - _PATCH, 0), _PATCHES, dtype=int) for n in scene.shape)
    whole = _whole(scene)
    for row, col in product(sorted(set(rows.tolist())), sorted(set(cols.tolist()))):
        window = Window(row, col, _PATCH, _PATCH).clip(scene.shape)
        touches = {
            "top": row == 0,
            "left": col == 0,
            "bottom": window.bottom == scene.shape[0],
            "right": window.right == scene.shape[1],
        }
        try:
            part = _crop(whole, window) if whole else scene.read(window)
        except SceneError:  # told, or skipped, when its tile is mapped
            continue
        yield part, [side for side, here in touches.items() if here]


def _whole(scene: "Scene") -> "Raster | None":
    """All pixels of a small scene: one reading instead of hundreds."""
    if scene.shape[0] * scene.shape[1] > _SMALL_PX:
        return None
    try:
        return scene.read(Window(0, 0, *scene.shape))
    except SceneError:  # damaged somewhere
        return None


def _crop(whole: "Raster", window: Window) -> "Raster":
    rows, cols = window.within(Window(0, 0, *whole.valid.shape))
    return replace(whole, data=whole.data[:, rows, cols], valid=whole.valid[rows, cols])


def _flat(data: np.ndarray) -> Colour | None:
    """The one value of each band of (bands, h, w); None when a band has several."""
    low, high = data.min((1, 2)), data.max((1, 2))
    return tuple(low.astype(float).tolist()) if (low == high).all() else None


def _odd(value: float, scene: "Scene", seen: _Histogram) -> bool:
    """Whether holes are filled with `value`, or it is far outside of the image's range."""
    if value in _limits(scene.dtype):
        return True
    if not seen.lows:
        return False
    low, high = float(np.median(seen.lows)), float(np.median(seen.highs))
    return not low - 2 * (high - low) <= value <= high + 2 * (high - low)


def _text(value: float, dtype: str) -> str:
    """As short as tells it from others of its type."""
    return str(np.dtype(dtype).type(value)).removesuffix(".0")


def _limits(dtype: str) -> tuple[float, ...]:
    """The values that holes are filled with."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        return (0.0, *_USUAL, *(float(np.float32(v)) for v in _USUAL if abs(v) < 1e38))
    ends = np.iinfo(kind)
    lowest = (float(ends.min),) if kind.kind == "i" else ()
    return (0.0, float(ends.max), *lowest, *_USUAL)
