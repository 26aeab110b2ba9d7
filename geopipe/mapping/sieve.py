"""Specks and pinholes of a class map: areas below a least size take a neighbour's class."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RioWindow
from skimage.measure import label

from geopipe.classes import IGNORE
from geopipe.grid import Window, ground_gsd, nominal_gsd
from geopipe.mapping.small_areas import Borders, new_classes, new_classes_of_window
from geopipe.raster.scene import opened, window_geobox
from geopipe.raster.sink import Sink

_STRIP_PX = 2**20
_LEAST_ROWS = 16


@dataclass(frozen=True, slots=True)
class SieveResult:
    """What `sieve` did."""

    changed: int
    """Pixels of another class than before."""
    specks: int
    """Connected areas that took another class."""
    areas: tuple[float, ...]
    """Square metres on the ground of each class."""
    area_counts: tuple[int, ...]
    """Connected areas of each class."""


def sieve(
    class_map: Path, target: Path, min_area: Sequence[float], *, strip_rows: int | None = None
) -> SieveResult:
    """Write `class_map` without areas below `min_area` to the GeoTIFF `target`.

    `min_area`: square metres of each class, 0: keeps all. An area is a set of pixels of one class
    connected by their sides. One that is too small takes the class with which it shares the longest
    border (of equals the lowest id); areas that are large enough count first, so that no small area
    is left but where nodata surrounds it. Pixels are as large as in the middle of the region
    (`nominal_gsd`), so that crops of a scene decide alike.

    The map is read twice in strips of rows. The result does not depend on how it is cut into tiles
    or strips; held in memory are two strips and some 30 bytes per connected area. Raises SceneError
    when the map cannot be read.
    """
    with opened(class_map) as src:
        geobox = GeoBox(src.shape, src.transform, src.crs)
        least = least_pixels(geobox, min_area)
        result = _first_pass(src, least, strip_rows)
        parts = new_classes(result, least)
        changed, areas = _second_pass(src, geobox, target, parts, len(least), strip_rows)
    specks = int((result.classes != parts).sum())
    return SieveResult(changed, specks, areas, result.area_counts(parts))


def least_pixels(geobox: GeoBox, min_area: Sequence[float]) -> np.ndarray:
    """(classes,) int64: the pixels of `geobox` that areas of `min_area` square metres have."""
    pixel = math.prod(nominal_gsd(geobox))
    return np.array([math.ceil(m2 / pixel - 1e-9) for m2 in min_area], np.int64)


def sieved_window(
    ids: np.ndarray, least: np.ndarray, open_sides: tuple[bool, bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """What `sieve` makes of a window of a map, and where that is certain.

    Args:
        ids: (h, w) uint8 class ids of the window, IGNORE where nothing is known.
        least: (classes,) pixels that an area must have to stay.
        open_sides: Whether the map goes on beyond the top, bottom, left and right side.

    Returns:
        (h, w) uint8 class ids, and (h, w) bool: pixels whose class does not depend on what lies
        outside of the window.
    """
    result = Borders(len(least))
    labels, count = _labels(ids)
    classes, sizes = _parts(ids, labels, count)
    result.add(classes[1:], sizes[1:])
    _touch_within(result, labels, classes, sizes, least, 0)
    cut = np.zeros(count + 1, bool)
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    for is_open, side in zip(open_sides, sides, strict=True):
        cut[side] |= is_open
    taken, certain = new_classes_of_window(result, least, cut[1:])
    table = np.concatenate([np.array([IGNORE], np.uint8), taken])
    return table[labels], np.concatenate([[True], certain])[labels]


def _first_pass(src: rasterio.DatasetReader, least: np.ndarray, rows: int | None) -> Borders:
    """The connected parts of each strip, which of them are one area, and the small ones' borders.

    Parts are numbered in the order of their first pixels, strip by strip.
    """
    result = Borders(len(least))
    above: tuple[np.ndarray, np.ndarray] | None = None
    for _, ids, labels, count in _labelled_strips(src, rows):
        classes, sizes = _parts(ids, labels, count)
        base = result.add(classes[1:], sizes[1:])
        _touch_within(result, labels, classes, sizes, least, base)
        top = np.where(labels[0] > 0, labels[0].astype(np.int64) + base - 1, -1)
        if above is not None:
            result.join(*above, ids[0], top)
        above = ids[-1], np.where(labels[-1] > 0, labels[-1].astype(np.int64) + base - 1, -1)
    return result


def _parts(ids: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count + 1,) class ids and sizes in pixels of the parts; the first is where there is none."""
    classes = np.full(count + 1, IGNORE, np.uint8)
    classes[labels.ravel()] = ids.ravel()
    return classes, np.bincount(labels.ravel(), minlength=count + 1)


def _touch_within(
    result: Borders,
    labels: np.ndarray,
    classes: np.ndarray,
    sizes: np.ndarray,
    least: np.ndarray,
    base: int,
) -> None:
    """Note the borders of the small parts of a strip."""
    small = np.zeros(len(sizes), bool)
    small[1:] = sizes[1:] < least[classes[1:]]
    result.touch(labels[:, :-1], labels[:, 1:], small, base)
    result.touch(labels[:-1], labels[1:], small, base)


def _second_pass(
    src: rasterio.DatasetReader,
    geobox: GeoBox,
    target: Path,
    after: np.ndarray,
    classes: int,
    rows: int | None,
) -> tuple[int, tuple[float, ...]]:
    """Write the map with the class ids `after` (parts,): pixels that changed, areas by class."""
    base, changed, areas = 0, 0, np.zeros(classes)
    with Sink(target, geobox) as sink:
        for window, ids, labels, count in _labelled_strips(src, rows):
            table = np.full(count + 1, IGNORE, np.uint8)
            table[1:] = after[base : base + count]
            made = table[labels]
            base += count
            changed += int((made != ids).sum())
            pixels = np.bincount(made.ravel(), minlength=256)[:classes]
            areas += pixels * math.prod(ground_gsd(window_geobox(geobox, window)))
            sink.write(window, made[None])
    return changed, tuple(areas.tolist())


def _strips(src: rasterio.DatasetReader, rows: int | None) -> Iterator[Window]:
    step = rows or max(_LEAST_ROWS, _STRIP_PX // src.width)
    for row in range(0, src.height, step):
        yield Window(row, 0, min(step, src.height - row), src.width)


def _labelled_strips(
    src: rasterio.DatasetReader, rows: int | None
) -> Iterator[tuple[Window, np.ndarray, np.ndarray, int]]:
    """Strips, their class ids and part numbers from 1 on (0 where nothing is known), and how many.

    They are read one by one; a thread labels the next while the caller looks at this one.
    """
    with ThreadPoolExecutor(1) as pool:
        before = None
        for window in _strips(src, rows):
            ids = src.read(1, window=_rio(window))
            following = window, ids, pool.submit(_labels, ids)
            if before:
                yield *before[:2], *before[2].result()
            before = following
        if before:
            yield *before[:2], *before[2].result()


def _labels(ids: np.ndarray) -> tuple[np.ndarray, int]:
    values = ids.astype(np.int16) + 1
    values[ids == IGNORE] = 0
    labels, count = label(values, background=0, return_num=True, connectivity=1)
    return labels, int(count)


def _rio(window: Window) -> RioWindow:
    return RioWindow(window.col, window.row, window.width, window.height)
