#!/usr/bin/env python
"""Make good building vectors as noisy as OpenStreetMap is in most places.

Buildings are shifted by a smooth field (the mark of maps traced over differently registered
images), slightly redrawn, partly left out, and some are on the map that never stood there. With
accurate buildings as input the noise is known, so what a training on noisy labels costs can be
measured. All lengths are metres on the ground; the same seed gives the same file.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry.base import BaseGeometry

Floats = NDArray[np.float64]
Rng = np.random.Generator

CREDIT = "(c) OpenStreetMap contributors, ODbL 1.0"
EPOCH = "2026-01-01T00:00:00.000Z"
ID_COLUMNS = ("osm_id", "osm_way_id", "osmid", "@id", "id")
TURN = 1.5
"""Degrees (standard deviation) by which a footprint is turned when it is traced."""
SIMPLIFIED = 0.6
TRIES = 400
"""Places tried for a phantom building: in a dense town few are free."""


@dataclass(frozen=True)
class Noise:
    """How noisy; metres on the ground, shares of the number of buildings that stand."""

    shift: tuple[float, float] = (1.0, 5.0)
    jitter: float = 0.5
    """Standard deviation east and north, for each building anew."""
    left_out: float = 0.20
    phantom: float = 0.05
    scale: float = 300.0
    """Wavelength, about, of the shift field and of the patches where more is left out."""
    seed: int = 0


@dataclass(frozen=True)
class Noisy:
    """A noisy map and what was done to it."""

    frame: gpd.GeoDataFrame
    """Kept buildings in their old order, then phantoms; columns and CRS of the input."""
    moves: Floats
    """(kept, 2) metres east and north from where each centroid was to where it is."""
    buildings: int
    phantoms: int


def waves(xy: Floats, length: float, rng: Rng) -> Floats:
    """A smooth random surface at (n, 2) places: mean 0, deviation 1, waves of about `length`."""
    bearing, phase = rng.uniform(0, 2 * np.pi, (2, 8))
    wave = 2 * np.pi / (length * rng.uniform(0.7, 1.5, 8))
    vectors = wave * np.array([np.cos(bearing), np.sin(bearing)])
    surface: Floats = np.cos(xy @ vectors + phase).sum(axis=1) / 2
    return surface


def shift_field(xy: Floats, noise: Noise, rng: Rng) -> Floats:
    """Shift (n, 2) in metres at (n, 2) places; its length stays within `noise.shift`."""
    low, high = noise.shift
    length = low + (high - low) * (1 + np.tanh(waves(xy, noise.scale, rng))) / 2
    turn = rng.uniform(0, 2 * np.pi) + 1.5 * waves(xy, noise.scale, rng)
    return np.column_stack([length * np.cos(turn), length * np.sin(turn)])


def left_out(xy: Floats, noise: Noise, rng: Rng) -> NDArray[np.bool_]:
    """Which buildings are not mapped: half because of where they are, half by chance."""
    score = waves(xy, noise.scale, rng) + rng.normal(0, 1, len(xy))
    out = np.zeros(len(xy), bool)
    out[np.argsort(-score, kind="stable")[: round(noise.left_out * len(xy))]] = True
    return out


def redrawn(shape: BaseGeometry, move: Floats, rng: Rng) -> BaseGeometry:
    """The footprint as a mapper would draw it: slightly turned, corners simplified, shifted."""
    turned = rotate(shape, rng.normal(0, TURN), origin="centroid")
    if shapely.get_num_coordinates(turned) > 5 and rng.random() < 0.2:
        turned = turned.minimum_rotated_rectangle
    simple = turned.simplify(SIMPLIFIED)
    drawn = simple if simple.is_valid and not simple.is_empty else turned
    return translate(drawn, *move)


def phantoms(shapes: NDArray[np.object_], count: int, rng: Rng) -> list[tuple[int, BaseGeometry]]:
    """`count` (fewer, where none fit) buildings where none stands: (index of its model, shape).

    Copies of others, turned, near a building and clear of all.
    """
    tree, centres = shapely.STRtree(shapes), shapely.get_coordinates(shapely.centroid(shapes))
    found: list[tuple[int, BaseGeometry]] = []
    for _ in range(count):
        for _ in range(TRIES):
            model, anchor = rng.integers(len(shapes), size=2)
            far, bearing, angle = rng.uniform((5, 0, 0), (60, 2 * np.pi, 360))
            place = centres[anchor] + far * np.array([np.cos(bearing), np.sin(bearing)])
            shape = translate(rotate(shapes[model], angle), *(place - centres[model]))
            if len(tree.query(shape, "intersects")) or any(shape.intersects(s) for _, s in found):
                continue
            found.append((int(model), shape))
            break
    return found


def add_noise(frame: gpd.GeoDataFrame, noise: Noise) -> Noisy:
    """A noisy copy of `frame`, whose rows are all buildings (polygons, any CRS)."""
    local = frame.estimate_utm_crs()
    shapes = np.asarray(frame.geometry.to_crs(local).array, object)
    centres = shapely.get_coordinates(shapely.centroid(shapes))
    # A stream for each kind of noise: a change of one leaves the others as they were.
    rngs = [np.random.default_rng([noise.seed, k]) for k in range(4)]
    shift = shift_field(centres, noise, rngs[0])
    drop = left_out(centres, noise, rngs[1])
    moves = shift + rngs[2].normal(0, noise.jitter, shift.shape)
    drawn = [redrawn(s, m, rngs[2]) for s, m in zip(shapes, moves, strict=True)]
    kept = np.flatnonzero(~drop)
    mapped = np.array([drawn[i] for i in kept], object)
    false = phantoms(shapes, round(noise.phantom * len(shapes)), rngs[3])
    rows = frame.iloc[[*kept, *(model for model, _ in false)]].reset_index(drop=True)
    for column in set(ID_COLUMNS) & set(rows.columns):
        rows[column] = rows[column].where(rows.index < len(kept))  # no feature of OSM
    shown = gpd.GeoSeries([*mapped, *(s for _, s in false)], crs=local).to_crs(frame.crs)
    after = shapely.get_coordinates(shapely.centroid(mapped))
    return Noisy(rows.set_geometry(shown), after - centres[kept], len(shapes), len(false))


def read_buildings(path: Path, layer: str | None) -> tuple[gpd.GeoDataFrame, int]:
    """The building polygons of `path`, and how many other features it has."""
    try:
        frame = pyogrio.read_dataframe(path, layer=layer, force_2d=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as e:
        raise SystemExit(f"cannot read {path}: {e}") from e
    if "building" not in frame.columns or "geometry" not in frame.columns:
        raise SystemExit(f"{path} has no column 'building' beside a geometry: {list(frame)}")
    if frame.crs is None:
        raise SystemExit(f"{path} has no CRS")
    polygon = frame.geom_type.isin(["Polygon", "MultiPolygon"]) & ~frame.geometry.is_empty
    wanted = frame["building"].notna() & (frame["building"] != "no") & polygon
    if not wanted.any():
        raise SystemExit(f"none of the {len(frame)} features of {path} is a building polygon")
    buildings = frame[wanted].reset_index(drop=True)
    buildings.geometry = buildings.geometry.make_valid()
    return buildings, int((~wanted).sum())


def write(noisy: Noisy, noise: Noise, out: Path) -> None:
    """Write the map with its credit; `out` is there whole or not at all, and without a clock."""
    frame = noisy.frame.drop(columns=["fid"], errors="ignore")  # GeoPackage numbers rows itself
    frame = frame.loc[:, ~pd.Index(frame.columns).str.casefold().duplicated()]
    part = out.with_name(f"{out.name}.part.gpkg")  # pyogrio wants the suffix
    part.unlink(missing_ok=True)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": EPOCH})
    try:
        pyogrio.write_dataframe(
            frame,
            part,
            layer="osm_noisy",
            driver="GPKG",
            dataset_options={"VERSION": "1.2"},
            layer_metadata={"CREDIT": CREDIT, "NOISE": str(noise)},
        )
        part.replace(out)
    except (pyogrio.errors.DataSourceError, OSError) as e:
        raise SystemExit(f"cannot write {out}: {e}") from e
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        part.unlink(missing_ok=True)


def summary(noisy: Noisy) -> str:
    """What was done, as measured between the two maps."""
    low, median, high = np.percentile(np.hypot(*noisy.moves.T), (5, 50, 95))
    east, north = noisy.moves.mean(axis=0)
    missing = noisy.buildings - len(noisy.moves)
    return (
        f"{noisy.buildings} buildings -> {len(noisy.frame)} on the noisy map\n"
        f"shift: {low:.1f} / {median:.1f} / {high:.1f} m (5 / 50 / 95 %), "
        f"on average {east:+.1f} m east, {north:+.1f} m north\n"
        f"left out: {missing} ({missing / noisy.buildings:.1%})\n"
        f"phantom: {noisy.phantoms} ({noisy.phantoms / noisy.buildings:.1%})\n"
    )


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    default = Noise()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("osm_in", type=Path, help="vectors with a column 'building'")
    parser.add_argument("out", type=Path, help="GeoPackage to write")
    parser.add_argument("--layer", help="of a file with several")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--shift", type=float, nargs=2, default=default.shift, metavar="M")
    parser.add_argument("--jitter", type=float, default=default.jitter, metavar="M")
    parser.add_argument("--scale", type=float, default=default.scale, metavar="M")
    parser.add_argument("--left-out", type=float, default=default.left_out, metavar="SHARE")
    parser.add_argument("--phantom", type=float, default=default.phantom, metavar="SHARE")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args(argv)
    if args.out.suffix.lower() != ".gpkg":
        parser.error(f"OUT must end in .gpkg, not {args.out.name}")
    if not 0 <= args.left_out < 1 or args.phantom < 0 or args.scale <= 0 or args.jitter < 0:
        parser.error("0 <= left-out < 1, phantom >= 0, jitter >= 0 and scale > 0 are wanted")
    if args.out.exists() and not args.overwrite:
        parser.error(f"{args.out} exists; --overwrite replaces it")
    noise = Noise(
        tuple(args.shift), args.jitter, args.left_out, args.phantom, args.scale, args.seed
    )
    buildings, others = read_buildings(args.osm_in, args.layer)
    noisy = add_noise(buildings, noise)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(noisy, noise, args.out)
    sys.stdout.write(summary(noisy))
    if others:
        sys.stdout.write(f"not buildings, not written: {others}\n")


if __name__ == "__main__":
    main()
