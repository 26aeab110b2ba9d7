"""Lines buffered to their width on the ground."""

import numpy as np
import shapely
from pyproj import CRS

from geopipe.labels.extent import reproject

_STEP_M = 500.0
"""Longest side of a buffer before it is bent into another CRS: 500 m bow by under a centimetre."""
_SAME_M = 0.02
"""Ends nearer than this are the same OSM node."""


def buffered_lines(lines: np.ndarray, widths: np.ndarray, source: CRS, local: CRS) -> np.ndarray:
    """`lines` (n,) of `source` as polygons of `widths` (n,) metres, in the metres of `local`.

    Joins are round. An end that meets another line is round too, so that a road which OSM cuts into
    several ways has no notch at the cuts; an end that meets nothing is cut off flat, so that a road
    is exactly as long as it was drawn.
    """
    flat = shapely.remove_repeated_points(reproject(lines, source, local))
    wide = shapely.buffer(flat, widths / 2, cap_style="flat", join_style="round")
    ends, owner = _joined_ends(flat)
    if len(owner):
        caps = shapely.buffer(shapely.points(ends), widths[owner] / 2)
        # Several caps of one line: gather them first, a union per line and not per cap.
        rows, firsts = np.unique(owner, return_index=True)
        for row, own in zip(rows, np.split(caps, firsts[1:]), strict=True):
            wide[row] = shapely.union_all([wide[row], *own])
    return np.asarray(shapely.segmentize(wide, _STEP_M))


def _joined_ends(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (k, 2) that are a node of another line too, and the index (k,) of the line they end."""
    parts, owner = shapely.get_parts(lines, return_index=True)
    usable = shapely.get_num_points(parts) > 1
    parts, owner = parts[usable], owner[usable]
    if not len(parts):
        return np.empty((0, 2)), owner
    xy = shapely.get_coordinates(parts)
    finite = np.where(np.isfinite(xy), xy, 0.0)
    _, node, count = np.unique(
        np.round(finite / _SAME_M).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    stop = np.cumsum(shapely.get_num_points(parts))
    at = np.sort(np.concatenate([np.r_[0, stop[:-1]], stop - 1]))
    shared = count[node.ravel()[at]] > 1
    return xy[at][shared], np.repeat(owner, 2)[shared]
