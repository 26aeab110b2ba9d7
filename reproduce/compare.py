"""How well `geopipe compare` finds edits that were planted in OpenStreetMap.

    python -m reproduce.compare

Buildings: Banepa of ``GEOPIPE_DATA``. Its OSM block is taken as the truth. The *map* is that truth
drawn on the scene's pixels and spoilt in a known way (`draw_map`): buildings missing, false ones
added, each with a probability. The *reference* is the truth with planted edits (`plant`). No
network takes part: the page measures matching, alignment and thresholds, not a model.

Roads: the true roads of a simulated tile of ``sample_tiles`` as map, with planted edits as
reference. Writes ``docs/results/compare.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from geopipe.changes.compare import Changes, CompareOptions, compare
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
from geopipe.classes import load_scheme
from geopipe.raster.cog import SCORE_STEPS, write_class_cog, write_score_cog
from reproduce.facts import facts

RESULTS = Path("docs/results/compare")
SEEDS = (0, 1, 2)
FDRS = (0.05, 0.1, 0.2, 0.3)
GSD = 0.5
FALSE_SHARE = 0.1
"""Of what the map shows: a beta distribution of probabilities with this mean of 1 - p."""
SPREAD = 2.0
MISSED = 0.1
DELETED, ADDED, SHIFTED = 0.15, 0.1, 0.1
OVERSTATED = 0.35
"""A network that is too sure: its log odds divided by this."""


@dataclass(frozen=True, eq=False)
class Town:
    """Buildings in metres, each with what is true of it."""

    truth: np.ndarray
    """(n,) true buildings."""
    mapped: np.ndarray
    """(m,) what the map shows."""
    real: np.ndarray
    """(m,) index of the true building, -1 for a false one."""
    probability: np.ndarray
    """(m,) of being real, calibrated by construction."""
    reference: np.ndarray
    """(r,) what OSM has..."""
    origin: np.ndarray
    """...(r,) and of which true building, -1 for one that is not there."""
    moved: np.ndarray
    """(r,) bool"""
    area: Any


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="planted edits, and how compare finds them")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    args = parser.parse_args()
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data")) / "banepa"
    truth = true_buildings(data / "osm_buildings.geojson")
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            runs += buildings_runs(plant(truth, seed), seed, Path(folder))
        figures = {
            **facts("python -m reproduce.compare"),
            "buildings": runs,
            "roads": [roads_run(seed, Path(folder)) for seed in args.seeds],
        }
    RESULTS.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(figures), encoding="utf-8")


def true_buildings(path: Path) -> gpd.GeoDataFrame:
    """The buildings of the block without overlaps, in metres on the ground."""
    frame = gpd.read_file(path).to_crs("EPSG:32645")
    frame.geometry = shapely.make_valid(np.asarray(frame.geometry.array, object))
    frame = frame.explode(ignore_index=True)
    frame = frame[(frame.geom_type == "Polygon") & (frame.area >= 15)].reset_index(drop=True)
    shapes, kept = np.asarray(frame.geometry.array, object), []
    tree = shapely.STRtree(shapes)
    for i, shape in enumerate(shapes):
        overlap = [
            j
            for j in tree.query(shape)
            if j < i and shapely.area(shapely.intersection(shape, shapes[j])) > 0.2 * shape.area
        ]
        if not overlap:
            kept.append(i)
    return frame.iloc[kept].reset_index(drop=True)


def plant(truth: gpd.GeoDataFrame, seed: int) -> Town:
    """A map with errors, and a reference with edits, of the true buildings."""
    rng = np.random.default_rng(seed)
    shapes = np.asarray(truth.geometry.array, object)
    area = shapely.concave_hull(shapely.MultiPoint(shapely.get_coordinates(shapes)), 0.05)
    area = shapely.buffer(area, 25)
    n = len(shapes)
    seen = rng.random(n) >= MISSED
    alpha, beta = SPREAD * (1 - FALSE_SHARE), SPREAD * FALSE_SHARE
    false_count = round(seen.sum() * FALSE_SHARE / (1 - FALSE_SHARE))
    added = round(n * ADDED)
    invented = vacant(shapes, area, false_count + added, rng)
    false, extra = invented[:false_count], invented[false_count:]
    probability = np.concatenate(
        [rng.beta(alpha + 1, beta, seen.sum()), rng.beta(alpha, beta + 1, len(false))]
    )
    kept = rng.random(n) >= DELETED
    jumps = kept & (rng.random(n) < SHIFTED)
    angle, length = rng.uniform(0, 2 * np.pi, n), rng.uniform(3, 6, n)
    step = np.column_stack([np.cos(angle), np.sin(angle)]) * length[:, None]
    reference = shapes.copy()
    xy, owner = shapely.get_coordinates(reference, return_index=True)
    reference = shapely.set_coordinates(reference, xy + np.where(jumps[:, None], step, 0)[owner])
    reference = np.concatenate([reference[kept], extra])
    return Town(
        shapes,
        np.concatenate([shapes[seen], false]),
        np.r_[np.flatnonzero(seen), np.full(len(false), -1)],
        probability,
        warped(reference),
        np.r_[np.flatnonzero(kept), np.full(len(extra), -1)],
        np.r_[jumps[kept], np.zeros(len(extra), bool)],
        area,
    )


def vacant(
    shapes: np.ndarray, area: Any, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Outlines of true buildings, laid where nothing is within 2 m."""
    left, bottom, right, top = area.bounds
    placed: list[Any] = []
    shapely.prepare(area)
    tree = shapely.STRtree(shapes)
    while len(placed) < count:
        shape = shapes[rng.integers(len(shapes))]
        if shape.area > 150:
            continue
        at = rng.uniform((left, bottom), (right, top))
        moved = shapely.affinity.translate(shape, *(at - np.array(shape.centroid.coords[0])))
        near = moved.buffer(2)
        if not shapely.covers(area, moved) or len(tree.query(near, predicate="intersects")):
            continue
        if placed and shapely.intersects(np.array(placed, object), near).any():
            continue
        placed.append(moved)
    return np.array(placed, object)


def warped(shapes: np.ndarray) -> np.ndarray:
    """Shifted by a smooth field of some 1 to 4 m, as OSM is against an image."""
    xy, _ = shapely.get_coordinates(shapes, return_index=True)
    shift = np.column_stack([2 + np.sin(xy[:, 1] / 150), -1 + 1.2 * np.cos(xy[:, 0] / 180)])
    return np.asarray(shapely.set_coordinates(shapes.copy(), xy + shift))


def draw_map(town: Town, folder: Path, distort: Callable[[np.ndarray], np.ndarray]) -> Path:
    """``classes.tif`` and ``scores.tif`` of what the map shows, at `GSD`."""
    folder.mkdir(exist_ok=True)
    scheme = load_scheme("buildings")
    left, bottom, right, top = town.area.bounds
    transform = Affine(GSD, 0, left, 0, -GSD, top)
    shape = (int((top - bottom) / GSD) + 1, int((right - left) / GSD) + 1)
    order = np.arange(1, len(town.mapped) + 1)
    drawn = rasterize(
        zip(town.mapped, order.tolist(), strict=True), shape, transform=transform, dtype="int32"
    )
    values = np.r_[0.05, distort(town.probability)]
    scores = np.round(values[drawn] * SCORE_STEPS).astype(np.uint8)
    profile = {
        "driver": "GTiff", "height": shape[0], "width": shape[1], "dtype": "uint8",
        "crs": "EPSG:32645", "transform": transform,
    }  # fmt: skip
    with rasterio.open(folder / "c.tif", "w", count=1, nodata=255, **profile) as out:
        out.write((drawn > 0).astype(np.uint8), 1)
    with rasterio.open(folder / "s.tif", "w", count=2, nodata=255, **profile) as out:
        out.write(np.stack([SCORE_STEPS - scores, scores]).astype(np.uint8))
    write_class_cog(folder / "c.tif", folder / "classes.tif", scheme, {})
    write_score_cog(folder / "s.tif", folder / "scores.tif", scheme, {})
    return folder / "classes.tif"


def too_sure(probability: np.ndarray) -> np.ndarray:
    """As a network says that is too sure of itself."""
    odds = np.log(probability / (1 - probability)) / OVERSTATED
    return np.asarray(1 / (1 + np.exp(-odds)))


def buildings_runs(town: Town, seed: int, work: Path) -> list[dict[str, Any]]:
    """All ways to calibrate, at each false discovery rate."""
    osm = work / "osm.gpkg"
    ids = np.arange(1, len(town.reference) + 1)
    columns = {"building": "yes", "osm_id": ids, "osm_type": "way"}
    gpd.GeoDataFrame(columns, geometry=town.reference, crs="EPSG:32645").to_file(osm, layer="b")
    area, truth, part = (work / n for n in ("area.gpkg", "truth.gpkg", "part.gpkg"))
    gpd.GeoDataFrame(geometry=[town.area], crs="EPSG:32645").to_file(area)
    x = np.median(shapely.get_x(shapely.centroid(town.truth)))
    half = shapely.intersection(town.area, shapely.box(*town.area.bounds[:2], x, 1e7))
    inside = town.truth[shapely.intersects(half, town.truth)]
    gpd.GeoDataFrame({"building": "yes"}, geometry=inside, crs="EPSG:32645", index=range(len(inside))).to_file(truth)
    gpd.GeoDataFrame(geometry=[half], crs="EPSG:32645").to_file(part)
    runs = []
    for scores, distort in (("calibrated", lambda p: p), ("too sure", too_sure)):
        class_map = draw_map(town, work / f"map-{scores}", distort)
        for how in ("scores alone", "reference", "truth of one half"):
            given = {"truth": truth, "truth_area": part} if how.startswith("truth") else {}
            for fdr in FDRS:
                if how == "scores alone":
                    continue
                changes = compare(class_map, osm, CompareOptions(fdr=fdr), area=area, **given)
                runs.append(
                    {"seed": seed, "scores": scores, "calibrated_on": how, "fdr": fdr}
                    | measured(changes, town)
                )
    return runs


def measured(changes: Changes, town: Town) -> dict[str, Any]:
    """Precision and recall of each status, object by object."""
    table = changes.tables["buildings"].to_crs("EPSG:32645")
    shapes = np.asarray(table.geometry.array, object)
    status = table["status"].to_numpy(object)
    is_mapped = table["map_id"].notna().to_numpy()
    owner = np.full(len(table), -2)
    owner[is_mapped] = owners(shapes[is_mapped], town.mapped, town.real)
    in_reference = np.isin(np.arange(len(town.truth)), town.origin)
    lacking = (owner >= 0) & ~in_reference[owner]
    new = status == ONLY_MAP
    candidates = new | (status == UNSURE)
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
    fit = changes.calibrations["buildings"]
    return {
        "reported": int(new.sum()),
        "false_share": share((new & ~lacking).sum(), new.sum()),
        "expected_false": number(changes.thresholds["buildings"].expected_false),
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


def share(part: float, whole: float) -> float | None:
    """`part` / `whole`, None of nothing."""
    return round(float(part) / float(whole), 4) if whole else None


def number(value: float) -> float | None:
    """None for NaN."""
    return round(value, 4) if value == value else None
