"""Match buildings of a map with those of a reference, and say what became of each."""

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

AGREE = "agree"
MOVED = "moved"
RESHAPED = "changed shape"
SPLIT = "split"
MERGED = "merged"
ONLY_MAP = "only in the image"
UNSURE = "only in the image, unsure"
"""Not in the reference, but less likely real than the threshold asks for."""
ONLY_REFERENCE = "only in the reference"
ONLY_OSM = "only in OSM"

_INSIDE = 0.5
"""Share of an object's area that lies in its counterpart."""
_CENTRED_GAIN = 0.1
"""By how much more two outlines overlap, once centred on each other, if one was moved."""


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """When two buildings are the same one."""

    min_iou: float = 0.5
    """Intersection over union from which on they agree; centred on each other, the shape does."""
    min_move: float = 2.0
    """Metres between the centres from which on a building counts as moved."""
    max_move: float = 8.0
    """Metres: how far the counterpart of a building that meets none is looked for."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Buildings of both sides by group; objects of one group are counterparts of each other."""

    mapped_group: np.ndarray
    """(n,) number of the group of each mapped building."""
    reference_group: np.ndarray
    """(m,)"""
    status: np.ndarray
    """(groups,) text."""
    distance: np.ndarray
    """(groups,) metres between the centroids of both sides of the group; of a building without
    counterpart to the nearest one of the other side, NaN where there is none."""
    iou: np.ndarray
    """(groups,) of the unions of both sides; 0 without counterpart."""


def match_buildings(
    mapped: np.ndarray, reference: np.ndarray, options: MatchOptions | None = None
) -> Matches:
    """Match (n,) and (m,) valid polygons of one plane.

    A building belongs to the one of the other side that holds more than half of it. What belongs
    together is one group: one to one (*agree*, *moved*, *changed shape*), several mapped ones for
    one of the reference (*split*), or one for several (*merged*). What is left belongs to the
    nearest one left on the other side whose outline, centred, has the same shape.
    """
    options = options or MatchOptions()
    pairs = _by_area(mapped, reference)
    pairs += _by_shape(mapped, reference, pairs, options)
    n, m = len(mapped), len(reference)
    i, j = np.array(pairs, int).reshape(-1, 2).T
    links = coo_array((np.ones(len(i)), (i, n + j)), (n + m, n + m))
    count, group = connected_components(links, directed=False) if n + m else (0, np.empty(0, int))
    mapped_group, reference_group = group[:n], group[n:]
    status = np.full(count, "", object)
    distance, iou = np.full(count, np.nan), np.zeros(count)
    for side, other, groups, alone in (
        (mapped, reference, mapped_group, ONLY_MAP),
        (reference, mapped, reference_group, ONLY_REFERENCE),
    ):
        single = ~np.isin(groups, reference_group if side is mapped else mapped_group)
        status[groups[single]] = alone
        distance[groups[single]] = _nearest(side[single], other)
    both = np.flatnonzero(status == "")
    members = [_members(g, count) for g in (mapped_group, reference_group)]
    for g in both.tolist():
        a, b = mapped[members[0][g]], reference[members[1][g]]
        status[g], distance[g], iou[g] = _compared(a, b, options)
    return Matches(mapped_group, reference_group, status, distance, iou)


def _members(groups: np.ndarray, count: int) -> list[np.ndarray]:
    """The indices in each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.searchsorted(groups[order], np.arange(1, count)))


def _by_area(mapped: np.ndarray, reference: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of which one lies by more than half in the other."""
    if not len(mapped) or not len(reference):
        return []
    i, j = shapely.STRtree(reference).query(mapped, predicate="intersects")
    common = shapely.area(shapely.intersection(mapped[i], reference[j]))
    smaller = np.minimum(shapely.area(mapped)[i], shapely.area(reference)[j])
    kept = common > _INSIDE * smaller
    return list(zip(i[kept].tolist(), j[kept].tolist(), strict=True))


def _by_shape(
    mapped: np.ndarray,
    reference: np.ndarray,
    pairs: list[tuple[int, int]],
    options: MatchOptions,
) -> list[tuple[int, int]]:
    """Further pairs of buildings without counterpart, nearest first, each once."""
    left = np.setdiff1d(np.arange(len(mapped)), [i for i, _ in pairs])
    right = np.setdiff1d(np.arange(len(reference)), [j for _, j in pairs])
    if not len(left) or not len(right):
        return []
    a, b = shapely.centroid(mapped[left]), shapely.centroid(reference[right])
    i, j = shapely.STRtree(b).query(a, predicate="dwithin", distance=options.max_move)
    similarity = _centred_iou(mapped[left[i]], reference[right[j]])
    distance = shapely.distance(a[i], b[j])
    taken: tuple[set[int], set[int]] = set(), set()
    more = []
    for k in np.lexsort((j, i, distance)).tolist():
        if similarity[k] < options.min_iou or i[k] in taken[0] or j[k] in taken[1]:
            continue
        taken[0].add(i[k])
        taken[1].add(j[k])
        more.append((int(left[i[k]]), int(right[j[k]])))
    return more


def _centred_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of (k,) and (k,) polygons whose centroids are laid on each other."""
    centred = []
    for shapes in (a, b):
        xy, owner = shapely.get_coordinates(shapes, return_index=True)
        centres = shapely.get_coordinates(shapely.centroid(shapes))
        centred.append(shapely.set_coordinates(shapes.copy(), xy - centres[owner]))
    return _iou(*centred)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    common = shapely.area(shapely.intersection(a, b))
    return np.asarray(common / (shapely.area(a) + shapely.area(b) - common))


def _compared(
    mapped: np.ndarray, reference: np.ndarray, options: MatchOptions
) -> tuple[str, float, float]:
    """Status, metres and IoU of a group."""
    a = np.array([shapely.union_all(mapped)], object)
    b = np.array([shapely.union_all(reference)], object)
    iou = float(_iou(a, b)[0])
    distance = float(shapely.distance(shapely.centroid(a), shapely.centroid(b))[0])
    if len(mapped) > len(reference):
        return SPLIT, distance, iou
    if len(mapped) < len(reference):
        return MERGED, distance, iou
    if len(mapped) > 1:
        return AGREE if iou >= options.min_iou else RESHAPED, distance, iou
    centred = float(_centred_iou(a, b)[0])
    is_same_shape = centred >= options.min_iou
    if distance >= options.min_move and is_same_shape and centred >= iou + _CENTRED_GAIN:
        return MOVED, distance, iou
    if iou >= options.min_iou:
        return AGREE, distance, iou
    return (MOVED if is_same_shape else RESHAPED), distance, iou


def _nearest(shapes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Metres (n,) to the nearest of `others`; NaN without any."""
    result = np.full(len(shapes), np.nan)
    if len(shapes) and len(others):
        (i, _), metres = shapely.STRtree(others).query_nearest(
            shapes, return_distance=True, all_matches=False
        )
        result[i] = metres
    return result
