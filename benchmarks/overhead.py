"""A simulated scene of a million tiles, and what its map takes besides scheduling.

Journal, areas and mosaic are geopipe's own; only the pixels are missing.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geopipe.checkpoint import ModelFile
from geopipe.grid import Tile, Tiling, ground_gsd
from geopipe.mapping.journal import NAME, Journal
from geopipe.mapping.tile import TileJob, TileResult
from geopipe.mapping.tile_store import tile_path, write_mosaic, write_tile
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox

CORE = 1024
SIDE = 1000
"""Tiles a side of the simulated scene."""
INPUTS = {"geopipe": "benchmark"}
"""Head of its journal."""


def tiling(side: int = SIDE) -> Tiling:
    """`side` x `side` tiles."""
    return Tiling((side * CORE, side * CORE), CORE)


def plane(side: int = SIDE) -> GeoBox:
    """The plane that `tiling` cuts: 0.5 m in Lambert-93."""
    affine = Affine(0.5, 0, 100_000, 0, -0.5, 7_150_000)
    return GeoBox((side * CORE, side * CORE), affine, "EPSG:2154")


@dataclass(frozen=True, slots=True)
class Idle:
    """Does nothing; as large to send as a TileJob, and so is what it returns."""

    job: TileJob

    @classmethod
    def make(cls) -> Idle:
        """With paths of a usual length."""
        scene = Scene("/shared/scenes/scene.tif", plane(), (1, 2, 3), "uint8")
        folder = "/shared/maps/scene.part/tiles"
        model = ModelFile(Path("/shared/m.safetensors"), "0" * 64)
        return cls(TileJob(scene, model, "cpu", (5,), False, folder))

    def __call__(self, tile: Tile) -> TileResult:
        return TileResult((tile.core.height * tile.core.width, 0, 0), tile.index)


@dataclass(frozen=True, slots=True)
class Several:
    """`job` over several tiles in one task."""

    job: Idle

    def __call__(self, tiles: tuple[Tile, ...]) -> list[TileResult]:
        return [self.job(tile) for tile in tiles]


def first(count: int) -> Iterator[Tile]:
    """The first `count` tiles of the simulated scene."""
    return islice(tiling(), count)


def resume(lines: int) -> dict[str, Any]:
    """Write a journal of `lines` tiles, then go on from it.

    The tile files hold nothing but have the sizes that the journal tells; their folders are in the
    system's cache, as they would not be on a network disk.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, job = Path(name), Idle.make()
        journal, start = Journal(folder, INPUTS, lines, classes=3), time.perf_counter()
        for tile in first(lines):
            journal.add(tile.index, job(tile))
        writing = time.perf_counter() - start
        journal.close()
        for tile in first(lines):
            path = tile_path(journal.tiles, tile.index)
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.truncate(tile.index)
        before, start = _rss_mb(), time.perf_counter()
        journal = Journal(folder, INPUTS, lines, classes=3)
        count = sum(1 for _ in journal.recorded())
        seconds, grown = time.perf_counter() - start, _rss_mb() - before
        journal.close()
        size = (folder / NAME).stat().st_size
    if count != lines:
        raise ValueError(f"{count} of {lines} tiles were found again")
    return {
        "lines": lines,
        "journal_mb": round(size / 1e6, 1),
        "us_per_line_written": round(1e6 * writing / lines, 1),
        "resume_seconds": round(seconds, 2),
        "rss_growth_mb": round(grown, 1),
    }


def areas(count: int) -> dict[str, Any]:
    """Size on the ground of `count` tiles: the client finds it for each, also when it resumes."""
    box, tiles, start = plane(), list(first(count)), time.process_time()
    for tile in tiles:
        ground_gsd(window_geobox(box, tile.core))
    return {"tiles": count, "cpu_us_per_tile": round(1e6 * (time.process_time() - start) / count)}


def mosaic(side: int, reads: int = 40) -> dict[str, Any]:
    """The VRT of `side` x `side` tiles, which the client writes and reads when all are done."""
    with tempfile.TemporaryDirectory() as name:
        path, folder, tiles = Path(name) / "classes.vrt", Path(name) / "tiles", tiling(side)
        before, start = _peak_mb(), time.process_time()
        write_mosaic(path, plane(side), tiles, folder, range(1))
        writing, written = time.process_time() - start, _peak_mb() - before
        sampled = [tiles[int(i)] for i in np.random.default_rng(0).choice(len(tiles), reads)]
        folder.mkdir()
        for tile in sampled:
            pixels = np.zeros((1, CORE, CORE), np.uint8)
            box = window_geobox(plane(side), tile.core)
            write_tile(tile_path(folder, tile.index), pixels, box)
        before, start = _rss_mb(), time.process_time()
        with rasterio.open(path) as src:
            opening, opened = time.process_time() - start, _rss_mb() - before
            start = time.process_time()
            for tile in sampled:
                src.read(1, window=Window(tile.core.col, tile.core.row, 512, 512))
            reading = time.process_time() - start
        size = path.stat().st_size
    return {
        "tiles": side * side,
        "vrt_mb": round(size / 1e6, 1),
        "write_cpu_seconds": round(writing, 2),
        "write_peak_mb": round(written),
        "open_cpu_seconds": round(opening, 2),
        "open_rss_mb": round(opened),
        "cpu_ms_per_block_of_512": round(1e3 * reading / reads, 2),
    }


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss / 1e6)


def _peak_mb() -> float:
    """The most that this process has had so far (Linux tells it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
