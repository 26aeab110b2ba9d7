"""Measure geopipe: start-up, mapping against the bare nets, memory against the scene's size.

`make bench` writes ``outputs/bench.json`` and prints a table. All figures of one run come from one
machine at one time, each the median of alternating repeats; only ratios travel between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window

import geopipe
from geopipe.checkpoint import Checkpoint
from geopipe.classes import load_scheme
from geopipe.nets import CoarseNet, MapNet, RefineNet

CORE = 1024
TILE = Path(__file__).parent.parent / "sample_tiles" / "train.tif"


def main() -> None:
    """Run every measurement and write the figures."""
    parser = argparse.ArgumentParser(description="measure geopipe")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench.json"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), args.sizes, args.repeats)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(figures, indent=2) + "\n")
    for key, value in figures.items():
        print(f"{key:28s} {value}")


def measure(folder: Path, sizes: list[int], repeats: int) -> dict[str, object]:
    """All figures, as plain values."""
    model = save_model(folder / "model.safetensors")
    scenes = {n: make_scene(folder / f"{n}.tif", n) for n in sizes}
    largest = max(sizes)
    wall: list[float] = []
    bare: list[float] = []
    for _ in range(repeats):  # alternating, so that a slow minute hits both
        wall.append(run_map(scenes[largest], model, folder)["seconds"])
        bare.append(timed(lambda: forward_all(model, largest)))
    memory = {n: run_map(path, model, folder)["peak_mb"] for n, path in scenes.items()}
    start_up = [
        timed(
            lambda: subprocess.run([geopipe_command(), "--help"], check=True, capture_output=True)
        )
        for _ in range(5)
    ]
    seconds, pure = statistics.median(wall), statistics.median(bare)
    return {
        "geopipe": geopipe.__version__,
        "torch": torch.__version__,
        "machine": f"{os.cpu_count()} processors, {platform.machine()}",
        "help_seconds": round(statistics.median(start_up), 3),
        "map_px": largest,
        "map_seconds": round(seconds, 2),
        "map_megapixels_per_second": round(largest**2 / 1e6 / seconds, 2),
        "bare_nets_seconds": round(pure, 2),
        "map_over_bare_nets": round(seconds / pure, 3),
        "peak_memory_mb": memory,
    }


def make_scene(path: Path, size: int) -> Path:
    """A scene of `size` x `size` pixels: the simulated training tile, repeated and mirrored."""
    with rasterio.open(TILE) as src:
        tile = src.read()
    n = tile.shape[-1]
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "height": size, "width": size,
        "crs": "EPSG:2154", "transform": from_origin(789000, 6503000, 0.5, 0.5), "tiled": True,
        "compress": "deflate", "blockxsize": 512, "blockysize": 512,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        for i, row in enumerate(range(0, size, n)):
            for j, col in enumerate(range(0, size, n)):
                part = tile[:, :: -1 if i % 2 else 1, :: -1 if j % 2 else 1]
                part = part[:, : size - row, : size - col]
                out.write(part, window=Window(col, row, part.shape[2], part.shape[1]))
    return path


def save_model(path: Path) -> Path:
    """An untrained model: as slow as a trained one."""
    torch.manual_seed(0)
    net = MapNet(CoarseNet(3, 3), RefineNet(3, 3)).eval()
    stats = (128.0,) * 3, (35.0,) * 3
    Checkpoint(net, load_scheme("buildings-roads"), *stats, "uint8").save(path)
    return path


def run_map(scene: Path, model: Path, folder: Path) -> dict[str, float]:
    """`geopipe map` in a process of its own: seconds as it reports them and peak memory."""
    command = [geopipe_command(), "map", str(scene), str(model), str(folder / "map"), "--overwrite"]
    watched = [sys.executable, "-c", _WATCH, *command, "--json"]
    done = subprocess.run(watched, check=True, capture_output=True, text=True)
    printed, peak = done.stdout.strip().splitlines()[-2:]
    return {"seconds": json.loads(printed)["seconds"], "peak_mb": round(int(peak) / 1024)}


_WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def forward_all(model: Path, size: int) -> None:
    """The limit: the nets alone on tensors that are there, as many as the map needs."""
    net = Checkpoint.load(model).net
    side = CORE // 2 + 4 + 2 * net.halo
    image = torch.from_numpy(np.zeros((1, 3, side, side), np.float32))
    with torch.inference_mode():
        for _ in range((size // CORE) ** 2):
            net(image)


def geopipe_command() -> str:
    """The installed command beside this Python."""
    return str(Path(sys.executable).with_name("geopipe"))


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
