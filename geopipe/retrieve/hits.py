"""Hits as a GeoPackage, styled for QGIS by rank and similarity."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from geopipe.errors import ChipIndexError
from geopipe.grid.crs import transformer
from geopipe.raster.geopackage import atomic_geopackage, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.style import category_qml
from geopipe.retrieve.query import Hit, SearchResult
from geopipe.retrieve.rows import ChipRow

LAYER, QUERY_LAYER = "hits", "query"
_COLOURS = ("#b2182b", "#e8793e", "#f4c04f", "#8fc3c9", "#3f7fb3")
"""Near to far."""
_MAX_LABELLED = 5


def write_hits(result: SearchResult, out: Path) -> int:
    """Write layer `hits` (those with a place) and, where known, `examples`; returns how many.

    In the CRS of the hits, or in lon/lat where they have several. Raises ChipIndexError when none
    has a place, OutputError when the file cannot be written.
    """
    georeferenced = [h for h in result.hits if h.row.crs]
    if not georeferenced:
        raise ChipIndexError(no_place(result), "an HTML page shows them")
    examples = [e for e in result.examples if e.row.crs]
    crs_names = {h.row.crs for h in georeferenced}
    crs = crs_names.pop() if len(crs_names) == 1 else "OGC:CRS84"
    bands = opacities(georeferenced)
    with atomic_geopackage(out) as part:
        frame = _frame(georeferenced, bands, crs)
        write_layer(frame, part, LAYER, geometry_type="Polygon")
        colours = dict(zip(dict.fromkeys(bands), _COLOURS, strict=False))
        qml = labelled(category_qml("nearness", colours), "rank")
        add_layer_style(part, LAYER, LAYER, qml, "hits by rank, near to far")
        if examples:
            frame = gpd.GeoDataFrame(
                {"name": [e.name for e in examples], "role": [e.role for e in examples]},
                geometry=[polygon(e.row, crs) for e in examples],
                crs=crs,
            )
            write_layer(frame, part, QUERY_LAYER, geometry_type="Polygon")
            qml = category_qml("role", {"query": "#111111", "like": "#1a7a3c", "unlike": "#777777"})
            add_layer_style(part, QUERY_LAYER, QUERY_LAYER, qml, "the query")
    return len(georeferenced)


def no_place(result: SearchResult) -> str:
    """Why there is no map of the hits."""
    return f"none of the {len(result.hits)} hits has a place on Earth, so there is no map of them"


def opacities(hits: Sequence[Hit]) -> list[str]:
    """Of each hit the class it is drawn in: ranks and distances."""
    edges = np.array_split(np.arange(len(hits)), min(_MAX_LABELLED, len(hits)))
    out = []
    for part in edges:
        first, last = hits[part[0]], hits[part[-1]]
        ranks = f"rank {first.rank}" + f" to {last.rank}" * (last.rank > first.rank)
        out += [f"{ranks}: {first.distance:.4g} to {last.distance:.4g}"] * len(part)
    return out


def polygon(row: ChipRow, crs: str) -> shapely.Polygon:
    """A chip's footprint in `crs`."""
    corners = row.corners
    if row.crs != crs:
        to = transformer(row.crs, crs)
        corners = np.column_stack(to.transform(corners[:, 0], corners[:, 1]))
    return shapely.Polygon(corners)


def _frame(hits: Sequence[Hit], bands: Sequence[str], crs: str) -> gpd.GeoDataFrame:
    shapes = [polygon(h.row, crs) for h in hits]
    frame = gpd.GeoDataFrame(_columns(hits), geometry=shapes, crs=crs)
    frame.insert(3, "nearness", list(bands))
    return frame


def hits_frame(hits: Sequence[Hit]) -> gpd.GeoDataFrame:
    """A row per hit; its footprint in the CRS of the hits, in lon/lat where they have several.

    Hits without a place have no geometry, and where none has one the frame has no CRS.
    """
    systems = {h.row.crs for h in hits if h.row.crs}
    crs = (systems.pop() if len(systems) == 1 else "OGC:CRS84") if systems else None
    shapes = [polygon(h.row, crs) if crs and h.row.crs else None for h in hits]
    return gpd.GeoDataFrame(_columns(hits), geometry=gpd.GeoSeries(shapes, crs=crs))


def _columns(hits: Sequence[Hit]) -> dict[str, list[Any]]:
    return {
        "rank": [h.rank for h in hits],
        "distance": [h.distance for h in hits],
        "similarity": [h.similarity for h in hits],
        "chip": [h.number for h in hits],
        "class": [h.row.class_name or None for h in hits],
        "source": [h.row.source for h in hits],
        "row": [h.row.row for h in hits],
        "column": [h.row.col for h in hits],
        "height": [h.row.height for h in hits],
        "width": [h.row.width for h in hits],
    }


def labelled(qml: str, field: str) -> str:
    """A style that also writes the values of `field` into the shapes."""
    head, _, body = qml.partition("\n")
    root = ET.fromstring(body)
    root.set("styleCategories", "Symbology|Labeling")
    root.set("labelsEnabled", "1")
    settings = ET.SubElement(ET.SubElement(root, "labeling", type="simple"), "settings")
    text = {
        "fieldName": field,
        "fontSize": "9",
        "fontSizeUnit": "Point",
        "fontWeight": "75",
        "textColor": "20,20,20,255",
    }
    style = ET.SubElement(settings, "text-style", text)
    ET.SubElement(
        style,
        "text-buffer",
        bufferDraw="1",
        bufferSize="0.8",
        bufferSizeUnits="MM",
        bufferColor="255,255,255,255",
    )
    ET.SubElement(settings, "placement", placement="1", centroidInside="1")
    ET.SubElement(settings, "rendering", drawLabels="1", obstacle="0")
    ET.indent(root)
    return f"{head}\n{ET.tostring(root, encoding='unicode')}\n"
