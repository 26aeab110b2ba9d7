"""Planted edits: a map with known errors, and a reference with known edits, of true buildings."""

from __future__ import annotations

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

from geopipe.classes import load_scheme
from geopipe.raster.cog import SCORE_STEPS, write_class_cog, write_score_cog

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
    reference, origin, moved = edited(shapes, extra, rng)
    return Town(
        shapes,
        np.concatenate([shapes[seen], false]),
        np.r_[np.flatnonzero(seen), np.full(len(false), -1)],
        probability,
        reference,
        origin,
        moved,
        area,
    )


def edited(
    shapes: np.ndarray, extra: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What OSM has of true buildings (n,) and of `extra` (k,) that are not there.

    Returns (r,) shapes, shifted as OSM is; (r,) which of the true ones each is, -1 for `extra`;
    (r,) whether it was moved.
    """
    n = len(shapes)
    kept = rng.random(n) >= DELETED
    jumps = kept & (rng.random(n) < SHIFTED)
    angle, length = rng.uniform(0, 2 * np.pi, n), rng.uniform(3, 6, n)
    step = np.column_stack([np.cos(angle), np.sin(angle)]) * length[:, None]
    reference = shapes.copy()
    xy, owner = shapely.get_coordinates(reference, return_index=True)
    reference = shapely.set_coordinates(reference, xy + np.where(jumps[:, None], step, 0)[owner])
    return (
        warped(np.concatenate([reference[kept], extra])),
        np.r_[np.flatnonzero(kept), np.full(len(extra), -1)],
        np.r_[jumps[kept], np.zeros(len(extra), bool)],
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
