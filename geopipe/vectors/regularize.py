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


_UNPACKED = 2000
"""Packed polygons that are unpacked at a time."""


@dataclass(frozen=True, slots=True)
class RegularizeOptions:
    """How outlines may change."""

    max_shift: float
    """Metres: largest distance between an outline and its regularized one (Hausdorff)."""
    orthogonalize: bool = True
    """Else outlines are only simplified."""


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """Polygons as WKB, a fifth of what they take as objects."""

    wkb: np.ndarray
    """(n,) bytes"""

    def __getitem__(self, index: slice | list[int]) -> np.ndarray:
        """Some of the polygons."""
        return np.asarray(shapely.from_wkb(self.wkb[index]))


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
    parts = np.array([_largest(p) for p in clean], object)
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


def _largest(shape: Any) -> Any:
    """The largest polygon of `shape`."""
    parts = shapely.get_parts(shape)
    return parts[int(np.argmax(shapely.area(parts)))] if len(parts) > 1 else shape


def without_overlaps(polygons: np.ndarray, outlines: Packed, max_shift: float) -> np.ndarray:
    """`polygons` of different areas, cut where regularizing has made them overlap.

    Of two that overlap the one that fits its traced outline worse gives way; where it would then
    lie more than `max_shift` from that outline, both go back to it. Traced outlines never overlap.

    Args:
        polygons: (n,) regularized polygons in metres.
        outlines: The n polygons they were traced as.
        max_shift: Metres.
    """
    result = polygons.copy()
    fit: dict[int, float] = {}
    while True:
        a, b = shapely.STRtree(result).query(result, predicate="intersects")
        a, b = a[a < b], b[a < b]
        overlap = shapely.area(shapely.intersection(result[a], result[b]))
        pairs = np.stack([a, b], axis=1)[overlap > _ROUNDING_M2].tolist()
        if not pairs:
            return result
        new = sorted({k for pair in pairs for k in pair} - fit.keys())
        fit |= dict(zip(new, iou(result[new], Packed(outlines.wkb[new])).tolist(), strict=True))
        touched: set[int] = set()
        for i, j in sorted(pairs):
            if i in touched or j in touched:
                continue  # the next round looks at what they are then
            touched |= {i, j}
            lower, upper = sorted((i, j), key=lambda k: (fit[k], -k))
            cut = _largest(shapely.difference(result[lower], result[upper]))
            pair = np.array([cut], object), outlines[[lower]]
            if within(*pair, max_shift)[0]:
                result[lower] = cut
            else:
                result[[i, j]] = outlines[[i, j]]
                fit[i] = fit[j] = 2.0  # never cut


_ROUNDING_M2 = 1e-6
"""Overlaps up to this are rounding."""


def iou(polygons: np.ndarray, outlines: Packed) -> np.ndarray:
    """(n,) intersection over union of each polygon with its outline."""
    parts = [np.empty(0)]
    for start in range(0, len(polygons), _UNPACKED):
        a, b = polygons[start : start + _UNPACKED], outlines[start : start + _UNPACKED]
        common = shapely.area(shapely.intersection(a, b))
        parts.append(common / (shapely.area(a) + shapely.area(b) - common))
    return np.concatenate(parts)
