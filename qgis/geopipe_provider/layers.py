"""Layers of the project as files that geopipe can read."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsMapLayer, QgsProviderRegistry, QgsVectorLayer

from .commands import Source
from .results import geopackage_tables

_WITHOUT_TABLES = (".osm", ".pbf", ".bz2", ".parquet")
"""Files whose layers GDAL makes up; geopipe reads them whole."""
_FILE_PROVIDERS = ("gdal", "ogr")
_SERVICE_PROVIDERS = ("wms", "wcs", "arcgismapserver")
"""Services of images; QGIS reads WMTS and XYZ tiles by "wms" as well."""


class LayerError(Exception):
    """A layer that geopipe cannot read as the analyst sees it; the message says what to do."""


def layer_source(layer: QgsMapLayer) -> Source:
    """The file of `layer`, and its table.

    Raises:
        LayerError: It isn't a file, has no CRS, or QGIS shows something else than its file has.
    """
    name = f"The layer '{layer.name()}'"
    if not layer.isValid():
        raise LayerError(f"{name} cannot be opened: repair its data source.")
    provider = layer.dataProvider().name()
    is_vector = isinstance(layer, QgsVectorLayer)
    if provider == "memory":
        raise LayerError(
            f"{name} exists in memory only: make it permanent (Export > Save Features As)."
        )
    if provider in _SERVICE_PROVIDERS:
        raise LayerError(
            f"{name} comes from a web service, geopipe reads files: download the part that you "
            "need with one of the algorithms in the group Scenes."
        )
    if provider not in _FILE_PROVIDERS:
        kind = "GeoPackage" if is_vector else "GeoTIFF"
        raise LayerError(
            f"{name} comes from the provider '{provider}', geopipe reads files: export it as a "
            f"{kind} first."
        )
    if is_vector and layer.isEditable() and layer.isModified():
        raise LayerError(f"{name} has unsaved edits, which geopipe would not see: save them first.")
    if is_vector and layer.subsetString():
        raise LayerError(
            f"{name} has a filter, but geopipe reads all features: remove the filter, or export "
            "what it shows."
        )
    _check_crs(layer, name)
    parts = QgsProviderRegistry.instance().decodeUri(provider, layer.source())
    path = parts.get("path") or layer.source()
    table = str(parts.get("layerName") or "") if is_vector else ""
    if Path(path).suffix.lower() in _WITHOUT_TABLES:
        table = ""
    return Source(path, table)


def _check_crs(layer: QgsMapLayer, name: str) -> None:
    # GDAL calls what a GeoPackage leaves open a local CRS.
    is_local = layer.crs().toWkt().startswith(("LOCAL_CS", "ENGCRS"))
    if not layer.crs().isValid() or is_local:
        raise LayerError(f"{name} has no CRS: give its file one (Assign Projection).")
    own = layer.dataProvider().crs()
    if own != layer.crs():
        declared = own.authid() or "none"
        raise LayerError(
            f"{name} was set to {layer.crs().authid()} in this project, but its file says "
            f"{declared}, which geopipe would use: give the file the right CRS (Assign Projection)."
        )


def other_tables(source: Source) -> list[str]:
    """Tables of the same file that are not the layer's."""
    return [t for t in geopackage_tables(Path(source.path)) if source.table and t != source.table]
