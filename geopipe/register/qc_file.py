"""The label check as a GeoPackage: doubtful features, tiles by status, shifts as lines."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geopipe.grid import ground_gsd
from geopipe.raster.geopackage import atomic_geopackage, check_target, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.scene import window_geobox
from geopipe.raster.style import category_qml
from geopipe.register.findings import LabelFinding
from geopipe.register.grid import RegistrationGrid
from geopipe.register.qc_tiles import QCTile

ARROW_SCALE = 20
"""Shifts are drawn so many times as long as they are."""
_COLOURS = {
    "good": "#3d9a57",
    "shifted": "#e0a030",
    "incomplete": "#2a7fb8",
    "shifted, incomplete": "#d1562b",
    "doubtful features": "#8a63c9",
    "shifted, doubtful features": "#c2447c",
    "incomplete, doubtful features": "#5b4fa0",
    "shifted, incomplete, doubtful features": "#a02020",
    "no evidence": "#9a9a9a",
    "no labels": "#e8e8e8",
}


FEATURES = "features"
"""The layer of the findings."""
_KIND_COLOURS = {"commission": "#8a63c9", "omission": "#2a7fb8", "shifted": "#e0a030"}
_FEATURE_COLUMNS = {
    "feature_id": "object",
    "kind": "object",
    "class": "object",
    "evidence": "float64",
    "likelihood": "float64",
    "shift_m": "float64",
    "dx_m": "float64",
    "dy_m": "float64",
}
_COLUMNS = {
    "row": "int64",
    "column": "int64",
    "class": "object",
    "status": "object",
    "features": "int64",
    "area_m2": "float64",
    "dx_m": "float64",
    "dy_m": "float64",
    "error_m": "float64",
    "score": "float64",
    "rejected": "object",
    "omission_m2": "float64",
    "omission_share": "float64",
    "commission": "int64",
    "oldest": "object",
    "median_date": "object",
    "newest": "object",
}
"""Types of the fields, also where nothing is known in any block."""


def write_qc_file(
    grid: RegistrationGrid,
    tiles: Sequence[QCTile],
    out: Path,
    *,
    findings: Sequence[LabelFinding] = (),
    overwrite: bool = False,
) -> None:
    """Write ``features``, the findings; a layer of tiles for each class; ``shifts``, lines.

    Metres on the ground along the scene's columns and rows (east and north where it is not
    turned). LabelError when `out` is there already or has no folder.
    """
    check_target(out, overwrite=overwrite)
    about = {"credit": grid.labels.credit} if grid.labels.credit else None
    with atomic_geopackage(out) as part:
        layers = {FEATURES: _features(grid, findings)}
        layers |= {
            tiles_layer(grid.labels.scheme.names[k]): _frame(
                grid, [b for b in tiles if b.class_id == k]
            )
            for k in range(1, len(grid.labels.scheme))
        }
        layers["shifts"] = _shifts(grid, [b for b in tiles if b.features and not b.rejected])
        for name, frame in layers.items():
            kind = {"shifts": "LineString", FEATURES: "Unknown"}.get(name, "Polygon")
            write_layer(frame, part, name, geometry_type=kind, layer_metadata=about)
        colours = {c.name: c.color for c in grid.labels.scheme.classes[1:]}
        for name in layers:
            if name == "shifts":
                add_layer_style(
                    part,
                    name,
                    name,
                    category_qml("class", colours, "line"),
                    f"shifts of the labels, {ARROW_SCALE} times as long",
                )
            elif name == FEATURES:
                style = category_qml("kind", _KIND_COLOURS, "fill")
                add_layer_style(part, name, name, style, "what is wrong with a feature")
            else:
                add_layer_style(part, name, name, category_qml("status", _COLOURS), "status")


def tiles_layer(class_name: str) -> str:
    """The layer of the tiles of a class; the other layers have other names."""
    return f"tiles {class_name}" if class_name in (FEATURES, "shifts") else class_name


def feature_rows(
    grid: RegistrationGrid, findings: Sequence[LabelFinding]
) -> list[dict[str, object]]:
    """Plain values of each finding; None where nothing is known."""
    return [
        {
            "feature_id": f.feature_id or None,
            "kind": f.kind,
            "class": grid.labels.scheme.names[f.class_id],
            "evidence": None if np.isnan(f.evidence) else round(float(f.evidence), 3),
            "likelihood": None if np.isnan(f.likelihood) else round(float(f.likelihood), 3),
            "shift_m": None if f.kind == "omission" else round(float(np.hypot(f.down, f.right)), 2),
            "dx_m": None if f.kind == "omission" else round(float(f.right), 2),
            "dy_m": None if f.kind == "omission" else round(-float(f.down), 2),
        }
        for f in findings
    ]


def _features(grid: RegistrationGrid, findings: Sequence[LabelFinding]) -> gpd.GeoDataFrame:
    table = pd.DataFrame(feature_rows(grid, findings), columns=list(_FEATURE_COLUMNS))
    shapes = [f.shape for f in findings]
    return gpd.GeoDataFrame(
        table.astype(_FEATURE_COLUMNS), geometry=shapes, crs=grid.labels.geobox.crs
    )


def rows(grid: RegistrationGrid, tiles: Sequence[QCTile]) -> list[dict[str, object]]:
    """Plain values of each block; None where nothing is known."""
    pixel = max(ground_gsd(grid.scene.geobox))
    return [
        {
            "row": round(b.window.row * grid.gsd),
            "column": round(b.window.col * grid.gsd),
            "class": grid.labels.scheme.names[b.class_id],
            "status": b.status(pixel),
            "features": b.features,
            "area_m2": round(b.area_m2, 1),
            "dx_m": None if b.rejected else round(b.right, 2),
            "dy_m": None if b.rejected else round(-b.down, 2),
            "error_m": None if b.rejected else round(b.error, 2),
            "score": None if b.rejected else round(b.score, 2),
            "rejected": b.rejected,
            "omission_m2": None if np.isnan(b.omission_m2) else round(b.omission_m2, 1),
            "omission_share": None if np.isnan(b.omission) else round(b.omission, 3),
            "commission": b.commission,
            "oldest": min(b.dates, default=None),
            "median_date": median_date(b.dates),
            "newest": max(b.dates, default=None),
        }
        for b in tiles
    ]


def median_date(dates: Sequence[str]) -> str | None:
    """The middle one of ISO dates."""
    return sorted(dates)[median(range(len(dates))).__floor__()] if dates else None


def _frame(grid: RegistrationGrid, tiles: Sequence[QCTile]) -> gpd.GeoDataFrame:
    shapes = [window_geobox(grid.geobox, b.window).extent.geom for b in tiles]
    table = pd.DataFrame(rows(grid, tiles), columns=list(_COLUMNS)).astype(_COLUMNS)
    return gpd.GeoDataFrame(table, geometry=shapes, crs=grid.labels.geobox.crs)


def _shifts(grid: RegistrationGrid, tiles: Sequence[QCTile]) -> gpd.GeoDataFrame:
    lines = []
    for b in tiles:
        center = np.array([b.window.row + b.window.height / 2, b.window.col + b.window.width / 2])
        end = center + ARROW_SCALE * np.array([b.down, b.right]) / grid.gsd
        lines.append(shapely.LineString(grid.from_px(np.stack([center, end]))))
    table = {
        "class": [grid.labels.scheme.names[b.class_id] for b in tiles],
        "metres": [round(b.length, 2) for b in tiles],
        "dx_m": [round(b.right, 2) for b in tiles],
        "dy_m": [round(-b.down, 2) for b in tiles],
    }
    return gpd.GeoDataFrame(table, geometry=lines, crs=grid.labels.geobox.crs)
