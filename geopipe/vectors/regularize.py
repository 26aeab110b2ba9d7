"""Footprints as they are drawn: straight walls and right angles where the raster has them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import shapely

from geopipe.raster.orthogonalize import orthogonalized

_SIMPLIFICATIONS_PX = (1.25, 0.75)
"""Tolerances of the outlines that have no right angles, coarse first."""
_SNAP_PX = 1.0
"""Corners this near to a neighbour's become one."""
_GAP_PX = 1.5
"""Gaps between neighbours that touch in the raster, up to this width, are closed."""


@dataclass(frozen=True, slots=True)
class RegularizeOptions:
    """How outlines may change."""

    max_shift: float
    """Metres: largest distance between an outline and its regularized one (Hausdorff)."""
    orthogonalize: bool = True
    """Else outlines are only simplified."""


def regularized(outlines: np.ndarray, pixel: float, options: RegularizeOptions) -> np.ndarray:
    """The outlines of one connected area, regularized so that shared walls stay shared.

    Each is orthogonalized where that fits, with closed corners before cut ones, else simplified,
    else left as traced: the first of these that, after gaps and overlaps between neighbours are
    resolved, lies within `RegularizeOptions.max_shift` of the traced outline.

    Args:
        outlines: (n,) polygons traced from pixels, in metres, that together cover an area without
            overlaps.
        pixel: Side of a pixel in metres.
        options: What may change.

    Returns:
        (n,) polygons; they do not overlap beyond rounding.
    """
    forms = _forms(pixel, options.orthogonalize)
    drawn = cache(lambda k: forms[k](outlines))  # most fit at once: the other forms are not drawn
    chosen, level = outlines.copy(), np.full(len(outlines), -1)
    failed = np.ones(len(outlines), bool)
    while failed.any():
        for i in np.flatnonzero(failed):
            level[i] += 1
            while (form := drawn(level[i])[i]) is None:
                level[i] += 1
            chosen[i] = form
        result = _as_coverage(chosen, pixel) if len(outlines) > 1 else chosen
        fits = within(result, outlines, options.max_shift)
        failed = ~fits & (level < len(forms) - 1)
    return np.where(fits, result, outlines)


_Form = Callable[[np.ndarray], np.ndarray]
"""(n,) outlines to (n,) polygons; None where an outline has no such form."""


def _forms(pixel: float, orthogonalize: bool) -> list[_Form]:
    """What outlines may become, the most regular first; the last leaves them as they are."""

    def simplified(factor: float) -> _Form:
        return lambda outlines: _simplified(outlines, factor * pixel)

    def squared(close_corners: bool) -> _Form:
        def draw(outlines: np.ndarray) -> np.ndarray:
            shapes = [orthogonalized(o, pixel, close_corners=close_corners) for o in outlines]
            pairs = zip(shapes, outlines, strict=True)
            return np.array([None if s is o else s for s, o in pairs], object)

        return draw

    forms = [*map(simplified, _SIMPLIFICATIONS_PX), lambda outlines: outlines]
    return [squared(True), squared(False), *forms] if orthogonalize else forms


def within(polygons: np.ndarray, outlines: np.ndarray, distance: float) -> np.ndarray:
    """(n,) bool: each is one valid polygon with holes as `outlines` has, at most so far from it."""
    fits = shapely.is_valid(polygons) & (shapely.get_type_id(polygons) == 3)
    fits &= ~shapely.is_empty(polygons)
    rings = np.where(fits, shapely.boundary(polygons), shapely.boundary(outlines))
    # Walls are long between their corners: points at a quarter of each are compared, too.
    shift = shapely.hausdorff_distance(rings, shapely.boundary(outlines), densify=0.25)
    return np.asarray(fits & (shift <= distance))


def _as_coverage(polygons: np.ndarray, pixel: float) -> np.ndarray:
    """`polygons` with overlaps given to one side and narrow gaps closed; walls keep no steps."""
    snapped = _snapped(polygons, _SNAP_PX * pixel)
    clean = shapely.coverage_clean(  # type: ignore[attr-defined]  # newer than its stubs
        snapped, gap_width=_GAP_PX * pixel
    )
    parts = np.array([largest_part(p) for p in clean], object)
    if not (shapely.get_type_id(parts) == 3).all() or shapely.is_empty(parts).any():
        return parts
    return np.asarray(shapely.coverage_simplify(parts, pixel / 2))


def _simplified(outlines: np.ndarray, tolerance: float) -> np.ndarray:
    """`outlines` with fewer vertices; what they share stays shared."""
    if len(outlines) == 1:
        return np.asarray(shapely.simplify(outlines, tolerance))  # Douglas and Peucker
    return np.asarray(shapely.coverage_simplify(outlines, tolerance))  # Visvalingam and Whyatt


def _snapped(polygons: np.ndarray, tolerance: float) -> np.ndarray:
    """`polygons`, one after the other drawn to the corners of those before them."""
    result = polygons.copy()
    tree = shapely.STRtree(polygons)
    for i in range(1, len(polygons)):
        near = np.sort(tree.query(polygons[i], predicate="dwithin", distance=tolerance))
        before = result[near[near < i]]
        if len(before):
            snapped: Any = shapely.snap(result[i], shapely.geometrycollections(before), tolerance)
            if shapely.get_type_id(snapped) == 3 and snapped.is_valid and not snapped.is_empty:
                result[i] = snapped
    return result


def largest_part(shape: Any) -> Any:
    """The largest polygon of `shape`."""
    parts = shapely.get_parts(shape)
    return parts[int(np.argmax(shapely.area(parts)))] if len(parts) > 1 else shape


def iou(polygons: np.ndarray, outlines: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of each polygon with its outline."""
    common = shapely.area(shapely.intersection(polygons, outlines))
    return np.asarray(common / (shapely.area(polygons) + shapely.area(outlines) - common))
