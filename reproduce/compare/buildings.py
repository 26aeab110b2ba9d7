"""What compare finds of the planted edits of buildings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from geopipe.changes.compare import Changes, compare
from geopipe.changes.matching import (
    AGREE,
    MERGED,
    MOVED,
    ONLY_MAP,
    ONLY_OSM,
    RESHAPED,
    SPLIT,
    UNSURE,
)
from geopipe.changes.objects import ObjectSet
from geopipe.changes.probability import Calibration, calibrate, choose_threshold
from geopipe.changes.truth import truth_samples
from geopipe.classes import load_scheme
from geopipe.vectors.features import write_features
from reproduce.compare.plant import CRS, Town, draw_map, too_sure
from reproduce.compare.shares import number, share

FDRS = (0.05, 0.1, 0.2, 0.3)


def mapped_buildings(changes: Changes) -> tuple[gpd.GeoDataFrame, ObjectSet]:
    """The buildings that the map shows: their rows, on the plane of comparison, and as objects."""
    table = changes.tables["buildings"].to_crs(changes.plane.crs)
    table = table[table["map_id"].notna()]
    return table, ObjectSet(
        np.asarray(table.geometry.array, object),
        table["map_id"].to_numpy(object),
        table["mean_score"].to_numpy(float),
    )


def buildings_runs(town: Town, seed: int, work: Path) -> list[dict[str, Any]]:
    """Both kinds of scores, both ways to calibrate, at each false discovery rate."""
    osm, area, truth, part = (work / f"{n}.gpkg" for n in ("osm", "area", "truth", "part"))
    ids = np.arange(1, len(town.reference) + 1)
    columns = {"building": "yes", "osm_id": ids, "osm_type": "way"}
    left, bottom, _, top = town.area.bounds
    middle = float(np.median(shapely.get_x(shapely.centroid(town.truth))))
    half = shapely.intersection(town.area, shapely.box(left, bottom, middle, top))
    west = shapely.intersects(half, town.truth)
    for path, shapes, values in (
        (osm, town.reference, columns),
        (area, [town.area], {}),
        (truth, town.truth[west], {"building": ["yes"] * int(west.sum())}),
        (part, [half], {}),
    ):
        gpd.GeoDataFrame(values, geometry=list(shapes), crs=CRS).to_file(path)
    runs = []
    for scores, distort in (("calibrated", lambda p: p), ("too sure", too_sure)):
        folder = work / f"map-{seed}-{scores}"
        class_map = draw_map(town, folder, distort)
        write_features(class_map, folder, load_scheme("buildings"), name="Banepa")
        changes = compare(folder / "features.gpkg", osm, area=area)
        table, mapped = mapped_buildings(changes)
        alone = table["status"].isin([ONLY_MAP, UNSURE]).to_numpy()
        one = np.ones(len(mapped))
        # As compare does with `truth`, without matching all again.
        samples = truth_samples(truth, part, changes.plane, mapped)
        for how, given in (("the reference", None), ("truth of one half", samples)):
            fit = calibrate(mapped.scores, ~alone, one, given)
            runs += [
                {"seed": seed, "scores": scores, "calibrated_on": how, "fdr": fdr}
                | measured(changes, town, fit, fdr)
                for fdr in FDRS
            ]
    return runs


def measured(changes: Changes, town: Town, fit: Calibration, fdr: float) -> dict[str, Any]:
    """Precision and recall of each status at `fdr`, object by object."""
    table = changes.tables["buildings"].to_crs(CRS)
    shapes = np.asarray(table.geometry.array, object)
    status = table["status"].to_numpy(object)
    is_mapped = table["map_id"].notna().to_numpy()
    owner = np.full(len(table), -2)
    owner[is_mapped] = owners(shapes[is_mapped], town.mapped, town.real)
    in_reference = np.isin(np.arange(len(town.truth)), town.origin)
    lacking = (owner >= 0) & ~in_reference[owner]
    candidates = np.isin(status, (ONLY_MAP, UNSURE))
    probability = fit.unmatched(table["mean_score"].to_numpy(float)[candidates])
    threshold = choose_threshold(probability, np.ones(len(probability)), fdr)
    new = candidates.copy()
    new[candidates] = threshold.reported
    moved_ids = {str(i) for i in np.flatnonzero(town.moved) + 1}
    extra_ids = {str(i) for i in np.flatnonzero(town.origin < 0) + 1}
    seen = set(town.real[town.real >= 0].tolist())
    gone_ids = extra_ids | {
        str(i + 1) for i, o in enumerate(town.origin.tolist()) if o >= 0 and o not in seen
    }
    detectable = {i for i in moved_ids if town.origin[int(i) - 1] in seen}
    ids = [set(str(t).replace("way/", "").split(";")) for t in table["reference_id"]]
    said_moved = set().union(*(i for i, s in zip(ids, status, strict=True) if s == MOVED))
    said_gone = set().union(*(i for i, s in zip(ids, status, strict=True) if s == ONLY_OSM))
    return {
        "reported": int(new.sum()),
        "false_share": share((new & (owner == -1)).sum(), new.sum()),
        "unmatched_share": share((new & (owner >= 0) & ~lacking).sum(), new.sum()),
        "expected_false": number(threshold.expected_false),
        "recall": share((new & lacking).sum(), lacking.sum()),
        "candidates": int(candidates.sum()),
        "candidate_false": share((candidates & ~lacking).sum(), candidates.sum()),
        "candidate_recall": share((candidates & lacking).sum(), lacking.sum()),
        "completeness": round(fit.completeness, 3),
        "moved": pair(said_moved, detectable),
        "only_osm": pair(said_gone, gone_ids),
        "statuses": {s: int((status == s).sum()) for s in (AGREE, MOVED, RESHAPED, SPLIT, MERGED)},
    }


def owners(shapes: np.ndarray, mapped: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The true building of each footprint: that of the drawn one it covers most; -1: false."""
    result = np.full(len(shapes), -1)
    i, j = shapely.STRtree(mapped).query(shapes, predicate="intersects")
    common = shapely.area(shapely.intersection(shapes[i], mapped[j]))
    for k in np.argsort(common):
        result[i[k]] = real[j[k]]
    return result


def pair(result: set[str], expected: set[str]) -> dict[str, Any]:
    """Precision and recall of a set of ids."""
    hits = len(result & expected)
    return {
        "planted": len(expected),
        "precision": share(hits, len(result)),
        "recall": share(hits, len(expected)),
    }
