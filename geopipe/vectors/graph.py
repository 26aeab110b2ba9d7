"""Roads as a graph: junctions and ends are nodes, centre-lines are edges.

Coordinates are metres on the ground from the raster's corner, x along a row and y down a column.
A node has ``xy`` and ``half_width`` (metres); an edge has ``line``, a `Centreline`, and ``start``,
the node it begins at. Nodes and edges are in a fixed order, so that equal rasters give equal bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import networkx as nx
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geopipe.vectors.skeleton import Skeleton, neighbours


@dataclass(frozen=True, eq=False, slots=True)
class Centreline:
    """A line with what the raster says along it."""

    xy: np.ndarray
    """(n, 2) float64 metres"""
    half_width: np.ndarray
    """(n,) float32 metres to the road's edge, NaN where the raster has no road"""
    score: np.ndarray
    """(n,) float32 probability of road, NaN where unknown"""
    bridged: float = 0.0
    """Metres of it that cross gaps."""

    @property
    def steps(self) -> np.ndarray:
        """(n - 1,) metres from each vertex to the next."""
        return np.asarray(np.hypot(*np.diff(self.xy, axis=0).T))

    @property
    def length(self) -> float:
        """Metres along it."""
        return float(self.steps.sum())

    @property
    def along(self) -> np.ndarray:
        """(n,) metres from the first vertex to each."""
        return np.concatenate([[0.0], np.cumsum(self.steps)])

    def reversed(self) -> "Centreline":
        """The same line from its other end."""
        return Centreline(self.xy[::-1], self.half_width[::-1], self.score[::-1], self.bridged)

    def joined(self, other: "Centreline") -> "Centreline":
        """This line and then `other`, which begins where this one ends."""
        return Centreline(
            np.concatenate([self.xy, other.xy[1:]]),
            np.concatenate([self.half_width, other.half_width[1:]]),
            np.concatenate([self.score, other.score[1:]]),
            self.bridged + other.bridged,
        )

    def taken(self, keep: np.ndarray) -> "Centreline":
        """The vertices that `keep` (a mask or a slice's indices) selects."""
        return Centreline(self.xy[keep], self.half_width[keep], self.score[keep], self.bridged)

    def cut(self, places: list[float]) -> list["Centreline"]:
        """The pieces between `places`, metres from the first vertex in rising order."""
        along, parts = self.along, []
        bounds = [0.0, *places, float(along[-1])]
        for a, b in pairwise(bounds):
            inside = (along > a) & (along < b)
            inside[0] |= a == bounds[0]
            inside[-1] |= b == bounds[-1]
            piece = self.taken(inside)
            if a != bounds[0]:
                piece = piece.from_point(self.at(a))
            if b != bounds[-1]:
                piece = piece.reversed().from_point(self.at(b)).reversed()
            share = (b - a) / max(bounds[-1], 1e-9)
            parts.append(replace(piece, bridged=self.bridged * share))
        return parts

    def at(self, place: float) -> np.ndarray:
        """The point (2,) `place` metres from the first vertex."""
        along = self.along
        return np.array([np.interp(place, along, self.xy[:, k]) for k in (0, 1)])

    def from_point(self, xy: np.ndarray) -> "Centreline":
        """The line with one more vertex, without width and score, before its first."""
        unknown = np.full(1, np.nan, np.float32)
        return Centreline(
            np.concatenate([[xy], self.xy]),
            np.concatenate([unknown, self.half_width]),
            np.concatenate([unknown, self.score]),
            self.bridged,
        )


def add_line(graph: nx.MultiGraph, start: int, end: int, line: Centreline) -> None:
    """Add an edge from `start` to `end` along `line`."""
    graph.add_edge(start, end, start=start, line=line)


def outgoing(graph: nx.MultiGraph, node: int) -> list[tuple[int, int, Centreline]]:
    """(other node, key, line away from `node`) of each edge; a loop comes once."""
    return [
        (other, key, data["line"] if data["start"] == node else data["line"].reversed())
        for _, other, key, data in graph.edges(node, keys=True, data=True)
    ]


def dissolve(graph: nx.MultiGraph) -> None:
    """Join the two lines of every node that is neither an end nor a junction."""
    for node in list(graph):
        lines = outgoing(graph, node)
        if len(lines) == 2 and graph.degree(node) == 2:
            (a, _, to_a), (b, _, to_b) = lines
            graph.remove_node(node)
            add_line(graph, a, b, to_a.reversed().joined(to_b))
        elif not lines:
            graph.remove_node(node)


def graph_of(skeleton: Skeleton, width: int, gsd: tuple[float, float]) -> nx.MultiGraph:
    """The graph of a skeleton on a raster of `width` columns.

    Pixels with one neighbour, or with more than two, are nodes; touching ones of the latter are
    one node. A closed line without junction gets a node at its first pixel. Single pixels are
    left out. Memory follows the length of the lines.
    """
    graph = nx.MultiGraph()
    n = len(skeleton.rows)
    if not n:
        return graph
    pairs = [(a, b) for a, b, _ in neighbours(skeleton, width)]
    one, two = (np.concatenate(side) for side in zip(*pairs, strict=True))
    del pairs
    degree = (np.bincount(one, minlength=n) + np.bincount(two, minlength=n)).astype(np.int8)
    # Of a pixel with two neighbours the way on is their sum less where one comes from.
    neighbour_sum = (np.bincount(one, two, n) + np.bincount(two, one, n)).astype(np.int64)
    sums: memoryview = memoryview(neighbour_sum.data).cast("B").cast("q")
    cluster = _clusters(one, two, degree > 2)

    def xy_of(pixels: Sequence[int] | np.ndarray) -> np.ndarray:
        place = np.column_stack([skeleton.cols[pixels], skeleton.rows[pixels]])
        return np.asarray((place + 0.5) * (gsd[1], gsd[0]))

    members: dict[int, list[int]] = {}
    for pixel in np.flatnonzero((degree == 1) | (degree > 2)).tolist():
        members.setdefault(int(cluster[pixel]), []).append(pixel)
    for node, pixels in members.items():
        half_width = float(skeleton.half_width[pixels].max())
        graph.add_node(node, xy=xy_of(pixels).mean(axis=0), half_width=half_width)

    def line_of(start: int, pixels: list[int], end: int) -> Centreline:
        ends = np.stack([graph.nodes[start]["xy"], graph.nodes[end]["xy"]])
        inner = np.array([start, *pixels, end])
        points = xy_of(inner)
        points[[0, -1]] = ends
        return Centreline(points, skeleton.half_width[inner], skeleton.score[inner])

    visited = np.zeros(n, bool)
    is_node = (degree == 1) | (degree > 2)
    for start, end, pixels in _chains(one, two, is_node, cluster, sums, visited):
        add_line(graph, start, end, line_of(start, pixels, end))
    for pixel in np.flatnonzero(~is_node & (degree == 2) & ~visited).tolist():
        if visited[pixel]:
            continue
        visited[pixel] = True
        graph.add_node(pixel, xy=xy_of([pixel])[0], half_width=float(skeleton.half_width[pixel]))
        either = int(one[two == pixel][0]) if (two == pixel).any() else int(two[one == pixel][0])
        pixels = _walk(pixel, either, is_node, sums, visited, stop=pixel)
        add_line(graph, pixel, pixel, line_of(pixel, pixels, pixel))
    return graph


def _clusters(one: np.ndarray, two: np.ndarray, is_crossing: np.ndarray) -> np.ndarray:
    """(n,) each pixel's node: the first of the crossings it touches, itself where it is none.

    `one`, `two`: (m,) pairs of adjacent pixels.
    """
    cluster = np.arange(len(is_crossing), dtype=np.int32)
    crossings = cluster[is_crossing]
    both = is_crossing[one] & is_crossing[two]
    pair = np.searchsorted(crossings, one[both]), np.searchsorted(crossings, two[both])
    touching = coo_array((np.ones(len(pair[0]), bool), pair), (len(crossings), len(crossings)))
    _, label = connected_components(touching, directed=False)
    _, first, number = np.unique(label, return_index=True, return_inverse=True)
    cluster[is_crossing] = crossings[first[number]]
    return cluster


def _chains(
    one: np.ndarray,
    two: np.ndarray,
    is_node: np.ndarray,
    cluster: np.ndarray,
    sums: memoryview,
    visited: np.ndarray,
) -> Iterator[tuple[int, int, list[int]]]:
    """(node, node, pixels between them) of every line, each once, in the order of the pixels."""
    starts = np.concatenate([one[is_node[one]], two[is_node[two]]])
    nexts = np.concatenate([two[is_node[one]], one[is_node[two]]])
    order = np.lexsort((nexts, starts))
    for start, following in zip(starts[order].tolist(), nexts[order].tolist(), strict=True):
        if is_node[following]:
            if cluster[start] != cluster[following] and start < following:
                yield int(cluster[start]), int(cluster[following]), []
        elif not visited[following]:
            pixels = _walk(start, following, is_node, sums, visited)
            end = sums[pixels[-1]] - (pixels[-2] if len(pixels) > 1 else start)
            yield int(cluster[start]), int(cluster[end]), pixels


def _walk(
    start: int,
    following: int,
    is_node: np.ndarray,
    sums: memoryview,
    visited: np.ndarray,
    stop: int = -1,
) -> list[int]:
    """The pixels from `following` on until a node, or `stop`, comes next."""
    pixels = []
    before, here = start, following
    while not is_node[here] and here != stop:
        visited[here] = True
        pixels.append(here)
        before, here = here, sums[here] - before
    return pixels
