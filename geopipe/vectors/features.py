"""One file with all that a map shows: ``features.gpkg``, and the same as GeoParquet."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from geopandas import GeoDataFrame
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geopipe import __version__
from geopipe.allocator import trim_malloc
from geopipe.classes import ClassScheme
from geopipe.errors import SceneError
from geopipe.files import atomic_files
from geopipe.raster.credit import credit_of
from geopipe.raster.geopackage import GEOPACKAGE_ERRORS, finish_geopackage, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.polygons import polygon_tables
from geopipe.raster.scene import opened
from geopipe.raster.style import LayerKind, category_qml
from geopipe.vectors.footprints import BUILDING, FootprintOptions, footprint_tables
from geopipe.vectors.road_layer import road_table
from geopipe.vectors.roads import ROAD, find_roads

GEOPACKAGE = "features.gpkg"
PARQUET = "features.parquet"
BUILDINGS = "buildings"
ROADS = "roads"
_KINDS: dict[str, LayerKind] = {BUILDINGS: "object", ROADS: "line"}
_SCHEMA = pa.schema(
    [
        ("layer", pa.string()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("area_m2", pa.float64()),
        ("building_id", pa.int32()),
        ("road_id", pa.int32()),
        ("width_m", pa.float64()),
        ("length_m", pa.float64()),
        ("bridged_m", pa.float64()),
        ("mean_score", pa.float64()),
        ("score_q10", pa.float64()),
        ("shape_score", pa.float64()),
        ("source", pa.string()),
        ("model_sha256", pa.string()),
        ("geometry", pa.binary()),
    ]
)


@dataclass(frozen=True)
class FeatureFiles:
    """What was written."""

    files: dict[str, Path]
    """Key of an asset -> file."""
    counts: dict[str, int]
    """Name of a layer -> features."""
    road_km: float = 0.0
    """Length of the roads."""
    notes: tuple[str, ...] = ()
    """What a reader should know: there is no building, its probability is unknown..."""

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The counts as rows of a report."""
        return tuple(
            (f"features of {name}", f"{n}, {self.road_km:.2f} km" if name == ROADS else str(n))
            for name, n in self.counts.items()
        )

    def amounts(self) -> tuple[tuple[str, str], ...]:
        """(layer, number) to be read as a list: 12 buildings; 1.50 km of roads."""
        return tuple(
            (f"of {name}", f"{self.road_km:.2f} km") if name == ROADS else (name, str(n))
            for name, n in self.counts.items()
        )


def write_features(
    class_map: Path,
    folder: Path,
    scheme: ClassScheme,
    *,
    name: str,
    orthogonalize: bool = True,
    options: FootprintOptions | None = None,
    cores: Path | None = None,
) -> FeatureFiles:
    """Write ``features.gpkg`` and ``features.parquet`` of `class_map` into `folder`.

    A layer per class but the first, the background: ``buildings`` holds the footprints
    (`footprint_tables`), ``roads`` the centre-lines (`find_roads`), and those named after the other
    classes hold polygons (`polygon_tables`). Each has the colour of its class as its style in QGIS,
    and `name` and class as its title. The GeoParquet file has the same rows in one table, with the
    column ``layer``. Equal maps give equal bytes.

    Args:
        class_map: The map; ``scores.tif`` or ``confidence.tif`` beside it give probabilities.
        folder: Where to write.
        scheme: The classes of the map.
        name: Of the scene.
        orthogonalize: Give footprints right angles where the map has them.
        options: What counts as a building; the default with `orthogonalize`.
        cores: As `footprint_tables` takes them.

    Raises:
        SceneError: The map cannot be read or has no CRS.
        OutputError: A file cannot be written; then neither is there.
    """
    options = options or FootprintOptions(orthogonalize=orthogonalize)
    layers = layer_names(scheme, options.class_name)
    counts = dict.fromkeys(layers.values(), 0)
    notes: list[str] = []
    metres = 0.0
    paths = [folder / GEOPACKAGE, folder / PARQUET]
    with opened(class_map) as src, atomic_files(paths, *GEOPACKAGE_ERRORS) as parts:
        geopackage, parquet = parts
        if src.crs is None:
            raise SceneError(f"{class_map} has no CRS, so its features have no place")
        geobox = GeoBox(src.shape, src.transform, src.crs)
        footprint = shapely.to_wkt(geobox.extent.geom, rounding_precision=-1)
        crs = CRS.from_wkt(src.crs.to_wkt())
        about = {"footprint": footprint, "geopipe": __version__, **credit_of(src)}
        with pq.ParquetWriter(parquet, _SCHEMA.with_metadata(_geo(crs))) as writer:
            for class_id, table in _tables(class_map, scheme, layers, options, cores, notes):
                layer = layers[class_id]
                _append(
                    table,
                    geopackage,
                    layer,
                    f"{name}: {scheme.names[class_id]}",
                    about,
                )
                if len(table):
                    writer.write_table(_arrow(table, layer))
                counts[layer] += len(table)
                if "length_m" in table:
                    metres += float(table["length_m"].sum())
                del table  # before the next is made
        _add_styles(geopackage, layers, scheme, name)
        finish_geopackage(geopackage)
    return FeatureFiles(
        dict(zip(("features", "features_parquet"), paths, strict=True)),
        counts,
        metres / 1000,
        tuple(notes),
    )


def _add_styles(geopackage: Path, layers: dict[int, str], scheme: ClassScheme, name: str) -> None:
    """The colour of its class for each layer; `name`: of the scene."""
    for class_id, layer in layers.items():
        of = scheme.classes[class_id]
        style = category_qml("class", {of.name: of.color}, _KINDS.get(layer, "fill"))
        add_layer_style(geopackage, layer, of.name, style, f"class {of.name} of {name}")


def layer_names(scheme: ClassScheme, building: str = BUILDING) -> dict[int, str]:
    """Class id -> name of its layer.

    ``buildings`` and ``roads`` hold footprints and centre-lines only: a class of such a name gets
    a ``_``, and so does the later one of equal names (letter case aside).
    """
    own = {building: BUILDINGS, ROAD: ROADS}
    names: dict[int, str] = {}
    taken = {"layer_styles", *own.values()}
    for class_id, class_name in enumerate(scheme.names):
        if class_id == 0:
            continue
        layer = own.get(class_name, class_name)
        while class_name not in own and (
            layer.casefold() in taken or layer.casefold().startswith(("gpkg_", "sqlite_"))
        ):
            layer = f"_{layer}"
        taken.add(layer.casefold())
        names[class_id] = layer
    return names


def _tables(
    class_map: Path,
    scheme: ClassScheme,
    layers: dict[int, str],
    options: FootprintOptions,
    cores: Path | None,
    notes: list[str],
) -> Iterator[tuple[int, GeoDataFrame]]:
    """(class id, rows) in the order of the file; each class comes up at least once."""
    others = dict.fromkeys(layers)
    empty: GeoDataFrame | None = None
    if options.class_name in scheme.names:
        building = scheme.id_of(options.class_name)
        others.pop(building, None)
        any_row, scored = False, False
        for table in footprint_tables(class_map, options=options, cores=cores, scheme=scheme):
            any_row |= len(table) > 0
            scored |= bool(table["mean_score"].notna().any())
            yield building, table
        if not any_row:
            notes.append(f"no area of class '{options.class_name}' has {options.min_area:g} m2")
        elif not scored:
            notes.append("the probability of the footprints is unknown: the map has no scores")
        trim_malloc()  # roads take as much again
    else:
        notes.append(
            f"no class is named '{options.class_name}', so there are no footprints: "
            + ", ".join(scheme.names)
        )
    if ROAD in scheme.names and scheme.id_of(ROAD) in others:
        road = scheme.id_of(ROAD)
        others.pop(road)
        lines = road_table(find_roads(class_map, scheme=scheme))
        lines.insert(1, "class_id", np.full(len(lines), road, np.int32))
        if not len(lines):
            notes.append(f"no area of class '{ROAD}' has a centre-line")
        yield road, lines
    seen: set[int] = set()
    with opened(class_map) as src:
        if not others:
            return
        for table in polygon_tables(src, scheme, others):
            empty = table.iloc[:0]
            for class_id in others:
                rows = table[table["class_id"] == class_id]
                if len(rows):
                    seen.add(class_id)
                    yield class_id, rows
    for class_id in others:
        if class_id not in seen and empty is not None:
            yield class_id, empty


def _append(
    table: GeoDataFrame, path: Path, layer: str, title: str, metadata: dict[str, str]
) -> None:
    """Add `table` to the layer, which is made where it is not there yet."""
    exists = path.exists() and layer in {str(n) for n, _ in pyogrio.list_layers(path)}
    new = {} if exists else {"layer_metadata": metadata, "layer_options": {"IDENTIFIER": title}}
    kind = "LineString" if layer == ROADS else "Polygon"
    write_layer(table, path, layer, geometry_type=kind, append=exists, **new)


def _arrow(table: GeoDataFrame, layer: str) -> pa.Table:
    """`table` in the columns of the GeoParquet file; those it has not are null."""
    columns = []
    for field in _SCHEMA:
        if field.name == "layer":
            values = pa.array([layer] * len(table), field.type)
        elif field.name == "geometry":
            values = pa.array(shapely.to_wkb(np.asarray(table.geometry.array)), field.type)
        elif field.name in table:
            values = pa.array(table[field.name], field.type, from_pandas=True)
        else:
            values = pa.nulls(len(table), field.type)
        columns.append(values)
    return pa.table(columns, schema=_SCHEMA.with_metadata(_geo(CRS.from_user_input(table.crs))))


def _geo(crs: CRS) -> dict[str, str]:
    """The metadata that make a Parquet file GeoParquet 1.0."""
    kinds = ["LineString", "Polygon"]
    column = {"encoding": "WKB", "geometry_types": kinds, "crs": crs.to_json_dict()}
    about = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return {"geo": json.dumps(about)}
