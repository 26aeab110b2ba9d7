"""Clean a graph of roads: spurs, doubled junctions, specks."""

import networkx as nx
import numpy as np

from geopipe.vectors.graph import Centreline, add_line, dissolve, outgoing

_MAX_TRIM = 0.4
"""Share of a line that may be straightened at each of its ends."""
_PARALLEL = 0.05
"""Lines that meet under a smaller angle (radians, about) do not fix a junction."""


def prune_spurs(graph: nx.MultiGraph) -> None:
    """Take out dead ends shorter than the road they leave is wide, until there are none.

    Where a road's end is forked, both prongs go. Of a blob without any longer line the two longest
    stay.
    """
    while True:
        pruned = False
        for node in list(graph):
            if node not in graph or graph.degree(node) < 3:
                continue
            limit = 2 * graph.nodes[node]["half_width"]
            spurs = [
                (line.length, other, key)
                for other, key, line in outgoing(graph, node)
                if graph.degree(other) == 1 and line.length < limit
            ]
            if len(spurs) == graph.degree(node):
                spurs = sorted(spurs)[:-2]
            for _, other, _ in spurs:
                graph.remove_node(other)
            pruned |= bool(spurs)
        dissolve(graph)
        if not pruned:
            return


def merge_junctions(graph: nx.MultiGraph) -> None:
    """Make one of junctions that are nearer to each other than the road is wide there.

    The skeleton of a crossing is two forks beside each other. Loops that are left of it, shorter
    than a walk around the road's width, go too. Lines keep their vertices: `straighten_junctions`
    leads them to the node.
    """
    changed = True
    while changed:
        changed = False
        close = sorted(
            (line.length, u, v)
            for u, v, line in graph.edges(data="line")
            if u != v and _are_one(graph, u, v, line)
        )
        for _, u, v in close:
            if u in graph and v in graph and graph.has_edge(u, v):
                lines = [data["line"] for data in graph[u][v].values()]
                if any(_are_one(graph, u, v, line) for line in lines):
                    _merge(graph, min(u, v), max(u, v))
                    changed = True
    for node in list(graph):
        limit = 8 * graph.nodes[node]["half_width"]
        for other, key, line in outgoing(graph, node):
            if other == node and graph.degree(node) > 2 and line.length < limit:
                graph.remove_edge(node, node, key)
    dissolve(graph)


def _are_one(graph: nx.MultiGraph, u: int, v: int, line: Centreline) -> bool:
    if min(graph.degree(u), graph.degree(v)) < 3:
        return False
    a, b = graph.nodes[u], graph.nodes[v]
    width = a["half_width"] + b["half_width"]
    apart = float(np.hypot(*(a["xy"] - b["xy"])))
    return bool(apart < width and line.length < 1.5 * width)


def _merge(graph: nx.MultiGraph, into: int, node: int) -> None:
    """Make `node` a part of `into`, halfway between by the number of junctions in each."""
    lines = [
        (other, line)
        for other, _, line in outgoing(graph, node)
        if other != into or not _are_one(graph, into, node, line)
    ]
    a, b = graph.nodes[into], graph.nodes[node]
    count_a, count_b = a.get("merged", 1), b.get("merged", 1)
    a["xy"] = (count_a * a["xy"] + count_b * b["xy"]) / (count_a + count_b)
    a["merged"] = count_a + count_b
    a["half_width"] = max(a["half_width"], b["half_width"])
    for other, line in lines:
        add_line(graph, into, into if other == node else other, line)
    graph.remove_node(node)


def straighten_junctions(graph: nx.MultiGraph) -> None:
    """Move each junction to where its roads would meet, and lead them there in straight lines.

    A skeleton bends towards a side road by up to a third of the width. A junction moves by half
    the road's width at most; beyond half a width from it lines stay as they are.
    """
    for node in graph:
        if graph.degree(node) > 2:
            graph.nodes[node]["xy"] = _meeting_point(graph, node)
    for u, v, _, data in graph.edges(keys=True, data=True):
        line, start = data["line"], data["start"]
        end = v if start == u else u
        line = _led_to(line, graph, start)
        data["line"] = _led_to(line.reversed(), graph, end).reversed()


def _meeting_point(graph: nx.MultiGraph, node: int) -> np.ndarray:
    """The point nearest to the straight lines that the roads of `node` are outside of it."""
    xy, radius = graph.nodes[node]["xy"], graph.nodes[node]["half_width"]
    normal, right = np.zeros((2, 2)), np.zeros(2)
    for other, _, line in outgoing(graph, node):
        for way in (line, line.reversed()) if other == node else (line,):
            length = way.length
            if length < 2 * radius:
                continue
            a, b = way.at(1.2 * radius), way.at(min(4 * radius, length))
            direction = (b - a) / max(np.hypot(*(b - a)), 1e-9)
            across = np.eye(2) - np.outer(direction, direction)
            normal += across
            right += across @ a
    values = np.linalg.eigvalsh(normal)
    if values[0] < _PARALLEL * max(values[1], 1e-9):
        return np.asarray(xy)
    meeting = np.linalg.solve(normal, right)
    return meeting if np.hypot(*(meeting - xy)) <= radius else np.asarray(xy)


def _led_to(line: Centreline, graph: nx.MultiGraph, node: int) -> Centreline:
    """`line` from `node` on: without its vertices inside the junction, beginning at the node."""
    xy = graph.nodes[node]["xy"]
    if graph.degree(node) < 3:
        return line
    radius = graph.nodes[node]["half_width"]
    outside = np.hypot(*(line.xy - xy).T) >= radius
    far = line.along > _MAX_TRIM * line.length
    outside[-1] = True
    return line.taken(np.arange(np.argmax(outside | far), len(line.xy))).from_point(xy)


def extend_ends(graph: nx.MultiGraph, size: tuple[float, float]) -> None:
    """Lengthen dead ends to the road's end, which thinning has taken away up to half a width of.

    The way is no longer than the distance to the nearest pixel off the road, so that it stays on
    it, and within `size` (width and height of the raster in metres).
    """
    for node in graph:
        if graph.degree(node) != 1:
            continue
        _, _, line = outgoing(graph, node)[0]
        reach = float(np.nan_to_num(line.half_width[0], posinf=0.0))
        tip = line.xy[0] + reach * direction_at(line, reach)
        if reach <= 0 or (tip < 0).any() or (tip > size).any():
            continue
        ((_, other, data),) = graph.edges(node, data=True)
        longer = line.from_point(tip)
        longer.half_width[0], longer.score[0] = line.half_width[0], line.score[0]
        data["line"] = longer if data["start"] == node else longer.reversed()
        graph.nodes[node]["xy"] = tip
        assert other != node


def direction_at(line: Centreline, half_width: float) -> np.ndarray:
    """The unit vector (2,) that leads out of the beginning of `line`, seen over some widths."""
    length = line.length
    a, b = line.at(min(half_width, length / 3)), line.at(min(5 * half_width + 2.0, length))
    return np.asarray((a - b) / max(float(np.hypot(*(a - b))), 1e-9))


def drop_specks(graph: nx.MultiGraph, min_length: float) -> int:
    """Take out connected parts with less than `min_length` metres of road; returns how many."""
    specks = [
        nodes
        for nodes in nx.connected_components(graph)
        if sum(line.length for _, _, line in graph.subgraph(nodes).edges(data="line")) < min_length
    ]
    for nodes in specks:
        graph.remove_nodes_from(nodes)
    return len(specks)
