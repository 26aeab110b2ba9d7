"""Align vectors: every vertex moves by the displacement field at its position."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS

from geopipe.grid.crs import transformer
from geopipe.labels.extent import Extent, reproject
from geopipe.labels.vectorfile import Table
from geopipe.raster.geopackage import atomic_geopackage, check_target, write_layer
from geopipe.register.displacement import DisplacementField

MIN_SHIFT_M = 0.05
"""Shorter shifts are not worth a vertex that is no longer where its source has it."""


@dataclass(frozen=True)
class AlignmentSummary:
    """What was done to the features of some tables."""

    features: int
    moved: int
    metres: np.ndarray
    """Length of the shift of each moved feature."""


def write_aligned(
    tables: Sequence[Table], field: DisplacementField, out: Path, *, overwrite: bool = False
) -> AlignmentSummary:
    """Write `tables` with their features moved to the GeoPackage `out`, a layer each.

    Columns stay; ``source_id`` names the feature in the source, ``shift_east`` and ``shift_north``
    are the mean move of its vertices in metres on the ground. A feature of no class of the scheme,
    and one where the field says nothing, stays where it is. The field is smooth and its moves are
    far shorter than it is wide, so no two vertices change sides: topology is kept. Where they would
    all the same (shifts of tens of metres that change at once), the feature moves as a whole.
    """
    check_target(out, overwrite=overwrite)
    lengths: list[np.ndarray] = []
    total = 0
    with atomic_geopackage(out) as part:
        for table in tables:
            frame, shifts = _shifted_frame(table, field)
            total += len(frame)
            lengths.append(np.hypot(*shifts[np.any(shifts != 0, axis=1)].T))
            about = {"credit": table.credit} if table.credit else {}
            write_layer(
                frame,
                part,
                table.name,
                layer_metadata=about or None,
                layer_options={
                    "FID": _unused_name("fid", frame),
                    "GEOMETRY_NAME": _unused_name("geom", frame),
                },
            )
    metres = np.concatenate([np.empty(0), *lengths])
    return AlignmentSummary(total, len(metres), metres)


def _unused_name(name: str, frame: gpd.GeoDataFrame) -> str:
    """`name`, or one like it that no column of `frame` has."""
    used = {str(c).casefold() for c in frame.columns if c != frame.geometry.name}
    while name in used:
        name = f"{name}_"
    return name


def _shifted_frame(table: Table, field: DisplacementField) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """The frame with moved geometries and its columns of shifts, and (n, 2) metres east, north."""
    shapes = np.asarray(table.frame.geometry.array, object).copy()
    shifts = np.zeros((len(shapes), 2))
    crs = CRS.from_user_input(table.frame.crs)
    ids = np.array([-1 if i is None else i for i in table.class_ids])
    for class_id in np.unique(ids[ids >= 0]):
        indices = np.flatnonzero((ids == class_id) & ~shapely.is_missing(shapes))
        shapes[indices], shifts[indices] = shift_shapes(shapes[indices], int(class_id), field, crs)
    frame = table.frame.set_geometry(gpd.GeoSeries(shapes, crs=table.frame.crs))
    return frame.assign(shift_east=shifts[:, 0].round(3), shift_north=shifts[:, 1].round(3)), shifts


def shift_shapes(
    shapes: np.ndarray, class_id: int, field: DisplacementField, crs: CRS
) -> tuple[np.ndarray, np.ndarray]:
    """`shapes` (n,) of `crs`, moved by the field of their class, vertex by vertex.

    Returns the moved shapes and the mean shift of each, (n, 2) metres east and north. A shape that
    would cross itself after the move moves as a whole.
    """
    grid, extent = field.grid, Extent(field.grid.scene.geobox)
    xy, shape_index = shapely.get_coordinates(shapes, return_index=True)
    to_scene = transformer(crs, extent.crs)
    from_scene = transformer(extent.crs, crs)
    pixel_positions = grid.to_px(np.column_stack(to_scene.transform(*xy.T)))
    metres = field.at(pixel_positions, class_id)
    metres[np.hypot(*metres.T) < MIN_SHIFT_M] = 0
    flat = shapely.force_2d(shapes)

    def to_coordinates(metres: np.ndarray) -> np.ndarray:
        target = np.column_stack(
            from_scene.transform(*grid.from_px(pixel_positions + metres / grid.gsd).T)
        )
        new = np.where((metres != 0).any(1)[:, None], target, xy)
        return np.asarray(shapely.set_coordinates(flat.copy(), new))

    shifted = to_coordinates(metres)
    crossed = _proper(flat) & ~_proper(shifted)
    if crossed.any():
        vertex_mask = crossed[shape_index]
        metres[vertex_mask] = _means(metres, shape_index, len(shapes))[shape_index[vertex_mask]]
        shifted = to_coordinates(metres)
    ground = [shapely.get_coordinates(reproject(s, crs, extent.local)) for s in (shapes, shifted)]
    with np.errstate(invalid="ignore"):  # infinite where the local CRS cannot hold a place
        shifts = _means(ground[1] - ground[0], shape_index, len(shapes))
    return shifted, np.where(np.abs(shifts).max(1, keepdims=True) >= 1e-6, shifts, 0)


def _proper(shapes: np.ndarray) -> np.ndarray:
    """Whether each crosses itself nowhere."""
    return np.asarray(shapely.is_valid(shapes) & shapely.is_simple(shapes))


def _means(values: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Mean (count, 2) of the `values` (n, 2) of each `group` (n,)."""
    sums = [np.bincount(group, column, minlength=count) for column in values.T]
    return np.column_stack(sums) / np.maximum(np.bincount(group, minlength=count), 1)[:, None]
