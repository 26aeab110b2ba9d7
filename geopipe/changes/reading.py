"""Read the two sides of a comparison: a map, and what it is compared with."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyarrow import ArrowException
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from geopipe.changes.objects import ObjectSet, Plane, Side, joined, to_plane, valid_parts
from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.grid.crs import nowhere
from geopipe.labels.extent import LONLAT, Extent, in_lonlat, reproject
from geopipe.labels.features import kind_of
from geopipe.labels.openvector import list_layers, read_dataframe, read_info
from geopipe.labels.osmfile import is_osm_file, read_osm_file
from geopipe.labels.source import is_raster
from geopipe.labels.tables import Table, open_tables
from geopipe.labels.vectorfile import OSM_CREDIT
from geopipe.raster.cog import read_scheme
from geopipe.raster.scene import opened
from geopipe.vectors.class_map import scores_beside
from geopipe.vectors.footprints import BUILDING, find_footprints
from geopipe.vectors.road_layer import road_table
from geopipe.vectors.roads import ROAD, find_roads

_PARQUET = (".parquet", ".geoparquet", ".pq")


def read_map(path: Path) -> tuple[Side, CRS, Any]:
    """The buildings and roads of a class map, or of a file of vectors as ``geopipe map`` writes.

    Returns the objects in the CRS of the file, that CRS, and the outline of the map (or else the
    box around all objects; None without any).

    Raises:
        LabelError: There is no file, it has no class ``building`` or ``road``, or cannot be read.
        SceneError: The map cannot be read or has no CRS.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    if path.is_dir():
        raise LabelError(f"{path} is a folder", "give classes.tif or features.gpkg in it")
    return _of_raster(path) if is_raster(path) else _of_vectors(path)


def _of_raster(path: Path) -> tuple[Side, CRS, Any]:
    scheme = read_scheme(path)
    names = scheme.names if scheme else ()
    buildings = roads = None
    if BUILDING in names:
        table = find_footprints(path)
        buildings = _objects(table, "building_id", 3)
    if ROAD in names:
        roads = _objects(road_table(find_roads(path)), "road_id", 1)
    if buildings is None and roads is None:
        raise LabelError(
            f"{path} has no class '{BUILDING}' or '{ROAD}'",
            f"its classes are {', '.join(names)}" if names else "it names no classes",
        )
    with opened(path) as src:
        geobox = GeoBox(src.shape, src.transform, src.crs)
        crs, model = CRS.from_wkt(src.crs.to_wkt()), src.tags().get("model_sha256")
    side = Side(path, buildings, roads, model_sha256=model, scores=scores_beside(path))
    return side, crs, geobox.extent.geom


def _of_vectors(path: Path) -> tuple[Side, CRS, Any]:
    frames, footprint = _frames(path)
    crs = CRS.from_user_input(frames[0].crs)
    repaired: Counter[str] = Counter()
    sets: dict[str, ObjectSet] = {}
    model = None
    for name, kind, id_column in ((BUILDING, 3, "building_id"), (ROAD, 1, "road_id")):
        rows = [f[_is_class(f, name) & _is_kind(f, kind)].to_crs(crs) for f in frames]
        layers = [f for f in frames if _declares(f, name, kind)]
        if not layers:
            continue
        parts = [_objects(r, id_column, kind, repaired) for r in rows if len(r)]
        sets[name] = joined(parts)
        models = [str(m) for r in rows if "model_sha256" in r for m in r["model_sha256"].dropna()]
        model = model or (models[0] if models else None)
    if not sets:
        raise LabelError(
            f"{path} has no buildings as polygons and no roads as lines, with a column 'class'",
            "give features.gpkg of geopipe map --vectors, lines of geopipe roads, or a class map",
        )
    if footprint is None:
        boxes = [f.to_crs(crs).total_bounds for f in frames if len(f)]
        bounds = np.array(boxes) if boxes else np.empty((0, 4))
        if len(bounds):
            (left, bottom), (right, top) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
            margin = 0.02 * max(right - left, top - bottom)  # what lies on the rim is inside
            footprint = shapely.box(left - margin, bottom - margin, right + margin, top + margin)
    scores = scores_beside(path.with_name("classes.tif"))
    return (
        Side(
            path,
            sets.get(BUILDING),
            sets.get(ROAD),
            model_sha256=model,
            scores=scores,
            repaired=repaired,
        ),
        crs,
        footprint,
    )


def _frames(path: Path) -> tuple[list[gpd.GeoDataFrame], Any]:
    """The layers with a column ``class``, and the outline of the map that one of them names."""
    frames, footprint = [], None
    try:
        if path.suffix.lower() in _PARQUET:
            frames = [gpd.read_parquet(path)]
        else:
            for name, kind in list_layers(path):
                if kind is None:
                    continue
                frame = read_dataframe(path, layer=name, force_2d=True)
                frame.attrs.update(layer=name, kind=str(kind))
                frames.append(frame)
                metadata = read_info(path, layer=name).get("layer_metadata") or {}
                footprint = footprint or metadata.get("footprint")
    except (DataSourceError, DataLayerError, ArrowException, ValueError, OSError) as e:
        raise LabelError(
            f"cannot read {path}: {' '.join(str(e).split())}",
            "give a class map, GeoPackage, GeoJSON or GeoParquet that is whole",
        ) from e
    frames = [f for f in frames if "class" in f]
    if not frames:
        raise LabelError(
            f"{path} has no column 'class'",
            "give features.gpkg of geopipe map --vectors, lines of geopipe roads, or a class map",
        )
    for frame in frames:
        if frame.crs is None:
            raise LabelError(f"{path} has no CRS", "set it, e.g. ogr2ogr -a_srs EPSG:2154")
        if wrong := nowhere(CRS.from_user_input(frame.crs), str(path), "ogr2ogr -a_srs {code}"):
            raise LabelError(*wrong)
    return frames, shapely.from_wkt(footprint) if footprint else None


def _is_class(frame: gpd.GeoDataFrame, name: str) -> Any:
    return frame["class"].astype("string").str.casefold().eq(name).fillna(False).astype(bool)


def _is_kind(frame: gpd.GeoDataFrame, kind: int) -> Any:
    types = shapely.get_type_id(np.asarray(frame.geometry.array, object))
    return np.isin(types, [kind, kind + 3, -1, 7]) if kind == 3 else np.isin(types, [1, 5])


def _declares(frame: gpd.GeoDataFrame, name: str, kind: int) -> bool:
    """Whether the layer is one of such objects, even if it has none."""
    if bool((_is_class(frame, name) & _is_kind(frame, kind)).any()):
        return True
    geometry = "Polygon" if kind == 3 else "LineString"
    return frame.attrs.get("layer") == f"{name}s" and geometry in frame.attrs.get("kind", "")


def _objects(
    frame: gpd.GeoDataFrame, id_column: str, kind: int, repaired: Counter[str] | None = None
) -> ObjectSet:
    shapes = np.asarray(frame.geometry.array, object)
    ids = frame[id_column] if id_column in frame else range(1, len(frame) + 1)
    scores = frame["mean_score"] if "mean_score" in frame else np.full(len(frame), np.nan)
    texts = np.array([str(i) for i in ids], object)
    values = np.asarray(scores, float)
    clean, owner = valid_parts(shapes, kind, repaired if repaired is not None else Counter())
    return ObjectSet(clean, texts[owner], values[owner])


def read_reference(
    path: Path,
    scheme: ClassScheme,
    plane: Plane,
    layer: str | None = None,
    all_are: str | None = None,
) -> Side:
    """What the map is compared with, in the plane: OSM or other vectors, or another map.

    `all_are`: the class of every feature, of vectors that do not say it. A file without any feature
    is taken as it is: nothing is mapped there.

    Raises:
        LabelError: It cannot be read, says of no feature what it is, or lies elsewhere.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    if is_raster(path):
        side, crs, outline = read_map(path)
        there = shapely.make_valid(reproject(np.array([outline], object), crs, plane.crs)[0])
        if not there.intersects(plane.limit):
            raise _elsewhere(path, there.bounds, plane)
        return to_plane(side, crs, plane)
    extent = Extent(plane.geobox)
    if _holds_nothing(path, layer):
        nothing = joined([])
        return Side(path, nothing, nothing, is_osm=True)
    tables = open_tables(path, scheme, extent, layer, all_are)
    repaired: Counter[str] = Counter()
    sets = []
    for class_id, kind in ((1, 3), (2, 1)):
        parts = [_of_table(t, class_id, kind, plane, repaired) for t in tables]
        sets.append(joined(parts))
    for table in tables:
        repaired.update({f"{reason}, left out": n for reason, n in table.skipped.items()})
    if not any(len(s) for s in sets):
        _require_near(path, layer, scheme, plane)
    return Side(
        path, sets[0], sets[1], any(t.credit == OSM_CREDIT for t in tables), repaired=repaired
    )


def _of_table(
    table: Table, class_id: int, kind: int, plane: Plane, repaired: Counter[str]
) -> ObjectSet:
    rows = np.array([i == class_id for i in table.class_ids], bool)
    frame = table.frame[rows]
    shapes = reproject(np.asarray(frame.geometry.array, object), table.crs, plane.crs)
    if kind == 3:  # OSM draws areas as closed lines too
        shapes = np.array([_closed(s) for s in shapes], object)
    clean, owner = valid_parts(shapes, kind, repaired)
    columns = [c for c in frame.columns if c not in (frame.geometry.name, "source_id")]
    records = [
        {str(c): str(v) for c, v in zip(columns, row, strict=True) if v is not None and v == v}
        for row in frame[columns].itertuples(index=False)
    ]
    ids = np.array(
        [_osm_name(i, r) for i, r in zip(frame["source_id"], records, strict=True)], object
    )
    scores = np.full(len(frame), np.nan)
    if "mean_score" in frame:
        scores = np.asarray(frame["mean_score"], float)
    tags = tuple(records[i] for i in owner)
    return ObjectSet(clean, ids[owner], scores[owner], tags)


def _closed(shape: Any) -> Any:
    if shape is not None and not shape.is_empty and kind_of(shape) == "ring":
        return shapely.Polygon(shapely.get_coordinates(shape))
    return shape


def _osm_name(source_id: object, record: dict[str, str]) -> str:
    """``way/123`` where the file says what kind of object it is."""
    kind = record.get("osm_type", "")
    text = str(source_id)
    return f"{kind}/{text}" if kind in ("node", "way", "relation") and "/" not in text else text


def _holds_nothing(path: Path, layer: str | None) -> bool:
    """Whether the file is one of vectors without a single feature."""
    if is_osm_file(path) or path.suffix.lower() in _PARQUET:
        return False
    infos = _infos(path, layer)
    return bool(infos) and all(info.get("features") == 0 for info in infos)


def _infos(path: Path, layer: str | None) -> list[dict[str, Any]]:
    try:
        names = [layer] if layer else [n for n, kind in list_layers(path) if kind is not None]
        return [
            read_info(path, layer=n, force_total_bounds=True, force_feature_count=True)
            for n in names
        ]
    except (DataSourceError, DataLayerError, ValueError):
        return []


def _require_near(path: Path, layer: str | None, scheme: ClassScheme, plane: Plane) -> None:
    """LabelError where the file has features, but none of them near the map."""
    places: list[tuple[Any, CRS]] = []
    if is_osm_file(path):
        places.append((read_osm_file(path, scheme, Extent(plane.geobox)).bounds, LONLAT))
    else:
        places += [(i["total_bounds"], CRS(i["crs"])) for i in _infos(path, layer) if i.get("crs")]
    for bounds, crs in places:
        if bounds is None or not all(map(math.isfinite, bounds)):
            continue
        box = shapely.box(*bounds)
        box = shapely.segmentize(box, max(box.length, 1e-9) / 100)
        there = reproject(np.array([box], object), crs, plane.crs)[0]
        if not (np.isfinite(there.bounds).all() and there.intersects(plane.limit)):
            raise LabelError(
                f"{path} does not overlap the map: it lies at {in_lonlat(tuple(bounds), crs)}; "
                f"the map at {in_lonlat(plane.limit.bounds, plane.crs)}",
                "check the place and the CRS of both",
            )


def _elsewhere(path: Path, bounds: tuple[float, float, float, float], plane: Plane) -> LabelError:
    return LabelError(
        f"{path} does not overlap the map: it lies at {in_lonlat(bounds, plane.crs)}; "
        f"the map at {in_lonlat(plane.limit.bounds, plane.crs)}",
        "check the place and the CRS of both",
    )
