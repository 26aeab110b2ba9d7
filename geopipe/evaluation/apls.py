"""APLS: average path length similarity of two road networks (Van Etten et al. 2018).

Ways between points of one network are compared with the ways between the nearest points of the
other: 1 where all are as long, 0 where none exists.
"""

import numpy as np

from geopipe.evaluation.road_graph import RoadGraph

SPACING_M = 50.0
"""Distance between points whose ways are compared, as in the paper."""
SNAP_M = 4.0
"""A point farther than this from the other network is not on it, as in the paper."""
_MIN_WAY_M = 10.0
"""Shorter ways say more of where the points fell than of the network."""
_MOST_SOURCES = 500
"""Of more points, this many evenly taken ones are where ways begin."""


def apls(truth: RoadGraph, mapped: RoadGraph) -> float:
    """The harmonic mean of `path_similarity` both ways; NaN where `truth` has no ways."""
    there, back = path_similarity(truth, mapped), path_similarity(mapped, truth)
    if np.isnan(there):
        return float("nan")
    if np.isnan(back) or there + back == 0:
        return 0.0
    return 2 * there * back / (there + back)


def path_similarity(graph: RoadGraph, other: RoadGraph) -> float:
    """1 less the mean relative difference of ways in `graph` from the same in `other`.

    A way that `other` lacks counts as a difference of 1, and so does one more than twice as long.
    NaN where `graph` has no way of 10 m or more.
    """
    on, at = graph.control_points(SPACING_M)
    if not len(on):
        return float("nan")
    count = min(len(on), _MOST_SOURCES)
    sources = np.unique(np.linspace(0, len(on) - 1, count).round().astype(int))
    ways = graph.distances(on, at, sources)
    counted = np.isfinite(ways) & (ways >= _MIN_WAY_M)
    if not counted.any():
        return float("nan")
    if not len(other.lines):
        return 0.0
    other_on, other_at = other.nearest(graph.points(on, at), SNAP_M)
    other_ways = other.distances(other_on, other_at, sources)
    with np.errstate(invalid="ignore"):
        differences = np.abs(ways - other_ways)[counted] / ways[counted]
    return float(1 - np.minimum(differences, 1.0).mean())
