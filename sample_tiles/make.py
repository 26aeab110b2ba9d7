#!/usr/bin/env python
"""Make the simulated tiles of the Forez plain with their truth and their flawed map.

Nothing here was seen by a satellite: the country is drawn from fixed seeds, so the truth is
known by construction and reruns give the same files.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from pathlib import Path

import _osm
import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
from _base import PIXEL, Scene, TileSpec
from _layout import TILES, build
from _osm import osm_shift
from _render import render
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster
from rasterio.transform import from_origin

QUALITY = 87
EPOCH = "2026-01-01T00:00:00.000Z"

__all__ = [
    "TILES",
    "build",
    "main",
    "make",
    "osm_shift",
    "render",
    "write_tile",
    "write_vectors",
]


def write_tile(
    path: Path, spec: TileSpec, pixels: NDArray[np.uint8], valid: NDArray[np.uint8]
) -> None:
    """Write one tile as a JPEG COG with an internal mask."""
    profile = {
        "driver": "GTiff",
        "width": spec.pixels,
        "height": spec.pixels,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:2154",
        "photometric": "RGB",
        "transform": from_origin(spec.left, spec.top, PIXEL, PIXEL),
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**profile) as plain:
            plain.write(np.moveaxis(pixels, 2, 0))
            plain.write_mask(valid)
        with memory.open() as plain:
            copy_raster(
                plain,
                path,
                driver="COG",
                compress="JPEG",
                quality=QUALITY,
                blocksize=512,
                overview_quality=60,
                overview_resampling="average",
            )


def _write_layer(path: Path, layer: str, frame: gpd.GeoDataFrame) -> None:
    pyogrio.write_dataframe(frame, path, layer=layer, driver="GPKG", append=path.exists())


def _settle_time(path: Path) -> None:
    """Set the package's timestamps, the only thing in it that would differ between runs."""
    with sqlite3.connect(path) as base:
        base.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))
    base.close()


def write_vectors(out: Path, scenes: list[Scene]) -> None:
    """Write truth.gpkg and osm.gpkg over all scenes."""
    layers = {
        "truth.gpkg": {"truth": _osm.truth(scenes)},
        "osm.gpkg": {"buildings": _osm.buildings(scenes), "roads": _osm.roads(scenes)},
    }
    for name, frames in layers.items():
        path = out / name
        path.unlink(missing_ok=True)
        for layer, frame in frames.items():
            _write_layer(path, layer, frame)
        _settle_time(path)


def make(out: Path, only: str | None = None) -> None:
    """Make the tiles (or one of them) and the vectors of all into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s  {text}", file=sys.stderr)

    scenes = {name: build(spec) for name, spec in TILES.items()}
    say("laid out")
    write_vectors(out, list(scenes.values()))
    say("truth.gpkg and osm.gpkg")
    for name, scene in scenes.items():
        if only in (None, name):
            write_tile(out / f"{name}.tif", scene.spec, *render(scene))
            say(f"{name}.tif")


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent,
        help="folder to write to (default: beside this script)",
    )
    parser.add_argument("--only", choices=list(TILES), help="render this tile alone")
    args = parser.parse_args(argv)
    make(args.out, args.only)


if __name__ == "__main__":
    main()
