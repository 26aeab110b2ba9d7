"""Ground truth for calibration: which of the mapped buildings on it are real."""

from pathlib import Path

import numpy as np
import shapely

from geopipe.changes.matching import ONLY_MAP, MatchOptions, match_buildings
from geopipe.changes.objects import ObjectSet, Plane
from geopipe.errors import LabelError
from geopipe.evaluation.polygon_files import read_area, read_polygons
from geopipe.vectors.footprints import BUILDING


def truth_samples(
    truth: Path, area: Path | None, plane: Plane, mapped: ObjectSet
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (k,) of the mapped buildings inside the truth's area, and whether each is real.

    `area`: where `truth` is complete; by default the box around it.
    """
    wkt = plane.crs.to_wkt()
    true = read_polygons(truth, None, BUILDING).in_plane(wkt)
    if not len(true):
        raise LabelError(f"{truth} holds no buildings to calibrate on")
    limit = read_area(area, wkt) if area else shapely.box(*shapely.total_bounds(true))
    shapely.prepare(limit)
    inside = mapped.subset(shapely.covers(limit, mapped.shapes) & np.isfinite(mapped.scores))
    if not len(inside):
        raise LabelError(
            f"no building of the map lies inside {area or truth}",
            "give a truth of the same place, and a map with probabilities",
        )
    # Only what overlaps counts: a false building may lie near a true one of the same shape.
    matches = match_buildings(inside.shapes, true, MatchOptions(max_move=0.0))
    return inside.scores, matches.status[matches.mapped_group] != ONLY_MAP
