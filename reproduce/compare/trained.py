"""What compare finds of edits planted in the OSM of a part that a trained map was not trained on.

The map is the one that ``reproduce.real.run --sites banepa --methods auto --seeds 0`` makes of the
test part of Banepa, with ground around it. Every footprint that the reference lacks is judged by
the true buildings: real where half of it lies on them, and then of the one it covers most.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from geopipe.changes.compare import Changes, compare
from geopipe.changes.matching import ONLY_MAP, UNSURE
from geopipe.changes.probability import calibrate, choose_threshold
from geopipe.changes.truth import truth_samples
from reproduce.compare.buildings import FDRS, mapped_buildings
from reproduce.compare.plant import ADDED, CRS, edited, vacant
from reproduce.compare.shares import number, share
from reproduce.real.place import Place

FEATURES = Path("banepa-auto-0/map/test/features.gpkg")
"""In ``--out`` of ``reproduce.real.run``."""
_REAL = 0.5
"""Share of a footprint that must lie on true buildings."""


def trained_runs(
    out: Path, place: Place, truth: gpd.GeoDataFrame, seeds: Sequence[int], work: Path
) -> list[dict[str, Any]]:
    """Both ways to calibrate, at each false discovery rate, for edits of each seed.

    Args:
        out: ``--out`` of ``reproduce.real.run``.
        place: Banepa as that run cut it.
        truth: Its true buildings, in `CRS`.
        seeds: Of the edits.
        work: A folder for files.
    """
    parts = {role: _area(place, role) for role in ("test", "select")}
    area = work / "trained-area.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.union_all(list(parts.values()))], crs=CRS).to_file(area)
    beside = work / "trained-beside.gpkg"
    gpd.GeoDataFrame(geometry=[parts["select"]], crs=CRS).to_file(beside)
    shapes = np.asarray(truth.geometry.array, object)
    shapes = shapes[shapely.dwithin(shapely.union_all(list(parts.values())), shapes, 30)]
    ground = shapely.union_all(shapely.buffer(shapes, 25))
    true = work / "trained-truth.gpkg"
    gpd.GeoDataFrame({"building": ["yes"] * len(shapes)}, geometry=list(shapes), crs=CRS).to_file(
        true
    )
    runs = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        extra = vacant(shapes, ground, round(len(shapes) * ADDED), rng)
        reference, origin, _ = edited(shapes, extra, rng)
        kept = np.isin(np.arange(len(shapes)), origin)
        osm = work / f"trained-osm-{seed}.gpkg"
        ids = np.arange(1, len(reference) + 1)
        columns = {"building": "yes", "osm_id": ids, "osm_type": "way"}
        gpd.GeoDataFrame(columns, geometry=list(reference), crs=CRS).to_file(osm)
        changes = compare(out / FEATURES, osm, area=area)
        table, mapped = mapped_buildings(changes)
        # The truth of the select part is no part of what is judged.
        samples = truth_samples(true, beside, changes.plane, mapped)
        for how, given in (("the reference", None), ("truth beside the part", samples)):
            alone = table["status"].isin([ONLY_MAP, UNSURE]).to_numpy()
            fit = calibrate(mapped.scores, ~alone, np.ones(len(mapped)), given)
            probability = fit.unmatched(mapped.scores[alone])
            for fdr in FDRS:
                threshold = choose_threshold(probability, np.ones(len(probability)), fdr)
                new = alone.copy()
                new[alone] = threshold.reported
                measured = _measured(changes, shapes, kept, new, alone, parts["test"])
                runs.append(
                    {"seed": seed, "calibrated_on": how, "fdr": fdr, **measured}
                    | {"expected_false": number(threshold.expected_false)}
                )
    return runs


def _area(place: Place, role: str) -> Any:
    """The ground of a part, in `CRS`."""
    frame = gpd.GeoDataFrame(geometry=[place.area(role)], crs=place.truth.crs)
    return frame.to_crs(CRS).geometry.iloc[0]


def _measured(
    changes: Changes,
    truth: np.ndarray,
    kept: np.ndarray,
    new: np.ndarray,
    alone: np.ndarray,
    part: Any,
) -> dict[str, Any]:
    """Precision and recall of the footprints `new`, and of all that the reference lacks, `alone`.

    `kept`: whether the reference has each of the true buildings. Both sides count inside `part`.
    """
    table = changes.tables["buildings"].to_crs(CRS)
    shapes = np.asarray(table.geometry.array, object)[table["map_id"].notna().to_numpy()]
    owner = owners(shapes, truth)
    inside = shapely.within(shapely.centroid(shapes), part)
    deleted = np.flatnonzero(~kept & shapely.within(shapely.centroid(truth), part))
    result: dict[str, Any] = {"deleted": len(deleted)}
    for name, chosen in (("reported", new & inside), ("candidates", alone & inside)):
        of = owner[chosen]
        right = (of >= 0) & ~kept[of]
        shown = np.isin(deleted, of)
        result[name] = {
            "count": int(chosen.sum()),
            "false": int((of < 0).sum()),
            "in_osm": int(((of >= 0) & ~right).sum()),
            "recall": share(shown.sum(), len(deleted)),
        }
    return result


def owners(shapes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n,) the true building that each footprint covers most; -1 where less than half is real."""
    i, j = shapely.STRtree(truth).query(shapes, predicate="intersects")
    common = shapely.area(shapely.intersection(shapes[i], truth[j]))
    result = np.full(len(shapes), -1)
    order = np.argsort(common, kind="stable")
    result[i[order]] = j[order]
    real = np.bincount(i, common, len(shapes)) >= _REAL * shapely.area(shapes)
    return np.where(real, result, -1)
