"""Vectors moved by a shift field, every vertex by the field at its place: what touched touches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from pyproj import CRS, Transformer

from geopipe.errors import LabelError
from geopipe.labels.place import Place, reproject
from geopipe.labels.vectorfile import OSM_CREDIT, Table
from geopipe.register.field import ShiftField

LEAST_M = 0.05
"""Shorter shifts are not worth a vertex that is no longer where its source has it."""


@dataclass(frozen=True)
class Moved:
    """What was done to the features of some tables."""

    features: int
    moved: int
    metres: np.ndarray
    """Length of the shift of each moved feature."""


def write_aligned(
    tables: Sequence[Table], field: ShiftField, out: Path, *, overwrite: bool = False
) -> Moved:
    """Write `tables` with their features moved to the GeoPackage `out`, a layer each.

    Columns stay; ``source_id`` names the feature in the source, ``shift_east`` and ``shift_north``
    are the mean move of its vertices in metres on the ground. A feature of no class of the scheme,
    and one where the field says nothing, stays where it is. The field is smooth and its moves are
    far shorter than it is wide, so no two vertices change sides: topology is kept.
    """
    if out.exists() and not overwrite:
        raise LabelError(f"{out} exists already", "give another name or --overwrite")
    if not out.parent.is_dir():
        raise LabelError(f"there is no folder {out.parent}", "make it first")
    part = out.with_name(out.name + ".part.gpkg")
    part.unlink(missing_ok=True)
    lengths: list[np.ndarray] = []
    total = 0
    try:
        for table in tables:
            frame, moves = _moved(table, field)
            total += len(frame)
            lengths.append(np.hypot(*moves[np.any(moves != 0, axis=1)].T))
            about = {"credit": OSM_CREDIT} if table.is_osm else {}
            pyogrio.write_dataframe(
                frame, part, layer=table.name, driver="GPKG", layer_metadata=about or None,
                dataset_options={"VERSION": "1.2"}, append=False,
            )  # fmt: skip
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    metres = np.concatenate([np.empty(0), *lengths])
    return Moved(total, len(metres), metres)


def _moved(table: Table, field: ShiftField) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """The frame with moved geometries and its columns of shifts, and (n, 2) metres east, north."""
    shapes = np.asarray(table.frame.geometry.array, object).copy()
    moves = np.zeros((len(shapes), 2))
    crs = CRS.from_user_input(table.frame.crs)
    ids = np.array([-1 if i is None else i for i in table.class_ids])
    for class_id in np.unique(ids[ids >= 0]):
        which = np.flatnonzero((ids == class_id) & ~shapely.is_missing(shapes))
        shapes[which], moves[which] = _shifted(shapes[which], int(class_id), field, crs)
    frame = table.frame.set_geometry(gpd.GeoSeries(shapes, crs=table.frame.crs))
    return frame.assign(shift_east=moves[:, 0].round(3), shift_north=moves[:, 1].round(3)), moves


def _shifted(
    shapes: np.ndarray, class_id: int, field: ShiftField, crs: CRS
) -> tuple[np.ndarray, np.ndarray]:
    """`shapes` (n,) of `crs` moved, and the mean move of each, (n, 2) metres east and north."""
    plane, place = field.plane, Place(field.plane.scene.geobox)
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    there = Transformer.from_crs(crs, place.crs, always_xy=True)
    back = Transformer.from_crs(place.crs, crs, always_xy=True)
    places = plane.to_px(np.column_stack(there.transform(*xy.T)))
    metres = field.at(places, class_id)
    metres[np.hypot(*metres.T) < LEAST_M] = 0
    target = plane.from_px(places + metres / plane.gsd)
    new = np.where((metres != 0).any(1)[:, None], np.column_stack(back.transform(*target.T)), xy)
    moved = shapely.set_coordinates(shapely.force_2d(shapes).copy(), new)
    ground = [shapely.get_coordinates(reproject(s, crs, place.local)) for s in (shapes, moved)]
    count = np.bincount(owner, minlength=len(shapes))
    sums = [
        np.bincount(owner, ground[1][:, k] - ground[0][:, k], minlength=len(shapes)) for k in (0, 1)
    ]
    moves = np.column_stack(sums) / np.maximum(count, 1)[:, None]
    return np.asarray(moved), np.where(np.abs(moves).max(1, keepdims=True) < 1e-6, 0, moves)
