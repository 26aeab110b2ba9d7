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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

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
from geopipe.raster.cog import SCORE_STEPS, write_class_cog, write_score_cog
from geopipe.vectors.features import write_features
from reproduce.facts import facts

RESULTS = Path("docs/results/compare")
SEEDS = (0, 1)
FIGURES = ("expected_false", "false_share", "unmatched_share", "recall")
FDRS = (0.05, 0.1, 0.2, 0.3)
GSD = 0.5
CRS = "EPSG:32645"
FALSE_SHARE = 0.1
"""Of what the map shows: a beta distribution of probabilities with this mean of 1 - p."""
SPREAD = 2.0
MISSED = 0.1
DELETED, ADDED, SHIFTED = 0.15, 0.1, 0.1
OVERSTATED = 0.6
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
    frame = gpd.read_file(path).to_crs(CRS)
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
    probability = np.clip(probability, 0.002, 0.998)
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


def vacant(shapes: np.ndarray, area: Any, count: int, rng: np.random.Generator) -> np.ndarray:
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
        "crs": CRS, "transform": transform,
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
        table = changes.tables["buildings"].to_crs(changes.plane.crs)
        table = table[table["map_id"].notna()]
        mapped = ObjectSet(
            np.asarray(table.geometry.array, object),
            table["map_id"].to_numpy(object),
            table["mean_score"].to_numpy(float),
        )
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


def share(part: float, whole: float) -> float | None:
    """`part` / `whole`, None of nothing."""
    return round(float(part) / float(whole), 4) if whole else None


def number(value: float) -> float | None:
    """None for NaN."""
    return round(value, 4) if value == value else None


def roads_run(seed: int, work: Path) -> dict[str, Any]:
    """Lines of the simulated map as they are against the same with planted edits, in metres."""
    rng = np.random.default_rng(seed)
    frame = gpd.read_file("sample_tiles/osm.gpkg", layer="roads")
    rule = load_scheme("buildings-roads").classes[2].rules[0]
    is_road = frame["highway"].isin(rule.tags["highway"]) & frame["tunnel"].isna()
    frame = frame[is_road].explode(ignore_index=True)
    with rasterio.open("sample_tiles/train.tif") as src:
        frame = frame[frame.intersects(shapely.box(*src.bounds))].reset_index(drop=True)
    lines = np.asarray(frame.geometry.array, object)
    kind = rng.choice(3, len(lines), p=[0.75, 0.15, 0.1])  # as it is, deleted, shifted
    kept = kind != 1
    reference = lines.copy()
    for i in np.flatnonzero(kind == 2):
        reference[i] = shapely.offset_curve(lines[i], rng.choice([-1, 1]) * rng.uniform(6, 9))
    bounds = shapely.total_bounds(lines)
    false = np.array([_false_line(lines, bounds, rng) for _ in range(len(lines) // 10)], object)
    mapped = np.concatenate([lines, false])
    score = np.r_[rng.beta(4.6, 0.4, len(lines)), rng.beta(3.6, 1.4, len(false))]
    path, osm = work / "roads-map.gpkg", work / "roads-osm.gpkg"
    columns = {"class": "road", "road_id": np.arange(len(mapped)), "mean_score": score}
    gpd.GeoDataFrame(columns, geometry=mapped, crs=frame.crs).to_file(path, layer="roads")
    ids = np.flatnonzero(kept) + 1
    tags = {"highway": frame["highway"].to_numpy()[kept], "osm_id": ids, "osm_type": "way"}
    gpd.GeoDataFrame(tags, geometry=reference[kept], crs=frame.crs).to_file(osm, layer="roads")
    table = compare(path, osm).tables["roads"]
    status, length = table["status"].to_numpy(object), table["length_m"].to_numpy(float)
    number_of = np.array([int(m) if m is not None and m == m else -1 for m in table["map_id"]])
    deleted = np.r_[kind == 1, np.zeros(len(false), bool)]
    is_right = (number_of >= 0) & deleted[number_of]
    names = table["reference_id"].astype(str).str.replace("way/", "").to_numpy()
    shifted = np.isin(names, (np.flatnonzero(kind == 2) + 1).astype(str))
    new, moved = status == ONLY_MAP, status == MOVED
    return {
        "seed": seed,
        "missing": {
            "planted_km": round(float(shapely.length(lines[kind == 1]).sum()) / 1000, 2),
            "precision": share(length[new & is_right].sum(), length[new].sum()),
            "recall": share(length[new & is_right].sum(), shapely.length(lines[kind == 1]).sum()),
        },
        "misplaced": {
            "planted_km": round(float(shapely.length(reference[kind == 2]).sum()) / 1000, 2),
            "precision": share(length[moved & shifted].sum(), length[moved].sum()),
            "recall": share(
                length[moved & shifted].sum(), shapely.length(reference[kind == 2]).sum()
            ),
        },
    }


def _false_line(lines: np.ndarray, bounds: np.ndarray, rng: np.random.Generator) -> Any:
    line = lines[rng.integers(len(lines))]
    x, y = rng.uniform(bounds[:2], bounds[2:])
    centre = line.centroid
    return shapely.affinity.rotate(
        shapely.affinity.translate(line, x - centre.x, y - centre.y), rng.uniform(30, 150)
    )


def page(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    runs, roads = figures["buildings"], figures["roads"]
    lines = [
        "# Planted edits, and how `geopipe compare` finds them",
        "",
        f"`{figures['command']}`; {figures['software']}. Mean over {len(roads)} seeds.",
        "",
        "**Not a trained map.** The map is the true building block of Banepa (its OSM), drawn at "
        f"{GSD:g} m and spoilt: {100 * MISSED:.0f} % of the buildings are missing and "
        f"{100 * FALSE_SHARE:.0f} % of what it shows is false. Each object has a probability that "
        "is right by construction (*calibrated*), or its log odds divided by "
        f"{OVERSTATED:g} (*too sure*). `write_features` makes footprints of it, which join and "
        "divide the rows of the old town as they do for any map. The reference is the truth "
        f"without {100 * DELETED:.0f} % of the buildings, with {100 * ADDED:.0f} % that are not "
        f"there, {100 * SHIFTED:.0f} % shifted by 3 to 6 m each, and all of it shifted by a smooth "
        "field of 1 to 4 m.",
        "",
        "## Only in the image, against `--fdr`",
        "",
        "False: share of the reported buildings that are not real, which is what fdr bounds. "
        "In OSM: share that the reference has, where the match failed. "
        "Recall: share of the deleted buildings that the map shows. Expected: the share that "
        "compare computes.",
        "",
        "| scores | calibrated on | fdr | reported | expected | false | in OSM | recall |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    keys = dict.fromkeys((r["scores"], r["calibrated_on"], r["fdr"]) for r in runs)
    for scores, how, fdr in keys:
        rows = [
            r for r in runs if (r["scores"], r["calibrated_on"], r["fdr"]) == (scores, how, fdr)
        ]
        means = [_mean(rows, k) for k in FIGURES]
        reported = np.mean([r["reported"] for r in rows])
        cells = " | ".join("-" if m is None else f"{m:.3f}" for m in means)
        lines.append(f"| {scores} | {how} | {fdr:g} | {reported:.0f} | {cells} |")
    every = [r for r in runs if r["fdr"] == FDRS[0]]
    lines += [
        "",
        f"Without any threshold {np.mean([r['candidates'] for r in every]):.0f} buildings are only "
        f"in the image, {_mean(every, 'candidate_false'):.3f} of them false, with a recall of "
        f"{_mean(every, 'candidate_recall'):.3f}: the rest of the deleted buildings became part of "
        "a neighbour's footprint.",
        "",
        "## The other edits",
        "",
        "| edit | planted | precision | recall |",
        "|---|---:|---:|---:|",
    ]
    for name, title in (("moved", "shifted buildings"), ("only_osm", "only in OSM")):
        sets = [r[name] for r in every]
        lines.append(_row(title, np.mean([x["planted"] for x in sets]), sets))
    for name, title in (("missing", "roads deleted, km"), ("misplaced", "roads shifted, km")):
        sets = [r[name] for r in roads]
        lines.append(_row(title, np.mean([x["planted_km"] for x in sets]), sets))
    lines += [
        "",
        "Only in OSM are the invented buildings and those that the map misses. Roads: lines of the "
        "simulated map in `sample_tiles`, 15 % deleted and 10 % shifted by 6 to 9 m in the "
        "reference, false ones in the map, fdr 0.1; by length.",
        "",
    ]
    return "\n".join(lines)


def _row(title: str, planted: float, sets: list[dict[str, Any]]) -> str:
    precision, recall = (_mean(sets, k) for k in ("precision", "recall"))
    return f"| {title} | {planted:.3g} | {precision:.3f} | {recall:.3f} |"


def _mean(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [r[key] for r in rows if r[key] is not None]
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    main()
