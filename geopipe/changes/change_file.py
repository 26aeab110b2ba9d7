"""Write what changed: a GeoPackage for QGIS."""

import json
from pathlib import Path
from typing import Any

import shapely
from geopandas import GeoDataFrame

from geopipe import __version__
from geopipe.changes.compare import Changes
from geopipe.changes.josm import check_josm_target, josm_document
from geopipe.changes.matching import (
    AGREE,
    MERGED,
    MOVED,
    ONLY_MAP,
    ONLY_OSM,
    ONLY_REFERENCE,
    RESHAPED,
    SPLIT,
    UNSURE,
)
from geopipe.files import atomic_files
from geopipe.oserrors import writing
from geopipe.raster.geopackage import (
    GEOPACKAGE_ERRORS,
    check_target,
    finish_geopackage,
    write_layer,
)
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.style import category_qml

COLORS = {
    ONLY_MAP: "#d7191c",
    UNSURE: "#f4a582",
    ONLY_OSM: "#2c7bb6",
    ONLY_REFERENCE: "#2c7bb6",
    MOVED: "#fdae61",
    RESHAPED: "#e0c341",
    SPLIT: "#9970ab",
    MERGED: "#5e3c99",
    AGREE: "#4dac26",
}
"""In QGIS and on pages."""


def check_change_targets(
    out: Path, josm: Path | None, *, overwrite: bool, sources: list[Path]
) -> None:
    """OutputError where `out` is no name for a new GeoPackage, or `josm` none for OSM data."""
    check_target(out, overwrite=overwrite, sources=sources)
    if josm is not None:
        check_josm_target(josm, overwrite=overwrite, sources=sources)


def write_changes(
    changes: Changes, out: Path, josm: Path | None = None, *, reference: Path | None = None
) -> None:
    """Write the layers ``buildings`` and ``roads`` to the GeoPackage `out`, styled by ``status``.

    Columns: ``change_id``, ``group`` (buildings of one match have the same), ``status``,
    ``probability`` (that the object is real), ``mean_score``, ``distance_m``, ``iou`` and
    ``area_m2`` of buildings, ``length_m`` of roads, ``map_id``, ``reference_id``,
    ``shift_east``/``shift_north`` (what was added to the reference before comparing), ``source``
    and ``model_sha256``. Geometries are in the place where the map has them; those that only the
    reference has are moved by its shift. `josm`: the same for JOSM, see `josm_document`, with
    `reference` for the objects that exist already. Both files appear, or none. Equal changes give
    equal bytes.

    Raises:
        OutputError: A file cannot be written.
    """
    targets = [out] if josm is None else [out, josm]
    with atomic_files(targets, *GEOPACKAGE_ERRORS) as parts:
        for name, table in changes.tables.items():
            _write_layer(parts[0], name, table, changes)
        finish_geopackage(parts[0])
        if josm is not None:
            with writing(josm):
                parts[1].write_bytes(josm_document(changes, reference))


def _write_layer(path: Path, name: str, table: GeoDataFrame, changes: Changes) -> None:
    threshold = changes.thresholds.get(name)
    facts: dict[str, Any] = {
        "geopipe": __version__,
        "footprint": shapely.to_wkt(changes.footprint, rounding_precision=-1),
        "notes": json.dumps(changes.notes),
    }
    if threshold is not None:
        facts["threshold"] = repr(threshold.probability)
    kind = "Polygon" if name == "buildings" else "LineString"
    write_layer(table, path, name, geometry_type=kind, layer_metadata=facts)
    other = ONLY_REFERENCE if changes.only_reference == ONLY_OSM else ONLY_OSM
    colors = {k: v for k, v in COLORS.items() if k != other}
    if name == "roads":
        colors = {k: v for k, v in colors.items() if k not in (SPLIT, MERGED, RESHAPED)}
    style = category_qml("status", colors, "object" if name == "buildings" else "line")
    add_layer_style(path, name, "changes", style, f"{name}: the map against the reference")
