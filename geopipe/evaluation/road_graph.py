"""A road network for measuring ways: lines from junction to junction, and points along them."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

_SNAP_M = 0.01
"""Vertices nearer than this are one."""
_TOUCH_M = 0.5
"""A line that ends this near to another one, without a vertex in common, meets it."""


@dataclass(frozen=True, eq=False)
class RoadGraph:
    """Lines in metres between the places where roads meet or end."""

    lines: np.ndarray
    """(n,) LineStrings"""
    ends: np.ndarray
    """(n, 2) numbers of the nodes at the first and last vertex of each line"""

    @classmethod
    def of(cls, lines: np.ndarray) -> "RoadGraph":
        """The graph of `lines` (m,) LineStrings in metres.

        Roads meet where their lines share a vertex, as in OpenStreetMap: lines that cross without
        one are a bridge. An end within half a metre of another line meets it too. Ways cut into
        pieces are one line from junction to junction.
        """
        xy, pairs = _segments(lines)
        pairs = _with_touching_ends(xy, pairs)
        neighbours: dict[int, list[int]] = defaultdict(list)
        for a, b in pairs.tolist():
            neighbours[a].append(b)
            neighbours[b].append(a)
        chains = _chains(neighbours)
        shapes = np.array([shapely.LineString(xy[chain]) for chain in chains], object)
        ends = np.array([[chain[0], chain[-1]] for chain in chains], int).reshape(-1, 2)
        return cls(shapes, ends)

    @property
    def length(self) -> float:
        """Metres of road."""
        return float(shapely.length(self.lines).sum()) if len(self.lines) else 0.0

    @property
    def dangling(self) -> int:
        """Ends that meet no other line."""
        return int((np.unique(self.ends, return_counts=True)[1] == 1).sum())

    @property
    def components(self) -> int:
        """Parts without a way from one to another."""
        if not len(self.ends):
            return 0
        nodes, number = np.unique(self.ends, return_inverse=True)
        a, b = number.reshape(-1, 2).T
        links = coo_array((np.ones(len(a)), (a, b)), (len(nodes), len(nodes)))
        return int(connected_components(links, directed=False)[0])

    def control_points(self, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """Junctions, ends, and points at most `spacing` metres apart between them.

        Returns the line (k,) that each lies on and the metres (k,) from its first vertex. A
        junction comes once, on the first line that has it.
        """
        seen: set[int] = set()
        points: list[tuple[int, float]] = []
        for i, (line, (a, b)) in enumerate(zip(self.lines, self.ends.tolist(), strict=True)):
            parts = max(1, int(np.ceil(line.length / spacing)))
            inner = [(i, line.length * k / parts) for k in range(1, parts)]
            start = [] if a in seen else [(i, 0.0)]
            end = [] if b in seen or b == a else [(i, line.length)]
            points += start + inner + end
            seen |= {a, b}
        if not points:
            return np.empty(0, int), np.empty(0)
        on, at = zip(*points, strict=True)
        return np.array(on), np.array(at)

    def nearest(self, xy: np.ndarray, within: float) -> tuple[np.ndarray, np.ndarray]:
        """The line (k,) nearest to each point (k, 2), -1 beyond `within` m, and metres along it."""
        on, at = np.full(len(xy), -1), np.zeros(len(xy))
        if len(self.lines) and len(xy):
            points = np.asarray(shapely.points(xy), object)
            tree = shapely.STRtree(self.lines)
            i, line = tree.query_nearest(points, max_distance=within, all_matches=False)
            on[i] = line
            at[i] = shapely.line_locate_point(self.lines[line], points[i])
        return on, at

    def points(self, on: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The points (k, 2) that lie `at` metres along the lines `on`."""
        return shapely.get_coordinates(shapely.line_interpolate_point(self.lines[on], at))

    def distances(self, on: np.ndarray, at: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Metres by road from the points `sources` (s,) to all points (k,), (s, k).

        Infinite where there is no way, or where a point is on no line (-1).
        """
        nodes, number = np.unique(self.ends, return_inverse=True)
        ends = number.reshape(-1, 2)
        count = len(nodes) + len(on)
        order = np.lexsort((at, on))
        order = order[on[order] >= 0]
        rows: list[int] = []
        cols: list[int] = []
        metres: list[float] = []
        placed = np.split(order, np.searchsorted(on[order], np.arange(1, len(self.lines))))
        for line, (a, b), points in zip(self.lines, ends.tolist(), placed, strict=True):
            stops = [a, *(len(nodes) + points).tolist(), b]
            where = [0.0, *at[points].tolist(), line.length]
            rows += stops[:-1]
            cols += stops[1:]
            metres += np.diff(where).tolist()
        best: dict[tuple[int, int], float] = {}
        for a, b, metre in zip(rows, cols, metres, strict=True):
            key = (min(a, b), max(a, b))  # of two lines between the same nodes the shorter counts
            best[key] = min(best.get(key, np.inf), max(metre, 1e-9))
        links = coo_array(
            (list(best.values()), tuple(np.array(list(best)).T)), (count, count)
        ).tocsr()
        result = dijkstra(links, directed=False, indices=len(nodes) + sources)
        result = result[:, len(nodes) :]
        result[:, on < 0] = np.inf
        result[on[sources] < 0] = np.inf
        return np.asarray(result)


def _segments(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (v, 2) and the pairs (s, 2) of them that are joined, each once."""
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    _, first, node = np.unique(
        np.round(xy / _SNAP_M).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    node = node.ravel()
    same_line = owner[1:] == owner[:-1]
    pairs = np.column_stack([node[:-1], node[1:]])[same_line]
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return xy[first], pairs


def _with_touching_ends(xy: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`pairs` with segments cut where an end of another line touches them."""
    nodes, counts = np.unique(pairs, return_counts=True)
    loose = nodes[counts == 1]
    if not len(loose):
        return pairs
    segments = shapely.linestrings(xy[pairs])
    i, k = shapely.STRtree(segments).query(
        shapely.points(xy[loose]), predicate="dwithin", distance=_TOUCH_M
    )
    foreign = (pairs[k] != loose[i][:, None]).all(axis=1)
    i, k = i[foreign], k[foreign]
    distance = shapely.distance(segments[k], shapely.points(xy[loose[i]]))
    cuts: dict[int, list[tuple[float, int]]] = defaultdict(list)
    done: set[int] = set()
    for j in np.lexsort((k, distance)).tolist():
        node = int(loose[i[j]])
        if node in done:
            continue
        done.add(node)
        place = float(shapely.line_locate_point(segments[k[j]], shapely.Point(xy[node])))
        cuts[int(k[j])].append((place, node))
    kept = np.ones(len(pairs), bool)
    kept[list(cuts)] = False
    added = []
    for segment, places in cuts.items():
        stops = [pairs[segment, 0], *(node for _, node in sorted(places)), pairs[segment, 1]]
        added += [(int(a), int(b)) for a, b in pairwise(stops)]
    return np.concatenate([pairs[kept], np.array(added, int).reshape(-1, 2)])


def _chains(neighbours: dict[int, list[int]]) -> list[list[int]]:
    """Lists of vertices from junction or end to junction or end; closed lines begin anywhere."""
    chains: list[list[int]] = []
    used: set[tuple[int, int]] = set()

    def follow(start: int, here: int) -> None:
        chain = [start, here]
        while len(neighbours[here]) == 2 and here != start:
            before = chain[-2]
            here = next((n for n in neighbours[here] if n != before), before)
            chain.append(here)
        used.update(((chain[0], chain[1]), (chain[-1], chain[-2])))
        chains.append(chain)

    for node in sorted(neighbours):
        if len(neighbours[node]) != 2:
            for other in sorted(neighbours[node]):
                if (node, other) not in used:
                    follow(node, other)
    passed = {node for chain in chains for node in chain}
    for node in sorted(neighbours):
        if node not in passed:
            follow(node, min(neighbours[node]))
            passed.update(chains[-1])
    return chains
