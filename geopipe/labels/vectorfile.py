"""Vector files with attribute tables: GeoPackage, GeoJSON, Shapefile, GeoParquet and others."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.errors import ShapelyError

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.grid.crs import nowhere
from geopipe.labels.extent import Bounds, Extent
from geopipe.labels.features import FeatureCollector, Features, class_of
from geopipe.labels.openvector import list_layers, read_dataframe, read_info
from geopipe.labels.parquet import SUFFIXES, ParquetTable
from geopipe.labels.tags import all_keys, clean, matching, naming_keys, parse_tags
from geopipe.raster.credit import joined_credits

OSM_CREDIT = "(c) OpenStreetMap contributors, ODbL 1.0"

_TAG_COLUMNS = ("other_tags", "all_tags", "tags")
"""Columns that hold many tags in one cell (GDAL's OSM driver, osm2geojson, Overture)."""
_OSM_COLUMNS = {"osm_id", "osm_type", "osm_way_id", "osmid", "@id", "other_tags", "all_tags"}

_DATES = ("timestamp", "@timestamp", "osm_timestamp", "last_edit", "lastedit", "last_edited")
_IDS = ("source_id", "osm_id", "@id", "osmid", "id")

_OSM_ID = re.compile(r"^(node|way|relation)/\d+$")


@dataclass(frozen=True)
class Layer:
    """One table of a file as it describes itself."""

    path: Path
    name: str | None
    """None for a GeoParquet file, which has no layers."""
    columns: tuple[str, ...]
    crs: CRS | None
    bounds: Bounds | None
    about: str
    """Everything the file says about itself, for the credit."""
    table: ParquetTable | None = None
    """Of a GeoParquet file."""
    credit: str = ""
    """What its metadata ``CREDIT`` says."""


def read_vector_file(
    path: Path, scheme: ClassScheme, extent: Extent, layer: str | None = None
) -> tuple[list[Features], str]:
    """The features near the scene that `scheme` wants, layer by layer, and the credit they ask for.

    A column ``class`` with class names of the scheme decides alone; else columns named like the
    keys of the rules do, and ``other_tags``. Layers without either are passed over. Raises
    LabelError when the file cannot be read, no layer is usable or a usable one has no CRS.
    """
    layers = list(_layers(path, layer))
    features_by_layer: list[Features] = []
    unusable: list[str] = []
    credits_: list[str] = []
    for layer_info in layers:
        plan = _Columns.of(layer_info, scheme)
        if not plan.usable:
            continue
        if layer_info.crs is None:
            raise LabelError(
                f"{path}{_layer_text(layer_info)} has no CRS",
                "set it, e.g. ogr2ogr -a_srs EPSG:2154 out.gpkg FILE, or add the .prj file",
            )
        where = f"{path}{_layer_text(layer_info)}"
        if wrong := nowhere(layer_info.crs, where, "ogr2ogr -a_srs {code} out.gpkg FILE"):
            raise LabelError(*wrong)
        bounds = _near(layer_info, extent)
        frame = _frame(layer_info, plan.names, bounds)
        class_ids = _class_ids(frame, plan, scheme)
        if class_ids is None and plan.only_class(scheme) and len(frame):
            unusable += _class_names(frame, plan)
            continue
        features = _collect(
            frame, plan, FeatureCollector(scheme, layer_info.crs, bounds), class_ids
        )
        if not len(frame) and layer_info.bounds is not None:
            # Nothing was read because all of it is elsewhere; say where.
            features = replace(features, bounds=layer_info.bounds)
        features_by_layer.append(features)
        is_osm = _is_osm(layer_info, frame, plan, has_osm_name=class_ids is None)
        credits_.append(layer_info.credit or (OSM_CREDIT if is_osm else ""))
    if not features_by_layer:
        raise _unusable(path, layers, scheme, unusable)
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
    path: Path, scheme: ClassScheme, extent: Extent, layer: str | None = None
) -> list[Table]:
    """The usable layers of a vector file near the scene, with every column; errors as above."""
    tables: list[Table] = []
    layers = list(_layers(path, layer))
    for layer_info in layers:
        plan = _Columns.of(layer_info, scheme)
        if not plan.usable or layer_info.crs is None:
            continue
        frame = _frame(layer_info, list(layer_info.columns), _near(layer_info, extent), fid=True)
        assigned_ids = _class_ids(frame, plan, scheme)
        if assigned_ids is None:
            rows = zip(frame.geometry, _tags(frame, plan), strict=True)
            ids = [class_of(shape, matching(scheme, tags)) for shape, tags in rows]
        else:
            ids = [g if isinstance(g, int) else None for g in assigned_ids]
        id_column = next((c for c in _IDS if c in frame), None)
        source = [str(i) for i in frame.index]
        if id_column:
            feature_ids = (clean(x) for x in frame[id_column])
            source = [s if n is None else n for s, n in zip(source, feature_ids, strict=True)]
        frame = _as_text(frame.reset_index(drop=True)).assign(source_id=source)
        osm = _is_osm(layer_info, frame, plan, has_osm_name=assigned_ids is None)
        credit = layer_info.credit or (OSM_CREDIT if osm else "")
        tables.append(Table(layer_info.name or path.stem, frame, tuple(ids), credit))
    if not tables:
        raise _unusable(path, layers, scheme)
    return tables


def _layers(path: Path, requested: str | None) -> Iterator[Layer]:
    if path.suffix.lower() in SUFFIXES:
        table = ParquetTable.open(path)
        yield Layer(path, None, table.columns, table.crs, None, table.about, table)
        return
    try:
        names = [n for n, geometry in list_layers(path) if geometry is not None]
        if requested is not None and requested not in names:
            raise LabelError(f"{path} has no layer '{requested}'", "layers: " + ", ".join(names))
        for name in [requested] if requested is not None else names:
            info = read_info(path, layer=name, force_total_bounds=True)
            about = f"{info.get('dataset_metadata')} {info.get('layer_metadata')}"
            crs = CRS.from_user_input(info["crs"]) if info["crs"] else None
            columns = tuple(str(f) for f in info["fields"])
            bounds = info["total_bounds"]
            has_bounds = bounds is not None and all(map(math.isfinite, bounds))
            yield Layer(
                path,
                name,
                columns,
                crs,
                bounds if has_bounds else None,
                about,
                credit=_credit(info.get("layer_metadata")),
            )
    except (DataSourceError, DataLayerError, CRSError) as e:
        raise _unreadable(path, e) from e


@dataclass(frozen=True)
class _Columns:
    """Which columns of a layer say what."""

    tags: dict[str, str]
    """Key of a rule -> column."""
    tag_columns: tuple[str, ...]
    class_: str | None
    id: str | None
    """May hold ids such as ``way/123``, which only OSM has."""
    usable: bool

    @classmethod
    def of(cls, layer: Layer, scheme: ClassScheme) -> "_Columns":
        by_name = {c.casefold(): c for c in reversed(layer.columns)}
        short = layer.path.suffix.lower() in (".shp", ".dbf", ".zip")  # names cut to 10 letters
        tags = {}
        for key in all_keys(scheme):
            variants = [key, key.replace(":", "_")]
            variants += [s[:10] for s in variants] if short else []
            existing = [by_name[s.casefold()] for s in variants if s.casefold() in by_name]
            if existing:
                tags[key] = existing[0]
        tag_columns = tuple(by_name[b] for b in _TAG_COLUMNS if b in by_name)
        class_ = by_name.get("class")
        usable = bool(tag_columns or class_ or set(tags) & set(naming_keys(scheme)))
        return cls(tags, tag_columns, class_, by_name.get("id"), usable)

    def only_class(self, scheme: ClassScheme) -> bool:
        """Whether there is nothing but ``class`` to go by."""
        return not self.tag_columns and not set(self.tags) & set(naming_keys(scheme))

    @property
    def names(self) -> list[str]:
        """The columns to read, once each."""
        single = [c for c in (self.class_, self.id) if c]
        return list(dict.fromkeys([*self.tags.values(), *self.tag_columns, *single]))


def _class_ids(
    frame: gpd.GeoDataFrame, plan: _Columns, scheme: ClassScheme
) -> list[int | str | None] | None:
    """What column ``class`` says of each row: an id, or a name that is none; None if no name is."""
    if plan.class_ is None:
        return None
    ids = {name.casefold(): i for i, name in enumerate(scheme.names)}
    names = [clean(v) for v in frame[plan.class_]]
    assigned_ids = [None if n is None else ids.get(n.casefold(), n) for n in names]
    return assigned_ids if any(isinstance(g, int) for g in assigned_ids) else None


def _class_names(frame: gpd.GeoDataFrame, plan: _Columns) -> list[str]:
    """The values of column ``class``, once each."""
    return sorted({n for v in frame[plan.class_] if (n := clean(v)) is not None})


def _collect(
    frame: gpd.GeoDataFrame,
    plan: _Columns,
    collector: FeatureCollector,
    class_ids: list[int | str | None] | None,
) -> Features:
    """The wanted rows of `frame`, by their class where it is given, else by their tags."""
    assigned_ids = class_ids or [None] * len(frame)
    for shape, tags, class_id in zip(frame.geometry, _tags(frame, plan), assigned_ids, strict=True):
        if class_ids is None:
            collector.add(shape, tags)
        elif isinstance(class_id, int):
            collector.add_class(shape, class_id, tags)
        else:
            collector.skipped[f"class '{class_id or ''}' that the scheme does not have"] += 1
    return collector.finish()


def _frame(
    layer: Layer, columns: list[str], bounds: Bounds | None, *, fid: bool = False
) -> gpd.GeoDataFrame:
    """The rows near the scene; `fid`: their index is the id the file gives them."""
    try:
        if layer.table is not None:
            return layer.table.read(columns)
        return read_dataframe(
            layer.path,
            layer=layer.name,
            columns=columns,
            bbox=bounds,
            force_2d=True,
            fid_as_index=fid,
        )
    except (RuntimeError, ValueError, ShapelyError) as e:  # pyogrio's errors are RuntimeErrors
        raise _unreadable(layer.path, e) from e


def _as_text(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """`frame` with cells of several values as text, which every format can hold."""
    several = (list, tuple, set, dict, np.ndarray)
    for name in frame.columns:
        if frame[name].dtype.kind == "O" and any(isinstance(cell, several) for cell in frame[name]):
            frame[name] = [clean(cell) for cell in frame[name]]
    return frame


def _tags(frame: gpd.GeoDataFrame, plan: _Columns) -> Iterator[dict[str, str]]:
    """The tags of each row; a column of its own wins over a bundle."""
    own = {key: [clean(v) for v in frame[column]] for key, column in plan.tags.items()}
    tag_columns = [frame[b].tolist() for b in plan.tag_columns]
    for i in range(len(frame)):
        tags: dict[str, str] = {}
        for bundle in tag_columns:
            tags.update(parse_tags(bundle[i]))
        tags.update(
            {key: v for key, column_values in own.items() if (v := column_values[i]) is not None}
        )
        yield tags


def _is_osm(layer: Layer, frame: gpd.GeoDataFrame, plan: _Columns, *, has_osm_name: bool) -> bool:
    """Whether columns, ids, metadata or (`has_osm_name`) the file name point to OpenStreetMap."""
    if {c.casefold() for c in layer.columns} & _OSM_COLUMNS:
        return True
    if "openstreetmap" in layer.about.casefold():
        return True
    if plan.id and any(_OSM_ID.match(str(v)) for v in frame[plan.id].head(10)):
        return True
    return has_osm_name and "osm" in re.split(r"[^a-z]+", layer.path.name.casefold())


def _near(layer: Layer, place: Extent) -> Bounds | None:
    """Bounds around the scene in the layer's CRS; None where the layer counts longitudes on."""
    assert layer.crs is not None
    beyond = layer.bounds is not None and (layer.bounds[0] < -180 or layer.bounds[2] > 180)
    return None if beyond and layer.crs.is_geographic else place.bounds_in(layer.crs)


def _credit(metadata: Mapping[str, str] | None) -> str:
    """The credit that geopipe wrote into a layer; upper and lower case of the key are one."""
    for key, value in (metadata or {}).items():
        if key.casefold() == "credit":
            return str(value)
    return ""


def _layer_text(layer: Layer) -> str:
    return f", layer '{layer.name}'," if layer.name else ""


def _unreadable(path: Path, error: Exception) -> LabelError:
    return LabelError(
        f"cannot read {path}: {' '.join(str(error).split())}",
        "give GeoTIFF, GeoPackage, GeoJSON, GeoParquet, Shapefile or an OSM file that is whole",
    )


def _unusable(
    path: Path, layers: Sequence[Layer], scheme: ClassScheme, unusable: Sequence[str] = ()
) -> LabelError:
    """`unusable`: what stands in columns ``class`` and is no class of the scheme."""
    columns = list(dict.fromkeys(c for layer in layers for c in layer.columns))
    problem = (
        f"its column 'class' holds {_short_list(unusable)}"
        if unusable
        else (f"it has the columns {_short_list(columns) or '(none)'}")
    )
    names = f"a column 'class' with {', '.join(scheme.names)}"
    keys = naming_keys(scheme)
    return LabelError(
        f"{path} does not say which class a feature is: {problem}",
        f"wanted: one of {', '.join(keys)}, other_tags, or {names}"
        if keys
        else f"wanted: {names}, or a class scheme with rules for tags, such as buildings-roads",
    )


def _short_list(names: Sequence[str]) -> str:
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
