"""From a map and the interpreted sample points to accuracies and areas."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import shapely
from geopandas import GeoDataFrame
from odc.geo.geobox import GeoBox

from geopipe.classes import IGNORE
from geopipe.errors import LabelError, SceneError
from geopipe.evaluation.assess.assessment import Assessment
from geopipe.evaluation.assess.design import SampleDesign, read_points
from geopipe.evaluation.assess.olofsson import Stratum, estimate
from geopipe.evaluation.assess.pixels import ClassPixels, Fingerprint, GroundAreas
from geopipe.labels.extent import Extent, reproject

_ALIGNED = 1e-3
"""Planes whose corners match to a thousandth of a pixel are the same plane."""


_UNLABELLED, _UNKNOWN_CLASS = -1, -2


@dataclass(frozen=True, eq=False)
class _SamplePoints:
    """Where the points were planned and are, and what is mapped there."""

    planned: np.ndarray
    """(points of the design, 2) int64 row and column"""
    planned_class: np.ndarray
    """(points of the design,) uint8 class there"""
    current: np.ndarray
    """(points of the layer, 2) int64 row and column"""
    current_class: np.ndarray
    """(points of the layer,) uint8 class there, IGNORE where there is none"""
    located: np.ndarray
    """(points of the layer,) bool: it has a place..."""
    on_map: np.ndarray
    """...which lies on the map."""


def assess_map(class_map: Path, points: Path, *, keep_moved: bool = False) -> Assessment:
    """Judge `class_map` by the points of `plan_points` whose ``truth`` was filled in.

    Left out and listed are points without a class, with a truth that is no class (capitals do not
    matter), more than one of an ``id``, without a place, outside the map, on its nodata, and moved
    to another pixel. `keep_moved` uses the last, in the stratum of the pixel that was planned: for
    an image that lies off the map, on which points were shifted to follow it.

    Raises SceneError when the map is not the one that was planned on, LabelError when the file is
    not such a file or a mapped class has no usable point.
    """
    design, table = read_points(points)
    pixels = ClassPixels.open(class_map, design.names)
    _require_same_grid(pixels.scene.geobox, design, class_map)
    sample_points = _locate_points(pixels, design, table)
    truth = _truth_ids(table["truth"], design.names)
    ids = pd.to_numeric(table["id"], errors="coerce")
    exclusions = _exclusion_masks(design, sample_points, truth, ids)
    moved_points = exclusions["moved to another pixel"]
    if keep_moved:
        exclusions["moved to another pixel"] = np.zeros_like(moved_points)
    reason = np.select(list(exclusions.values()), range(len(exclusions)), len(exclusions))
    is_used = reason == len(exclusions)
    order = ids[is_used].to_numpy(np.int64) - 1
    estimates = estimate(
        Stratum(design.names, np.array(design.pixels), np.array(design.area_m2)),
        sample_points.planned_class[order].astype(np.int64),
        truth[is_used],
        GroundAreas(pixels.scene.geobox).of(
            sample_points.planned[order, 0], sample_points.planned[order, 1]
        ),
    )
    left_out = {name: _point_names(ids[reason == i]) for i, name in enumerate(exclusions)}
    deleted = sorted(set(range(1, len(design.rows) + 1)) - set(ids.dropna()))
    left_out["deleted"] = tuple(str(i) for i in deleted)
    left_out = {name: points for name, points in left_out.items() if points}
    return Assessment(
        design, estimates, class_map.name, left_out, int((moved_points & is_used).sum())
    )


def _require_same_grid(geobox: GeoBox, design: SampleDesign, class_map: Path) -> None:
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    link = ~design.affine * geobox.affine
    corners = np.array([link * (c, r) for r in (0, shape[0]) for c in (0, shape[1])])
    expected_corners = np.array([(c, r) for r in (0, shape[0]) for c in (0, shape[1])])
    same_crs = Extent(geobox).crs == pyproj.CRS.from_wkt(design.crs)
    if (
        shape != tuple(design.shape)
        or not same_crs
        or abs(corners - expected_corners).max() > _ALIGNED
    ):
        raise SceneError(
            f"{class_map} ({shape[0]} x {shape[1]} px) is not the map that the points were planned"
            f" on: {design.map_name}, {design.shape[0]} x {design.shape[1]} px, has other pixels",
            "give that map, or plan points for this one",
        )


def _locate_points(pixels: ClassPixels, design: SampleDesign, table: GeoDataFrame) -> _SamplePoints:
    """Read the whole map once: its fingerprint, and the classes at the points."""
    current, located = _current_pixels(table, design)
    planned = np.column_stack([design.rows, design.cols]).astype(np.int64)
    planned_class, current_class = (
        np.full(len(pixels_of_points), IGNORE, np.uint8) for pixels_of_points in (planned, current)
    )
    fingerprint = Fingerprint()
    for window, ids in pixels.scan("comparing the map"):
        fingerprint.update(window, ids)
        for pixels_of_points, classes in ((planned, planned_class), (current, current_class)):
            row, col = pixels_of_points[:, 0] - window.row, pixels_of_points[:, 1] - window.col
            in_window = (row >= 0) & (row < window.height) & (col >= 0) & (col < window.width)
            classes[in_window] = ids[row[in_window], col[in_window]]
    if fingerprint.hexdigest() != design.sha256:
        raise SceneError(
            f"{pixels.scene.path} is not the map that the points were planned on: its pixels"
            f" differ from those of {design.map_name}",
            "give that map, or plan points for this one",
        )
    on_map = located & (current >= 0).all(1) & (current < design.shape).all(1)
    return _SamplePoints(planned, planned_class, current, current_class, located, on_map)


def _current_pixels(table: GeoDataFrame, design: SampleDesign) -> tuple[np.ndarray, np.ndarray]:
    """(points, 2) int64 row and column of the layer's points, and (points,) bool: there is one."""
    if table.crs is None:
        raise LabelError("the layer of points has no CRS", "set that of the map")
    shapes = np.asarray(table.geometry.array, object)
    shapes = reproject(
        shapes, pyproj.CRS.from_user_input(table.crs), pyproj.CRS.from_wkt(design.crs)
    )
    x, y = shapely.get_x(shapes), shapely.get_y(shapes)  # nan unless a point
    col, row = ~design.affine * (x, y)
    is_finite = np.isfinite(col) & np.isfinite(row)
    pixel_positions = np.where(is_finite[:, None], np.column_stack([row, col]), -1.0)
    return np.floor(np.clip(pixel_positions, -1, 1 << 40)).astype(np.int64), is_finite


def _truth_ids(truth: pd.Series, names: tuple[str, ...]) -> np.ndarray:
    """Class ids (points,) int64; or _UNLABELLED, or _UNKNOWN_CLASS."""
    id_by_name = {name.strip().casefold(): i for i, name in enumerate(names)} | {"": _UNLABELLED}
    labels = truth.astype(object).where(truth.notna(), "").astype(str).str.strip().str.casefold()
    return np.array([id_by_name.get(word, _UNKNOWN_CLASS) for word in labels], np.int64)


def _exclusion_masks(
    design: SampleDesign, sample_points: _SamplePoints, truth: np.ndarray, ids: "pd.Series[float]"
) -> dict[str, np.ndarray]:
    """Reason not to use a point -> (points,) bool; of several the first is told."""
    has_design_id = ids.isin(range(1, len(design.rows) + 1)).to_numpy()
    order = np.where(has_design_id, ids.fillna(1), 1).astype(np.int64) - 1
    return {
        "not of the design": ~has_design_id,
        "more than one with this id": ids.duplicated(keep=False).to_numpy(),
        "no truth filled in": truth == _UNLABELLED,
        "truth is no class": truth == _UNKNOWN_CLASS,
        "without a place": ~sample_points.located,
        "outside the map": ~sample_points.on_map,
        "on nodata": sample_points.current_class == IGNORE,
        "moved to another pixel": (sample_points.current != sample_points.planned[order]).any(1),
    }


def _point_names(ids: "pd.Series[float]") -> tuple[str, ...]:
    """What the analyst finds the points by: their id, or the fid where there is none."""
    names = (f"fid {i}" if pd.isna(n) else f"{n:g}" for i, n in ids.items())
    return tuple(dict.fromkeys(names))
