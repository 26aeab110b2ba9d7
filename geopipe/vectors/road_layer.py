"""Write a road network: a layer of lines for QGIS, and a graph for networkx and osmnx."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import shapely
from geopandas import GeoDataFrame
from pyproj import CRS, Geod, Transformer

from geopipe import __version__
from geopipe.errors import LabelError
from geopipe.files import atomic_files
from geopipe.grid.crs import transformer
from geopipe.oserrors import writing
from geopipe.raster.geopackage import (
    GEOPACKAGE_ERRORS,
    check_target,
    finish_geopackage,
    write_layer,
)
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.style import category_qml
from geopipe.vectors.graph import Centreline
from geopipe.vectors.roads import RoadNetwork

LAYER = "roads"
QUANTILE = 0.1
"""Of the probability along a line, in the column ``score_q10``."""
_WGS84 = Geod(ellps="WGS84")


def road_table(network: RoadNetwork) -> GeoDataFrame:
    """One row per line, in the CRS of the map, from west to east along the first vertices.

    ``road_id`` (from 1), ``class``, ``width_m`` (median), ``length_m`` (geodesic, on the ground),
    ``bridged_m`` (of it across gaps), ``mean_score`` and ``score_q10`` (probability of road along
    the line, NaN where unknown), ``source`` and ``model_sha256``.
    """
    rows: list[dict[str, Any]] = []
    to_lonlat = _to_lonlat(network)
    for _, _, data in network.graph.edges(data=True):
        line: Centreline = data["line"]
        shape = network.to_crs(data["shape"])
        length = _geodesic(to_lonlat, shape)
        flat = float(np.hypot(*np.diff(data["shape"], axis=0).T).sum())
        scale = length / flat if flat else 1.0  # Web Mercator: another one in the north and south
        scores = line.score[np.isfinite(line.score)].astype(np.float64)
        widths = line.half_width[np.isfinite(line.half_width)].astype(np.float64)
        rows.append(
            {
                "class": network.class_name,
                "width_m": round(2 * float(np.median(widths)) * scale, 2) if len(widths) else None,
                "length_m": round(length, 2),
                "bridged_m": round(line.bridged * scale, 2),
                "mean_score": round(float(scores.mean()), 4) if len(scores) else None,
                "score_q10": round(float(np.quantile(scores, QUANTILE)), 4)
                if len(scores)
                else None,
                "geometry": shapely.LineString(shape),
                "edge": data,
            }
        )
    rows.sort(key=lambda row: row["geometry"].coords[:])
    for number, row in enumerate(rows, start=1):
        row.pop("edge").update(road_id=number, width_m=row["width_m"])
    columns = {
        name: np.array([row[name] for row in rows], kind)
        for name, kind in (
            ("class", object),
            ("width_m", float),
            ("length_m", float),
            ("bridged_m", float),
            ("mean_score", float),
            ("score_q10", float),
        )
    }
    columns = {"road_id": np.arange(1, len(rows) + 1, dtype=np.int32), **columns}
    columns["source"] = np.full(len(rows), network.source, object)
    columns["model_sha256"] = np.full(len(rows), network.model_sha256, object)
    lines = np.array([row["geometry"] for row in rows], object)
    return GeoDataFrame(columns, geometry=lines, crs=network.crs)


def _geodesic(to_lonlat: Transformer, xy: np.ndarray) -> float:
    lon, lat = to_lonlat.transform(*xy.T)
    return float(_WGS84.line_length(lon, lat))


def _to_lonlat(network: RoadNetwork) -> Transformer:
    return transformer(network.crs, CRS.from_epsg(4326))


def _write_layer(network: RoadNetwork, table: GeoDataFrame, out: Path) -> None:
    """Write `table` as the layer ``roads`` of the new GeoPackage `out`.

    The layer's metadata hold the outline of the map (``footprint``, WKT in its CRS), so that a
    comparison knows where roads were looked for. Equal networks give equal bytes.
    """
    footprint = shapely.to_wkt(network.geobox.extent.geom, rounding_precision=-1)
    credit = {"credit": network.credit} if network.credit else {}
    about = {"footprint": footprint, "geopipe": __version__, **credit}
    write_layer(table, out, LAYER, geometry_type="LineString", layer_metadata=about)
    style = category_qml("class", {network.class_name: network.color}, "line")
    add_layer_style(out, LAYER, network.class_name, style, "centre-lines of roads")


def road_graphml(network: RoadNetwork) -> bytes:
    """The network as GraphML that ``osmnx.load_graphml`` and networkx read.

    Nodes have ``x`` and ``y`` (degrees, EPSG:4326) and ``street_count``; every road is two edges,
    one each way, with ``osmid`` (its road_id), ``length`` (metres on the ground), ``width``,
    ``oneway``, ``reversed`` and ``geometry`` (WKT). `road_table` gives
    the ids, so it comes first.
    """
    graph, to_lonlat = network.graph, _to_lonlat(network)
    directed = nx.MultiDiGraph(
        crs="epsg:4326", created_with=f"geopipe {__version__}", simplified="True"
    )
    number = {node: str(i) for i, node in enumerate(graph, start=1)}
    for node, data in graph.nodes(data=True):
        (x,), (y,) = to_lonlat.transform(*network.to_crs(data["xy"][None]).T)
        attributes = {"x": repr(float(x)), "y": repr(float(y))}
        directed.add_node(number[node], **attributes, street_count=str(graph.degree(node)))
    for u, v, data in graph.edges(data=True):
        start, end = (u, v) if data["start"] == u else (v, u)
        shape = network.to_crs(data["shape"])
        lonlat = np.column_stack(to_lonlat.transform(*shape.T))
        facts = {"osmid": str(data["road_id"]), "length": f"{_geodesic(to_lonlat, shape):.3f}"}
        if data["width_m"] is not None:
            facts["width"] = f"{data['width_m']:.2f}"
        for a, b, back in ((start, end, False), (end, start, True)):
            line = shapely.LineString(lonlat[::-1] if back else lonlat)
            directed.add_edge(
                number[a],
                number[b],
                **facts,
                highway="road",
                oneway="False",
                reversed=str(back),
                geometry=shapely.to_wkt(line, rounding_precision=9),
            )
    text = BytesIO()
    nx.write_graphml(directed, text)
    return text.getvalue()


def check_road_targets(
    out: Path, graphml: Path | None, *, overwrite: bool, sources: Iterable[Path]
) -> None:
    """LabelError where `out` is no name for a new GeoPackage or `graphml` none for a new graph."""
    sources = list(sources)
    check_target(out, overwrite=overwrite, sources=sources)
    if graphml is None:
        return
    if graphml.suffix.lower() != ".graphml":
        raise LabelError(f"{graphml} would be GraphML", "give it a name that ends in .graphml")
    if graphml.is_dir() or not graphml.parent.is_dir():
        raise LabelError(f"{graphml} cannot be a file there", "give a name in a folder that exists")
    if graphml.exists() and not overwrite:
        raise LabelError(f"{graphml} exists already", "give another name or --overwrite")


def write_roads(network: RoadNetwork, out: Path, graphml: Path | None = None) -> dict[str, Any]:
    """Write the layer and, where asked for, the graph; returns counts for people.

    Both files appear, or none. Raises OutputError where one cannot be written.
    """
    table = road_table(network)
    with atomic_files([out, *([graphml] if graphml else [])], *GEOPACKAGE_ERRORS) as parts:
        _write_layer(network, table, parts[0])
        finish_geopackage(parts[0])
        if graphml:
            with writing(graphml):
                parts[1].write_bytes(road_graphml(network))
    graph = network.graph
    return {
        "lines": len(table),
        "km": round(float(table["length_m"].sum()) / 1000, 3),
        "nodes": graph.number_of_nodes(),
        "components": nx.number_connected_components(graph),
        "dead_ends": sum(degree == 1 for _, degree in graph.degree()),
        "bridged_gaps": network.bridged,
    }
