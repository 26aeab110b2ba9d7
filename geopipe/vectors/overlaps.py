"""Footprints of different areas that regularizing has made overlap, resolved group by group."""

from collections.abc import Iterator

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geopipe.vectors.polygon_file import PolygonFile
from geopipe.vectors.regularize import iou, largest_part, within

_AT_ONCE = 2000
"""Polygons in memory at a time."""
_ROUNDING_M2 = 1e-6
"""Overlaps up to this are rounding."""


def resolve_overlaps(
    drawn: PolygonFile, outlines: PolygonFile, order: np.ndarray, max_shift: float
) -> None:
    """Replace those of `drawn` that overlap others, as `without_overlaps` does.

    Polygons change one another only where they overlap, as drawn or as traced, so each group of
    such polygons is resolved by itself. Memory holds the largest group.

    Args:
        drawn: Regularized polygons in metres.
        outlines: What they were traced as, by the same numbers.
        order: (n,) the numbers from north to south along the traced outlines; it decides between
            two that fit their outlines equally well.
        max_shift: As `without_overlaps` takes it.
    """
    for group in _groups(drawn, outlines, order):
        before = drawn[group]
        after = without_overlaps(before, outlines[group], max_shift)
        new = [k for k in range(len(group)) if after[k] is not before[k]]
        drawn.replace(group[new], after[new])


def _groups(drawn: PolygonFile, outlines: PolygonFile, order: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers in `order` of polygons that overlap others; what overlaps lies in one array."""
    pairs = np.concatenate([np.empty((0, 2), np.int64), *_overlapping(drawn, outlines, order)])
    places, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), ends.T), (len(places), len(places)))
    count, group = connected_components(graph, directed=False) if len(places) else (0, places)
    by_group = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=count)
    stops = np.cumsum(sizes)
    first = 0
    while first < count:
        start = stops[first] - sizes[first]
        last = max(first, int(np.searchsorted(stops, start + _AT_ONCE, side="right")) - 1)
        yield order[places[np.sort(by_group[start : stops[last]])]]
        first = last + 1


def _overlapping(
    drawn: PolygonFile, outlines: PolygonFile, order: np.ndarray
) -> Iterator[np.ndarray]:
    """(k, 2) places in `order` of polygons that overlap as drawn, or drawn and traced."""
    boxes = np.stack([drawn.bounds, outlines.bounds])[:, order]
    low, high = boxes[:, :, :2].min(0), boxes[:, :, 2:].max(0)
    # Of those that begin further south, none that begins behind the last end of a batch meets it.
    begins = np.minimum.accumulate(low[::-1, 1])[::-1]
    for start in range(0, len(order), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(order))
        end = int(np.searchsorted(begins, high[start:stop, 1].max(), side="right"))
        tree = shapely.STRtree(shapely.box(*low[start:stop].T, *high[start:stop].T))
        for first in range(start, max(stop, end), _AT_ONCE):
            later = slice(first, min(first + _AT_ONCE, max(stop, end)))
            b, a = tree.query(shapely.box(*low[later].T, *high[later].T))
            pairs = np.stack([a + start, b + first], axis=1)
            pairs = pairs[pairs[:, 0] < pairs[:, 1]]
            if len(pairs):
                yield pairs[_overlap(drawn, outlines, order, pairs)]


def _overlap(
    drawn: PolygonFile, outlines: PolygonFile, order: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """(k,) bool: the two at these places in `order` overlap."""
    places, index = np.unique(pairs, return_inverse=True)
    a, b = index.reshape(-1, 2).T
    own, traced = drawn[order[places]], outlines[order[places]]
    overlap = np.zeros(len(pairs), bool)
    for one, other in ((own, own), (own, traced), (traced, own)):
        meet = np.flatnonzero(shapely.intersects(one[a], other[b]) & ~overlap)
        common = shapely.intersection(one[a[meet]], other[b[meet]])
        overlap[meet] = shapely.area(common) > _ROUNDING_M2
    return overlap


def without_overlaps(polygons: np.ndarray, outlines: np.ndarray, max_shift: float) -> np.ndarray:
    """`polygons` of different areas, cut where regularizing has made them overlap.

    Of two that overlap the one that fits its traced outline worse gives way; where it would then
    lie more than `max_shift` from that outline, both go back to it. Traced outlines never overlap.

    Args:
        polygons: (n,) regularized polygons in metres.
        outlines: (n,) the polygons they were traced as.
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
        fit |= dict(zip(new, iou(result[new], outlines[new]).tolist(), strict=True))
        touched: set[int] = set()
        for i, j in sorted(pairs):
            if i in touched or j in touched:
                continue  # the next round looks at what they are then
            touched |= {i, j}
            lower, upper = sorted((i, j), key=lambda k: (fit[k], -k))
            cut = largest_part(shapely.difference(result[lower], result[upper]))
            if within(np.array([cut], object), outlines[[lower]], max_shift)[0]:
                result[lower] = cut
            else:
                result[[i, j]] = outlines[[i, j]]
                fit[i] = fit[j] = 2.0  # never cut
