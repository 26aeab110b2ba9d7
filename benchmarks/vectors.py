"""Time and memory of vectorizing: ``features.gpkg`` of maps of 4,000, 10,000 and 20,000 px a side.

    python -m benchmarks.vectors [--sizes 4000 10000 20000]
    python -m benchmarks.vectors --squares 1000000

The true classes of the simulated training tile, mirrored on and on, so that one road net spans the
whole map; their scores are the classes, blurred. Every size is measured in a process of its own,
on one thread. Writes ``docs/results/bench/vectors.{json,md}``. ``--squares`` only prints what a map
of so many buildings of 4 x 3.5 m takes, without scores.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from benchmarks.machine import cpu_model
from geopipe.classes import ClassScheme, load_scheme
from geopipe.labels import open_labels
from geopipe.raster import Scene
from geopipe.raster.cog import SCORE_STEPS
from geopipe.vectors.features import write_features
from reproduce.facts import facts

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_tiles"
RESULTS = ROOT / "docs/results/bench/vectors"
SIZES = (4000, 10_000, 20_000)
STRIP = 512
BLUR_PX = 1.5
MAP_MPX_S = {"AVX2": 1.0, "AVX-512": 6.5}
"""Megapixels a second of `geopipe map` on two cores, by the processor's instructions: bench.md."""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="time and memory of vectorizing")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="where maps are made and kept")
    parser.add_argument("--squares", type=int, help="buildings of a map of these alone")
    args = parser.parse_args()
    if args.squares:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(in_own_process(squares(Path(folder), args.squares))))
        return
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        work = args.folder or Path(temporary)
        scheme = load_scheme("buildings-roads")
        tile = tile_of(scheme)
        runs = [measured(size, work, tile) for size in args.sizes]
    load = [round(n, 1) for n in (before, os.getloadavg()[0])]
    figures = {
        **facts("python -m benchmarks.vectors"),
        "processor": cpu_model(),
        "load": load,
        "runs": runs,
    }
    args.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(page(figures), encoding="utf-8")


def tile_of(scheme: ClassScheme) -> tuple[np.ndarray, np.ndarray, Affine]:
    """Class ids (h, w) of the training tile, scores (classes, h, w), and where it lies."""
    box = Scene.open(SAMPLES / "train.tif").geobox
    ids = np.asarray(open_labels(SAMPLES / "truth.gpkg", scheme, box).read(box))
    blurred = np.stack(
        [gaussian_filter((ids == i).astype(np.float32), BLUR_PX) for i in range(len(scheme))]
    )
    return ids, np.rint(blurred * SCORE_STEPS).astype(np.uint8), box.affine


def mirrored(folder: Path, size: int, tile: tuple[np.ndarray, np.ndarray, Affine]) -> Path:
    """``classes.tif`` and ``scores.tif`` of `size` x `size` px in `folder`; returns the former."""
    ids, scores, affine = tile
    period = 2 * len(ids)
    fold = np.array([min(i % period, period - 1 - i % period) for i in range(size)])
    folder.mkdir(parents=True, exist_ok=True)
    scheme = load_scheme("buildings-roads")
    for name, bands in (("scores", scores), ("classes", ids[None])):
        path = folder / f"{name}.tif"
        if path.exists():
            continue
        part = path.with_suffix(".part.tif")
        with rasterio.open(
            part,
            "w",
            driver="GTiff",
            count=len(bands),
            dtype="uint8",
            nodata=255,
            height=size,
            width=size,
            crs="EPSG:2154",
            transform=affine,
            tiled=True,
            blockxsize=STRIP,
            blockysize=STRIP,
            compress="lzw",
            interleave="band",
        ) as out:
            if name == "scores":
                out.descriptions = scheme.names
            for row in range(0, size, STRIP):
                strip = bands[:, fold[row : row + STRIP]][:, :, fold]
                out.write(strip, window=Window(0, row, size, strip.shape[1]))
        part.replace(path)
    return folder / "classes.tif"


def measured(size: int, work: Path, tile: tuple[np.ndarray, np.ndarray, Affine]) -> dict[str, Any]:
    """Seconds and peak memory of one size, in a process of its own."""
    return {"size": size} | in_own_process(mirrored(work / str(size), size, tile))


def squares(folder: Path, count: int) -> Path:
    """``classes.tif`` in `folder` with at least `count` buildings of 8 x 7 px, 4 px apart."""
    block = np.zeros((12, 12), np.uint8)
    block[2:10, 2:9] = 1
    side = math.ceil(math.sqrt(count))
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "compress": "lzw"}
    place = {"crs": "EPSG:2154", "transform": Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)}
    row = np.tile(block, (1, side))[None]
    size = {"height": 12 * side, "width": 12 * side}
    with rasterio.open(folder / "classes.tif", "w", **profile, **place, **size, tiled=True) as out:
        for k in range(side):
            out.write(row, window=Window(0, 12 * k, 12 * side, 12))
    return folder / "classes.tif"


def in_own_process(class_map: Path) -> dict[str, Any]:
    """Seconds and peak memory of vectorizing a map."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(_written, (class_map,)))


def _written(class_map: Path) -> dict[str, Any]:
    before = _peak_mb()
    wall, start = time.perf_counter(), time.process_time()
    scheme = load_scheme("buildings-roads")
    features = write_features(class_map, class_map.parent, scheme, name="mirrored")
    return {
        "seconds": round(time.process_time() - start, 1),
        "wall": round(time.perf_counter() - wall, 1),
        "peak_mb": _peak_mb(),
        "before_mb": before,
        "buildings": features.counts["buildings"],
        "roads": features.counts["roads"],
        "road_km": round(features.road_km, 1),
        "file_mb": round(sum(p.stat().st_size for p in features.files.values()) / 1e6, 1),
    }


def _peak_mb() -> int:
    """Peak resident memory of this process, Linux."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def page(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    runs = figures["runs"]
    smallest, largest = runs[0], runs[-1]
    growth = largest["peak_mb"] / smallest["peak_mb"] - 1
    lines = [
        "# Time and memory of vectorizing",
        "",
        f"`{figures['command']}`, {figures['processor']}, {figures['machine']}; "
        f"{figures['software']}. Load average {figures['load'][0]} to {figures['load'][1]}.",
        "",
        "`features.gpkg` and `features.parquet` of the true classes of the simulated training "
        "tile, mirrored on and on, with scores: one road net spans the whole map. Processor "
        "seconds of one thread; peak resident memory of a process of its own, "
        f"{smallest['before_mb']} MB of which are libraries. Share of the map's time: processor "
        "seconds over those that a map of so many pixels takes on two cores, at "
        + " and ".join(f"{rate:g} Mpx/s ({name})" for name, rate in MAP_MPX_S.items())
        + ".",
        "",
        "| map, px | buildings | roads, km | seconds | Mpx/s | "
        + " | ".join(f"share of the map's time, {name}" for name in MAP_MPX_S)
        + " | peak memory, MB | files, MB |",
        "|---:|---:|---:|---:|---:|" + "---:|" * len(MAP_MPX_S) + "---:|---:|",
    ]
    for run in runs:
        mpx = run["size"] ** 2 / 1e6
        shares = [run["seconds"] * rate / mpx for rate in MAP_MPX_S.values()]
        lines.append(
            f"| {run['size']:,} | {run['buildings']:,} | {run['road_km']:,.0f} "
            f"| {run['seconds']:.0f} | {mpx / run['seconds']:.1f} | "
            + " | ".join(f"{100 * share:.0f} %" for share in shares)
            + f" | {run['peak_mb']} | {run['file_mb']:g} |"
        )
    lines += [
        "",
        f"From {smallest['size']:,} to {largest['size']:,} px the peak grows by "
        f"{100 * growth:.0f} %: by GDAL's block cache up to its 64 MB and 16 bytes a pixel of "
        "centre-line. Time follows the number of buildings, "
        f"{1000 * largest['seconds'] / largest['buildings']:.0f} ms each with the roads beside "
        "them, not the pixels.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
