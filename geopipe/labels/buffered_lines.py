"""Lines buffered to their width on the ground."""

import numpy as np
import shapely
from pyproj import CRS

from geopipe.labels.extent import reproject

_STEP_M = 500.0
"""Longest side of a buffer before it is bent into another CRS: 500 m bow by under a centimetre."""
_SNAP_M = 0.02
"""Ends nearer than this are the same OSM node."""


def buffered_lines(lines: np.ndarray, widths: np.ndarray, source: CRS, local: CRS) -> np.ndarray:
    """`lines` (n,) of `source` as polygons of `widths` (n,) metres, in the metres of `local`.

    Joins are round. An end that meets another line is round too, so that a road which OSM cuts into
    several ways has no notch at the cuts; an end that meets nothing is cut off flat, so that a road
    is exactly as long as it was drawn.
    """
    flat = shapely.remove_repeated_points(reproject(lines, source, local))
    buffered = shapely.buffer(flat, widths / 2, cap_style="flat", join_style="round")
    end_points, line_indices = _joined_ends(flat)
    if len(line_indices):
        caps = shapely.buffer(shapely.points(end_points), widths[line_indices] / 2)
        # Several caps of one line: gather them first, a union per line and not per cap.
        rows, firsts = np.unique(line_indices, return_index=True)
        for row, own in zip(rows, np.split(caps, firsts[1:]), strict=True):
            buffered[row] = shapely.union_all([buffered[row], *own])
    return np.asarray(shapely.segmentize(buffered, _STEP_M))


def _joined_ends(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (k, 2) that are a node of another line too, and the index (k,) of the line they end."""
    parts, line_indices = shapely.get_parts(lines, return_index=True)
    usable = shapely.get_num_points(parts) > 1
    parts, line_indices = parts[usable], line_indices[usable]
    if not len(parts):
        return np.empty((0, 2)), line_indices
    xy = shapely.get_coordinates(parts)
    coordinates = np.where(np.isfinite(xy), xy, 0.0)
    _, node, count = np.unique(
        np.round(coordinates / _SNAP_M).astype(np.int64),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    end_offsets = np.cumsum(shapely.get_num_points(parts))
    end_indices = np.sort(np.concatenate([np.r_[0, end_offsets[:-1]], end_offsets - 1]))
    shared = count[node.ravel()[end_indices]] > 1
    return xy[end_indices][shared], np.repeat(line_indices, 2)[shared]
