"""Bridge gaps in roads: from end to end, and from an end to the road it runs into."""

import math
from collections.abc import Callable, Iterator
from itertools import count, pairwise

import networkx as nx
import numpy as np
import shapely
from scipy.spatial import cKDTree

from geopipe.grid import Window
from geopipe.vectors.clean import direction_at
from geopipe.vectors.graph import Centreline, add_line, dissolve, outgoing
from geopipe.vectors.probability import ClassProbability

_ANGLE = math.cos(math.radians(30))
"""A road goes on at most 30 degrees off its own direction..."""
_NEAR_ANGLE = math.cos(math.radians(60))
"""...or 60, across less than its own width, over which directions are vague."""
_BLIND_SHARE = 0.5
"""Of the largest gap, where no probability says what lies in it."""
_HIDDEN = 0.5
"""Share of a gap that must have a probability; else it counts as unknown."""

_WIDEST_M = 20.0
"""From the middle of a road that an end runs into to its edge, at most."""
_SAME_M = 1e-3
"""Ends that run into a road this near to each other, or to its own end, meet there."""

Mean = Callable[[np.ndarray, np.ndarray], float]
"""Mean probability of road from one point to another, NaN where unknown."""


def mean_probability(probability: ClassProbability, gsd: tuple[float, float]) -> Mean:
    """How `bridge_gaps` asks for the probability of road between two points."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        steps = max(2, math.ceil(np.hypot(*((b - a) / gsd[::-1]))) + 1)
        pixels = np.floor(np.linspace(a, b, steps) / gsd[::-1]).astype(int)[:, ::-1]
        first, last = pixels.min(axis=0), pixels.max(axis=0)
        window = Window(int(first[0]), int(first[1]), *(int(n) + 1 for n in last - first))
        values = probability.read(window.clip(probability.src.shape))
        rows, cols = np.minimum(pixels - first, np.array(values.shape) - 1).T
        seen = values[rows, cols]
        known = np.isfinite(seen)
        return float(seen[known].mean()) if known.mean() > _HIDDEN else math.nan

    return mean


def bridge_gaps(
    graph: nx.MultiGraph, max_gap: float, min_score: float, mean: Mean | None = None
) -> int:
    """Join dead ends across at most `max_gap` metres; returns how many gaps were bridged.

    Both ends must point at each other, or one at the side of another road, and no gap is longer
    than the line that would cross it: a stub is no evidence. The mean probability of road in the
    gap must be `min_score` or more; where it is unknown a gap may be half as long. Shorter gaps
    come first, and an end is joined once.
    """
    mean = mean or (lambda a, b: math.nan)

    def allowed(a: np.ndarray, b: np.ndarray) -> bool:
        score = mean(a, b)
        if math.isnan(score):
            return float(np.hypot(*(b - a))) <= _BLIND_SHARE * max_gap
        return score >= min_score

    ends = _ends(graph)
    bridged = _end_to_end(graph, ends, max_gap, allowed)
    bridged += _end_to_side(graph, _ends(graph), max_gap, allowed)
    dissolve(graph)
    return bridged


def _ends(graph: nx.MultiGraph) -> dict[int, np.ndarray]:
    """Dead ends and the direction in which each would go on."""
    return {
        node: direction_at(outgoing(graph, node)[0][2], graph.nodes[node]["half_width"])
        for node in graph
        if graph.degree(node) == 1
    }


def _bridge(a: np.ndarray, b: np.ndarray) -> Centreline:
    unknown = np.full(2, np.nan, np.float32)
    return Centreline(np.stack([a, b]), unknown, unknown, float(np.hypot(*(b - a))))


def _end_to_end(
    graph: nx.MultiGraph,
    ends: dict[int, np.ndarray],
    max_gap: float,
    allowed: Callable[[np.ndarray, np.ndarray], bool],
) -> int:
    nodes = list(ends)
    if len(nodes) < 2:
        return 0
    xy = np.array([graph.nodes[n]["xy"] for n in nodes])
    pairs = cKDTree(xy).query_pairs(max_gap, output_type="ndarray")
    gaps = np.hypot(*(xy[pairs[:, 0]] - xy[pairs[:, 1]]).T)
    free = set(nodes)
    for k in np.lexsort((pairs[:, 1], pairs[:, 0], gaps)):
        a, b = (nodes[i] for i in pairs[k].tolist())
        if a not in free or b not in free or _is_hook(graph, a, b, gaps[k]):
            continue
        if gaps[k] > min(_length_of(graph, a), _length_of(graph, b)):
            continue
        start, end = graph.nodes[a]["xy"], graph.nodes[b]["xy"]
        way = (end - start) / max(gaps[k], 1e-9)
        width = graph.nodes[a]["half_width"] + graph.nodes[b]["half_width"]
        limit = _NEAR_ANGLE if gaps[k] < width else _ANGLE
        if min(ends[a] @ way, -ends[b] @ way) >= limit and allowed(start, end):
            add_line(graph, a, b, _bridge(start, end))
            free -= {a, b}
    return (len(nodes) - len(free)) // 2


def _length_of(graph: nx.MultiGraph, end: int) -> float:
    """Metres of the longest line at a dead end, which has one, or two once it is joined."""
    return max(line.length for _, _, line in outgoing(graph, end))


def _is_hook(graph: nx.MultiGraph, a: int, b: int, gap: float) -> bool:
    """Whether the ends are those of one line that is hardly longer than the gap."""
    data = graph.get_edge_data(a, b)
    return data is not None and any(d["line"].length < 4 * gap for d in data.values())


def _end_to_side(
    graph: nx.MultiGraph,
    ends: dict[int, np.ndarray],
    max_gap: float,
    allowed: Callable[[np.ndarray, np.ndarray], bool],
) -> int:
    edges = list(graph.edges(keys=True))
    if not edges:
        return 0
    shapes = np.array([shapely.LineString(graph.edges[e]["line"].xy) for e in edges])
    tree = shapely.STRtree(shapes)
    splits: dict[int, list[tuple[float, int]]] = {}
    for node, direction in ends.items():
        start = graph.nodes[node]["xy"]
        origin = shapely.Point(start)
        ray = shapely.LineString([start, start + (max_gap + _WIDEST_M) * direction])
        hits = [
            (origin.distance(shapely.intersection(ray, shapes[i])), int(i))
            for i in tree.query(ray, predicate="intersects")
            if node not in edges[i][:2]
        ]
        if not hits:
            continue
        reach, edge = min(hits)
        if reach <= _SAME_M:  # it is there already
            continue
        line = graph.edges[edges[edge]]["line"]
        at = float(shapes[edge].project(shapely.Point(start + reach * direction)))
        half_width = line.half_width[np.argmin(np.abs(line.along - at))]
        gap = reach - float(np.nan_to_num(half_width))  # up to the edge of that road
        longest = min(max_gap, _length_of(graph, node))
        if gap <= longest and allowed(start, start + max(gap, 0.0) * direction):
            splits.setdefault(edge, []).append((at, node))
    numbers = count(max(graph) + 1)
    for edge, places in sorted(splits.items()):
        _split(graph, edges[edge], sorted(places), numbers)
    return sum(map(len, splits.values()))


def _split(
    graph: nx.MultiGraph,
    edge: tuple[int, int, int],
    places: list[tuple[float, int]],
    numbers: Iterator[int],
) -> None:
    """Cut `edge` at `places` (metres from its start, the end that is joined there).

    `numbers`: of new nodes.
    """
    data = graph.edges[edge]
    line, start = data["line"], data["start"]
    end = edge[1] if start == edge[0] else edge[0]
    graph.remove_edge(*edge)
    junctions, at_of = [start], [0.0]
    joined: list[tuple[int, int]] = []
    for at, node in places:
        if at - at_of[-1] > _SAME_M and line.length - at > _SAME_M:
            junctions.append(next(numbers))
            at_of.append(at)
            graph.add_node(junctions[-1], xy=line.at(at), half_width=_half_width(line))
        joined.append((node, end if line.length - at <= _SAME_M else junctions[-1]))
    parts = line.cut(at_of[1:])
    for part, (a, b) in zip(parts, pairwise([*junctions, end]), strict=True):
        add_line(graph, a, b, part)
    for node, junction in joined:
        add_line(graph, node, junction, _bridge(*(graph.nodes[n]["xy"] for n in (node, junction))))


def _half_width(line: Centreline) -> float:
    """The largest that is known."""
    return float(np.nanmax(np.append(line.half_width, 0)))
