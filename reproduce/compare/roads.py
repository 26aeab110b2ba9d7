"""What compare finds of the planted edits of roads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely

from geopipe.changes.compare import compare
from geopipe.changes.matching import (
    MOVED,
    ONLY_MAP,
)
from geopipe.classes import load_scheme
from reproduce.compare.shares import share


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
