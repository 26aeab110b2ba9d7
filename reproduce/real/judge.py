"""Figures of a class map of a part of a place."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from shapely.geometry.base import BaseGeometry

from geopipe.classes import IGNORE, ClassScheme
from geopipe.evaluation.objects import match_objects
from geopipe.grid import ground_gsd
from geopipe.labels import write_label_raster
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from geopipe.vectors.class_map import scores_beside
from geopipe.vectors.features import BUILDINGS, GEOPACKAGE
from geopipe.vectors.footprints import FootprintOptions, find_footprints
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.sources import label_source
from reproduce.real.figures import (
    Agreement,
    area_error,
    boundary_agreement,
    object_agreement,
    outlines,
    relaxed_agreement,
    separate,
)
from reproduce.real.place import Place

CRUMB_M2 = 10.0
"""Smaller mapped buildings are left out of a second count of objects; the product draws no smaller
footprints, so neither does the comparison of footprints."""
OUTLINE_M = 1.0
ROAD_M = 3.0


def judge(class_map: Path, place: Place, role: str, scheme: ClassScheme) -> dict[str, Any]:
    """IoU of each class and, class by class, what its kind asks for; nan becomes None."""
    scene = Scene.open(place.scene(role), nodata=place.nodata)
    truth = _truth(place, role, scheme, scene)
    with rasterio.open(class_map) as src:
        mapped = src.read(1)
    known = (truth != IGNORE) & (mapped != IGNORE)
    metrics = Metrics.of(scheme.names, truth, mapped)
    gsd = ground_gsd(scene.geobox)
    px = sum(gsd) / 2
    result: dict[str, Any] = {
        "mean_iou": metrics.mean_iou,
        "iou": dict(zip(scheme.names, metrics.iou, strict=True)),
    }
    for class_id, name in enumerate(scheme.names[1:], 1):
        t, m = truth == class_id, mapped == class_id
        row = {
            "boundary": _plain(boundary_agreement(t, m, known, OUTLINE_M / px)),
            "area_error": area_error(t, m, known),
        }
        if name == "building":
            true, drawn = _objects(place, role, scene), outlines(m & known, metres(gsd))
            row["objects"] = _plain(object_agreement(true, drawn))
            row["objects_no_crumbs"] = _plain(object_agreement(true, drawn, CRUMB_M2))
            row["true_objects"] = len(true)
            buildings = true_buildings(place, role, scene)
            row["footprints"] = _footprints(
                class_map, known, place.area(role), scheme, scene, buildings
            )
            truth_map = place.out / f"{role}-truth.tif"
            row["footprints_of_truth"] = _footprints(
                truth_map, known, place.area(role), scheme, scene, buildings
            )
        if name == "road":
            row["relaxed"] = _plain(relaxed_agreement(t, m, known, ROAD_M / px))
        result[name] = row
    plain: dict[str, Any] = _without_nan(result)
    return plain


def _truth(place: Place, role: str, scheme: ClassScheme, scene: Scene) -> np.ndarray:
    target = place.out / f"{role}-truth.tif"
    if not target.exists():
        choice = LabelledScene(
            scene=scene.path,
            labels=place.labels(role),
            area=place.area_file(role),
            nodata=place.nodata,
        )
        write_label_raster(scene, label_source(choice, scheme, scene), target, overwrite=True)
    with rasterio.open(target) as src:
        ids: np.ndarray = src.read(1)
    return ids


def _footprints(
    class_map: Path,
    known: np.ndarray,
    area: BaseGeometry,
    scheme: ClassScheme,
    scene: Scene,
    truth: np.ndarray,
) -> dict[str, float]:
    """How the footprints of a map agree with `truth`, (n,) buildings in metres."""
    drawn = in_metres(footprint_shapes(class_map, known, area, scheme), scene)
    metrics = match_objects(drawn[shapely.area(drawn) >= CRUMB_M2], truth)
    return {
        "mapped": metrics.mapped,
        "truth": metrics.truth,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        "merged": metrics.under_segmented,
        "split": metrics.over_segmented,
        "polis_m": metrics.polis_m,
        "vertex_ratio": metrics.vertex_ratio,
        "right_angle_share": metrics.right_angle_share,
        "true_right_angle_share": metrics.true_right_angle_share,
    }


def footprint_shapes(
    class_map: Path, known: np.ndarray, area: BaseGeometry, scheme: ClassScheme
) -> np.ndarray:
    """(n,) footprints in the map's CRS, cut to `area`: those written with the map, or of its ids.

    `known`: (h, w) bool, the pixels that the second are made from.
    """
    features = class_map.with_name(GEOPACKAGE)
    if features.is_file():
        table = pyogrio.read_dataframe(features, layer=BUILDINGS)
        return _parts(shapely.intersection(np.asarray(table.geometry.array, object), area))
    with TemporaryDirectory() as folder:
        cut = Path(folder) / "cut.tif"
        with rasterio.open(class_map) as src:
            ids = np.where(known, src.read(1), IGNORE)
            with rasterio.open(cut, "w", **{**src.profile, "driver": "GTiff"}) as out:
                out.write(ids, 1)
        options = FootprintOptions(min_area=CRUMB_M2)
        table = find_footprints(cut, scores_beside(class_map), options, scheme=scheme)
    return np.asarray(table.geometry.array, object)


def _parts(shapes: np.ndarray) -> np.ndarray:
    """(n,) the polygons that `shapes` are made of, those with an area."""
    parts = shapely.get_parts(shapes)
    return np.asarray(parts[shapely.area(parts) > 0])


def _objects(place: Place, role: str, scene: Scene) -> np.ndarray:
    """(n,) true buildings inside the part, in metres, those that touch made one."""
    return separate(in_metres(_true_shapes(place, role), scene))


def true_buildings(place: Place, role: str, scene: Scene) -> np.ndarray:
    """(n,) true buildings inside the part, in metres, each by itself, of at least CRUMB_M2."""
    parts = in_metres(_parts(_true_shapes(place, role)), scene)
    return np.asarray(parts[shapely.area(parts) >= CRUMB_M2])


def _true_shapes(place: Place, role: str) -> np.ndarray:
    """(n,) what lies of each true building in the part, in the scene's CRS; may be empty."""
    shapes = np.asarray(place.truth.geometry[place.truth["class"] == "building"].array, object)
    return np.asarray(shapely.intersection(shapely.make_valid(shapes), place.area(role)))


def in_metres(shapes: np.ndarray, scene: Scene) -> np.ndarray:
    """`shapes` of the scene's CRS in metres from its corner."""
    to_metres = metres(ground_gsd(scene.geobox)) * ~scene.geobox.affine
    a, b, c, d, e, f, *_ = to_metres
    return np.asarray(
        shapely.transform(shapes, lambda xy: np.column_stack([xy @ (a, b) + c, xy @ (d, e) + f]))
    )


def metres(gsd: tuple[float, float]) -> Affine:
    """Pixels to metres on the ground; a part is small enough for one scale."""
    return Affine(gsd[1], 0, 0, 0, -gsd[0], 0)


def _plain(agreement: Agreement) -> dict[str, float]:
    return {**asdict(agreement), "f1": agreement.f1}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
