"""Findings of label QC: which features are doubtful or shifted, and what is missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from geopipe.grid import ground_gsd
from geopipe.labels.extent import Extent, reproject
from geopipe.labels.tables import Table
from geopipe.register.displacement import DisplacementField
from geopipe.register.grid import RegistrationGrid
from geopipe.register.qc_tiles import QCResult

Kind = Literal["commission", "omission", "shifted"]
MIN_SHIFT_M = 0.5
"""Shorter shifts, and those shorter than a pixel, are none."""


@dataclass(frozen=True)
class LabelFinding:
    """A feature that does not fit the image, or an object that the labels lack."""

    kind: Kind
    class_id: int
    shape: BaseGeometry
    """As labelled, or as the image shows it; in the CRS of the scene."""
    feature_id: str
    """Of the feature in its file; empty for an omission."""
    evidence: float
    """0 to 1, for commission and omission: how sure it is; nan for a shift."""
    likelihood: float
    """Mean likelihood of the class in the shape; nan where the class cannot be told."""
    down: float = 0.0
    right: float = 0.0
    """Metres to add to the feature to fit the image."""


def findings(
    grid: RegistrationGrid, result: QCResult, field: DisplacementField, tables: Sequence[Table]
) -> list[LabelFinding]:
    """All findings, those of each kind from the most certain (or longest shift) on."""
    ids = feature_ids(grid, tables)
    label_findings = [*_of_features(grid, result, field, ids), *_missing(grid, result)]
    order = {"commission": 0, "omission": 1, "shifted": 2}
    return sorted(
        label_findings,
        key=lambda f: (
            order[f.kind],
            -(np.hypot(f.down, f.right) if f.kind == "shifted" else f.evidence),
        ),
    )


def _of_features(
    grid: RegistrationGrid, result: QCResult, field: DisplacementField, ids: dict[int, str]
) -> Iterator[LabelFinding]:
    minimum = max(MIN_SHIFT_M, *ground_gsd(grid.scene.geobox))
    for class_id in range(1, len(grid.labels.scheme)):
        indices = np.array(
            [i for i in result.likelihoods if grid.labels.ids[i] == class_id], dtype=int
        )
        if not len(indices):
            continue
        shapes = grid.labels.shapes[indices]
        centres = shapely.get_coordinates(shapely.point_on_surface(shapes))
        shifts = field.at(grid.to_px(centres), class_id)
        ground = result.ground[class_id]
        for index, shape, (down, right) in zip(indices.tolist(), shapes, shifts, strict=True):
            likelihood = result.likelihoods[index]
            common = (class_id, shape, ids.get(index, ""))
            if likelihood < ground:  # also nan on either side
                evidence = 1 - likelihood
                yield LabelFinding("commission", *common, evidence, likelihood, down, right)
            elif np.hypot(down, right) > minimum:
                yield LabelFinding("shifted", *common, np.nan, likelihood, down, right)


def _missing(grid: RegistrationGrid, result: QCResult) -> Iterator[LabelFinding]:
    for omission in result.omissions:
        for spot in omission.spots:
            shape = shapely.Polygon(grid.from_px(spot.rings))
            yield LabelFinding("omission", spot.class_id, shape, "", spot.score, spot.likelihood)


def feature_ids(grid: RegistrationGrid, tables: Sequence[Table]) -> dict[int, str]:
    """Index of a shape of the labels -> the id of its feature in the file."""
    crs = Extent(grid.scene.geobox).crs
    id_by_shape: dict[int, str] = {}
    for table in tables:
        points = shapely.point_on_surface(np.asarray(table.frame.geometry.array, object))
        classes = np.array([-1 if k is None else k for k in table.class_ids])
        usable = np.flatnonzero(~shapely.is_missing(points) & ~shapely.is_empty(points))
        usable = usable[classes[usable] > 0]
        here = reproject(points[usable], table.crs, crs)
        inside = np.isfinite(shapely.get_coordinates(here)).all(axis=1)
        usable, here = usable[inside], here[inside]
        points_of, shape_index = grid.labels.index.query(here, predicate="intersects")
        same = grid.labels.ids[shape_index] == classes[usable[points_of]]
        names = table.frame["source_id"].tolist()
        for point, index in zip(points_of[same].tolist(), shape_index[same].tolist(), strict=True):
            id_by_shape.setdefault(index, str(names[usable[point]]))
    return id_by_shape
