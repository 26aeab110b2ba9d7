"""Scenes to measure on: the simulated tile, mirrored on and on, with a sensor's noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window

from geopipe.checkpoint import Checkpoint
from geopipe.classes import load_scheme
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel

ROOT = Path(__file__).resolve().parent.parent
TILE = ROOT / "sample_tiles" / "train.tif"
TRAINED = ROOT / "outputs" / "forez" / "refined.safetensors"
NOISE = 4.0
"""Standard deviation of the noise, grey levels: deflate reaches 1.57, as on real imagery, where the
clean tile would reach 2.6 and decode faster than any real one."""
BLOCK = 512
GSD = 0.5


def make_scene(folder: Path, size: int, tile: Path = TILE) -> Path:
    """``scene-SIZE.tif`` in `folder`, `size` x `size` px, 3 bands uint8, written strip by strip.

    It is kept: a file that is there is not made again. `size` is a multiple of 8 px, so that every
    peer's windows lie on the nets' grid.
    """
    if size % 8 or size < BLOCK:
        raise ValueError(f"size={size} is not a multiple of 8 px from {BLOCK} on")
    path = folder / f"scene-{size}.tif"
    if path.exists():
        return path
    with rasterio.open(tile) as src:
        pixels = src.read()
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.tif")
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": len(pixels),
        "height": size,
        "width": size,
        "crs": "EPSG:2154",
        "transform": from_origin(789000, 6503000, GSD, GSD),
        "tiled": True,
        "compress": "deflate",
        "predictor": 2,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "num_threads": "all_cpus",
        "bigtiff": "if_safer",
    }
    with rasterio.open(part, "w", **profile) as out:
        for row in range(0, size, BLOCK):
            height = min(BLOCK, size - row)
            strip = noisy(mirrored(pixels, row, height, size), seed=row)
            out.write(strip, window=Window(0, row, size, height))
    part.rename(path)
    return path


def mirrored(tile: np.ndarray, row: int, height: int, width: int) -> np.ndarray:
    """(bands, height, width) from `row` on of the plane that mirrors `tile` at its sides."""
    rows, cols = (
        n - 1 - abs(np.arange(start, start + count) % (2 * n) - n + 0.5).astype(int)
        for start, count, n in ((row, height, tile.shape[1]), (0, width, tile.shape[2]))
    )
    return np.asarray(tile[:, rows[:, None], cols])


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    """`image` uint8 with Gaussian noise, each pixel its own."""
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.asarray(np.clip(np.rint(image + NOISE * noise), 0, 255), np.uint8)


def deflate_ratio(path: Path) -> float:
    """How many bytes of pixels one byte of the file stands for."""
    with rasterio.open(path) as src:
        return float(src.width * src.height * src.count / path.stat().st_size)


def choose_model(folder: Path, path: Path | None = None) -> tuple[Path, bool]:
    """A model and whether it is trained: `path`, ``make forez-map``'s, or an untrained one."""
    if path or TRAINED.is_file():
        return path or TRAINED, True
    return save_model(folder / "untrained.safetensors"), False


def save_model(path: Path) -> Path:
    """An untrained model: as slow as a trained one."""
    torch.manual_seed(0)
    net = SegmentationModel(MnihCNN(3, 3), RefinementRNN(3, 3)).eval()
    stats = (128.0,) * 3, (35.0,) * 3
    Checkpoint(net, load_scheme("buildings-roads"), *stats, "uint8").save(path)
    return path
