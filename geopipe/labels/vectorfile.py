"""Vector files with attribute tables: GeoPackage, GeoJSON, Shapefile, GeoParquet and others."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import CRS

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.grid.crs import nowhere
from geopipe.labels.cells import pairs
from geopipe.labels.columns import ClassIds, Columns, no_class
from geopipe.labels.extent import Bounds, Extent
from geopipe.labels.features import FeatureCollector, Features, class_of
from geopipe.labels.layers import Layer, layers_of
from geopipe.labels.tags import clean, matching
from geopipe.raster.credit import joined_credits

OSM_CREDIT = "(c) OpenStreetMap contributors, ODbL 1.0"

_OSM_COLUMNS = (
    *({c} for c in ("osm_id", "osm_type", "osm_way_id", "osmid", "@id", "@osmid")),
    *({c} for c in ("other_tags", "all_tags")),
    {"element", "id"},
    {"element_type", "id"},
    {"type", "id", "tags"},
)
"""Columns that only tables of OSM have: GDAL's, QuickOSM's, ohsome's, osmnx's, osm2geojson's."""

_DATES = ("timestamp", "@timestamp", "osm_timestamp", "last_edit", "lastedit", "last_edited")
_IDS = ("source_id", "osm_id", "@id", "osmid", "id")

_OSM_ID = re.compile(r"^(node|way|relation)/\d+$")


def read_vector_file(
    path: Path,
    scheme: ClassScheme,
    extent: Extent,
    layer: str | None = None,
    all_are: str | None = None,
) -> tuple[list[Features], str]:
    """The features near the scene that `scheme` wants, layer by layer, and the credit they ask for.

    `all_are` is the class of every feature, whatever the file says. Without it a column ``class``
    with class names of the scheme decides alone; else columns named like the keys of the rules do,
    and ``other_tags``. Layers without either are passed over. Raises LabelError when the file
    cannot be read, no layer is usable or a usable one has no CRS.
    """
    layers = list(layers_of(path, layer))
    features_by_layer: list[Features] = []
    credits_: list[str] = []
    passed_over: Counter[str] = Counter()
    for layer_info in layers:
        plan = Columns.of(layer_info, scheme, all_are)
        if not plan.usable:
            count = len(layer_info.rows([], _near(layer_info, extent)))
            passed_over[f"of {layer_info} which does not say a class"] += count
            continue
        crs = _known_crs(layer_info)
        bounds = _near(layer_info, extent)
        frame = layer_info.rows(plan.names, bounds)
        class_ids = plan.class_ids(frame, scheme)
        if class_ids is None and plan.only_class(scheme) and len(frame):
            passed_over.update(_unknown_class(name) for name in frame[plan.class_])
            continue
        features = _collect(frame, plan, FeatureCollector(scheme, crs, bounds), class_ids)
        if layer_info.bounds is not None and (features.bounds is not None or not len(frame)):
            # Only what is near was read; if none of it is on the scene, say where the file lies.
            features = replace(features, bounds=layer_info.bounds)
        features_by_layer.append(features)
        is_osm = _is_osm(
            layer_info, frame, plan, has_osm_name=plan.class_ is None or class_ids is None
        )
        credits_.append(layer_info.credit or (OSM_CREDIT if is_osm else ""))
    if not any(f.bounds is not None or f.skipped for f in features_by_layer):
        if any(len(layer_info.rows([], None, most=1)) for layer_info in layers):
            raise no_class(path, layers, scheme)
        raise LabelError(f"{path} holds no feature", "give a file that has some")
    if features_by_layer:
        first, *others = features_by_layer
        features_by_layer = [replace(first, skipped=first.skipped + passed_over), *others]
    return features_by_layer, joined_credits(credits_)


@dataclass(frozen=True)
class Table:
    """A layer with all its columns, and the class of each row."""

    name: str
    frame: gpd.GeoDataFrame
    """Its column ``source_id`` tells the features of the file apart."""
    class_ids: tuple[int | None, ...]
    credit: str = ""
    """Whom to name in what is made from it."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many features of a class were left out, by reason."""

    @property
    def crs(self) -> CRS:
        """Of the geometries."""
        return CRS.from_user_input(self.frame.crs)

    @property
    def dates(self) -> list[str | None] | None:
        """When each feature was last edited, ISO; None when no column tells."""
        by_name = {str(c).casefold(): c for c in self.frame.columns}
        date_columns = [by_name[n] for n in _DATES if n in by_name]
        if not date_columns:
            return None
        timestamps = pd.to_datetime(
            self.frame[date_columns[0]], errors="coerce", utc=True, format="ISO8601"
        )
        return [None if pd.isna(t) else t.date().isoformat() for t in timestamps]


def read_tables(
    path: Path,
    scheme: ClassScheme,
    extent: Extent,
    layer: str | None = None,
    all_are: str | None = None,
) -> list[Table]:
    """The usable layers of a vector file near the scene, with every column; errors as above."""
    tables: list[Table] = []
    layers = list(layers_of(path, layer))
    for layer_info in layers:
        plan = Columns.of(layer_info, scheme, all_are)
        if not plan.usable:
            continue
        crs = _known_crs(layer_info)
        skipped: Counter[str] = Counter()
        frame = layer_info.rows(layer_info.columns, _near(layer_info, extent), fid=True)
        assigned_ids = plan.class_ids(frame, scheme)
        if assigned_ids is None:
            collector = FeatureCollector(scheme, crs, None)
            ids = []
            for shape, tags in zip(frame.geometry, plan.tags_of(frame), strict=True):
                matches = list(matching(scheme, tags))
                ids.append(class_of(shape, matches))
                if matches and ids[-1] is None:
                    collector.add_matches(shape, matches, tags)  # counts why
            skipped = collector.skipped
        else:
            ids = [g if isinstance(g, int) else None for g in assigned_ids]
        id_column = next((c for c in _IDS if c in frame), None)
        source = [str(i) for i in frame.index]
        if id_column:
            feature_ids = (clean(x) for x in frame[id_column])
            source = [s if n is None else n for s, n in zip(source, feature_ids, strict=True)]
        frame = _as_text(frame.reset_index(drop=True)).assign(source_id=source)
        has_osm_name = plan.class_ is None or assigned_ids is None
        osm = _is_osm(layer_info, frame, plan, has_osm_name=has_osm_name)
        credit = layer_info.credit or (OSM_CREDIT if osm else "")
        tables.append(Table(layer_info.name or path.stem, frame, tuple(ids), credit, skipped))
    if not tables:
        raise no_class(path, layers, scheme)
    return tables


def _collect(
    frame: gpd.GeoDataFrame,
    plan: Columns,
    collector: FeatureCollector,
    class_ids: ClassIds | None,
) -> Features:
    """The wanted rows of `frame`, by their class where it is given, else by their tags."""
    assigned_ids = class_ids or [None] * len(frame)
    for shape, tags, class_id in zip(
        frame.geometry, plan.tags_of(frame), assigned_ids, strict=True
    ):
        if class_ids is None:
            collector.add(shape, tags)
        elif isinstance(class_id, int):
            collector.add_class(shape, class_id, tags)
        else:
            collector.skipped[_unknown_class(class_id)] += 1
    return collector.finish()


_UNKNOWN = " that the scheme does not have"


def _unknown_class(name: object) -> str:
    return f"class '{clean(name) or ''}'{_UNKNOWN}"


def unknown_classes(reasons: Iterable[tuple[str, int]]) -> str:
    """Of what was left out, the classes that the scheme does not have, in words; "" if none."""
    return ", ".join(
        f"{n} x {r.removesuffix(_UNKNOWN)}" for r, n in reasons if r.endswith(_UNKNOWN)
    )


def _as_text(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """`frame` with cells of several values as text, which every format can hold: tags as JSON."""
    several = (list, tuple, set, dict, np.ndarray)
    for name in frame.columns:
        if frame[name].dtype.kind == "O" and any(isinstance(cell, several) for cell in frame[name]):
            frame[name] = [_text_of(cell) for cell in frame[name]]
    return frame


def _text_of(cell: object) -> str | None:
    tags = {} if isinstance(cell, str) else dict(pairs(cell))
    return json.dumps(tags, ensure_ascii=False) if tags else clean(cell)


def _is_osm(layer: Layer, frame: gpd.GeoDataFrame, plan: Columns, *, has_osm_name: bool) -> bool:
    """Whether columns, ids, metadata or (`has_osm_name`) the file name point to OpenStreetMap."""
    columns = {c.casefold() for c in layer.columns}
    if any(own <= columns for own in _OSM_COLUMNS):
        return True
    if "openstreetmap" in layer.about.casefold():
        return True
    if plan.id and any(_OSM_ID.match(str(v)) for v in frame[plan.id].head(10)):
        return True
    return has_osm_name and "osm" in re.split(r"[^a-z]+", layer.path.name.casefold())


def _known_crs(layer: Layer) -> CRS:
    """The CRS of `layer`; LabelError where it does not say where on Earth that lies."""
    if layer.crs is None:
        raise LabelError(
            f"{layer} has no CRS",
            "set it, e.g. ogr2ogr -a_srs EPSG:2154 out.gpkg FILE, or add the .prj file",
        )
    if wrong := nowhere(layer.crs, str(layer), "ogr2ogr -a_srs {code} out.gpkg FILE"):
        raise LabelError(*wrong)
    return layer.crs


def _near(layer: Layer, place: Extent) -> Bounds | None:
    """Bounds around the scene in the layer's CRS; None where the layer counts longitudes on."""
    if layer.crs is None:
        return None
    beyond = layer.bounds is not None and (layer.bounds[0] < -180 or layer.bounds[2] > 180)
    return None if beyond and layer.crs.is_geographic else place.bounds_in(layer.crs)
